"""What a large data set costs between decoding and training: reading its manifest, tying, and splitting."""

from __future__ import annotations

import hashlib
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from medsharp.data.benchmark.duplicates import planted_hashes
from medsharp.data.benchmark.section import Section
from medsharp.data.duplicates import Look, apply_matches, duplicate_matches, write_looks
from medsharp.data.duplicates.look import THUMBNAIL_SIDE
from medsharp.data.manifest import DatasetInfo, Manifest, complete, read_manifest
from medsharp.data.split import split_manifest
from medsharp.progress import Progress

_THUMBNAILS = 64
_WHOLE = 300_000
"""Up to so many images their files are made and listed, and what is seen of them is tied."""


def measure_manifests(sizes: Sequence[int], *, seed: int = 0, progress: Progress | None = None) -> Section:
    """Write and read manifests of many rows, tie what was seen of their images, and split them.

    Images are empty files, up to 300,000 of them; what is seen of them is made up, with hashes as `planted_hashes`
    makes them. Patients have one to five images and are at one of seven sites; three of ten are malignant.

    Args:
        sizes: Numbers of images.
        seed: Of what is made up.
        progress: Called with sizes done, sizes in all and what is being done.
    """
    rows = []
    for done, count in enumerate(sizes):
        if progress is not None:
            progress(done, len(sizes), "reading, tying and splitting")
        rng = np.random.default_rng([seed, count])
        table = _table(count, rng)
        reading = _read(table) if count <= _WHOLE else None
        manifest = Manifest(complete(table), DatasetInfo("made", ("benign", "malignant")), Path())
        tying = _tie(manifest, rng) if count <= _WHOLE else None
        start = time.perf_counter()
        split = split_manifest(manifest, seed=seed)
        splitting = time.perf_counter() - start
        test = split.of_split("test")
        rows.append(
            (
                f"{count:,}",
                "-" if reading is None else f"{reading:.1f}",
                "-" if tying is None else f"{tying:.1f}",
                f"{splitting:.1f}",
                f"{1e6 * splitting / count:.0f}",
                f"{len(test) / count:.2%}",
                f"{(test['label'] == 'malignant').mean():.1%}",
            )
        )
    if progress is not None:
        progress(len(sizes), len(sizes), "reading, tying and splitting")
    return Section(
        "manifests",
        "Manifests: read, tied without decoding, and split 70, 15, 15 %",
        ("images", "read, s", "tie, s", "split, s", "us an image", "test", "malignant in test"),
        tuple(rows),
        ("decoding is not in it: it is done once, and counted with the pipeline", "30 % of patients are malignant"),
    )


def _table(count: int, rng: np.random.Generator) -> pd.DataFrame:
    patients = np.repeat(np.arange(count), rng.integers(1, 6, count))[:count]
    malignant = rng.random(count) < 0.3
    return pd.DataFrame(
        {
            "image": [f"{number // 10_000:04d}/{number:07d}.png" for number in range(count)],
            "label": np.where(malignant[patients], "malignant", "benign"),
            "patient": [f"P{patient}" for patient in patients.tolist()],
            "site": [f"Site {patient % 7}" for patient in patients.tolist()],
        }
    )


def _read(table: pd.DataFrame) -> float:
    with tempfile.TemporaryDirectory(prefix="medsharp-bench-") as name:
        folder = Path(name)
        for inside in sorted({image.split("/")[0] for image in table["image"]}):
            (folder / inside).mkdir()
        for image in table["image"]:
            (folder / image).touch()
        table.to_csv(folder / "manifest.csv", index=False)
        start = time.perf_counter()
        read_manifest(folder / "manifest.csv")
        return time.perf_counter() - start


def _tie(manifest: Manifest, rng: np.random.Generator) -> float:
    count = len(manifest.table)
    hashes = planted_hashes(count, rng)
    pictures = rng.integers(0, 255, (_THUMBNAILS, THUMBNAIL_SIDE, THUMBNAIL_SIDE), dtype=np.uint8)
    looks = [
        Look(
            hashlib.sha256(number.to_bytes(8, "big")).hexdigest(),
            "",
            (640, 480),
            (),
            number.to_bytes(16, "big"),
            hashes.bits[number],
            pictures[number % _THUMBNAILS],
        )
        for number in range(count)
    ]
    start = time.perf_counter()
    table, rows = manifest.table.copy(), list(range(count))
    write_looks(table, rows, looks)
    apply_matches(table, rows, duplicate_matches(looks))
    return time.perf_counter() - start
