"""What `medsharp score --stream` takes of time, memory and disk for a made table of any size."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from medsharp.errors import InputError
from medsharp.evaluation.benchmark import Timing
from medsharp.progress import Progress

PART = 2**20
"""Rows of a file."""

_GROUP = 2**17
_SITES = 12


def write_table(folder: Path, images: int, patients: int, seed: int = 0, progress: Progress | None = None) -> None:
    """Write predictions as a folder of Parquet files, as `medsharp predict --out NAME.parquet` does.

    The images of a patient lie anywhere in the table. A patient keeps to one site and, but for one image in 25, to one
    label; scores are tied to four digits, and too high.

    Args:
        folder: New.
        images: How many rows.
        patients: Of as many, drawn at random for each row.
        seed: Of all.
        progress: Called with rows written.
    """
    import pyarrow
    from pyarrow import parquet

    folder.mkdir()
    about = np.random.default_rng([seed, 0])
    ill, severity = about.random(patients) < 0.3, about.normal(size=patients).astype(np.float32)
    kinds = pyarrow.schema(
        [(name, pyarrow.string()) for name in ("image", "patient", "site", "label")]
        + [(name, pyarrow.float64()) for name in ("p_benign", "p_malignant")]
        + [("status", pyarrow.string()), ("threshold", pyarrow.float64())]
    )
    for number, first in enumerate(range(0, images, PART)):
        rows = min(PART, images - first)
        rng = np.random.default_rng([seed, 1, number])
        who = rng.integers(patients, size=rows)
        labels = ill[who] ^ (rng.random(rows) < 0.04)
        odds = 2 * labels - 1 + severity[who] + 0.5 * rng.normal(size=rows)
        scores = np.round(1 / (1 + np.exp(-odds)), 4)
        fate = np.where(rng.random(rows) < 0.02, "cautioned", "answered")
        columns = [
            np.char.add("image-", np.arange(first, first + rows).astype("U")),
            np.char.add("patient-", who.astype("U")),
            np.char.add("hospital-", (who % _SITES).astype("U")),
            np.where(labels, "malignant", "benign"),
            np.round(1 - scores, 4),
            scores,
            fate,
            np.full(rows, 0.3),
        ]
        table = pyarrow.table([pyarrow.array(column) for column in columns], schema=kinds)
        parquet.write_table(table, folder / f"part-{number:05d}.parquet", row_group_size=_GROUP)
        if progress is not None:
            progress(first + rows, images, "writing the table")


def measure_streamed(
    *, images: int, patients: int, folder: Path | None = None, resamples: int = 2000, seed: int = 0,
    progress: Progress | None = None,
) -> list[Timing]:  # fmt: skip
    """Make a table, and score it in a process of its own.

    Args:
        images: How many rows.
        patients: Of as many.
        folder: On whose disk all is; the system's for temporary files by default. Nothing is left there.
        resamples: Of the bootstrap.
        seed: Of all.
        progress: Called with rows written.

    Raises:
        InputError: The folder is not there.
    """
    if folder is not None and not folder.is_dir():
        raise InputError(f"{folder} is not a folder")
    with tempfile.TemporaryDirectory(dir=folder) as place:
        table, out = Path(place) / "predictions.parquet", Path(place) / "out"
        begun = time.perf_counter()
        write_table(table, images, patients, seed, progress)
        written = time.perf_counter() - begun
        size = sum(path.stat().st_size for path in table.iterdir())
        command = [sys.executable, "-c", "from medsharp.cli import main; main()", "score", str(table), "--stream"]
        command += ["--out", str(out), "--resamples", str(resamples), "--seed", str(seed)]
        before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        seconds, after = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
        cores = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        memory = after.ru_maxrss / 2**20
        found: dict[str, Any] = json.loads((out / "evaluation.json").read_text(encoding="utf-8"))["datasets"][0]
    disk = found["streamed"]["temporary_bytes"]
    what = f"{images:,} images of {patients:,} patients, {resamples:,} resamples"
    return [
        Timing(f"writing the table of {images:,} images", written, f"{size / 2**30:.2f} GiB of Parquet"),
        Timing(
            f"medsharp score --stream: {what}", seconds,
            f"{cores:.0f} s of cores, {memory:.2f} GiB of memory at most, {disk / 2**30:.2f} GiB of temporary disk",
        ),
    ]  # fmt: skip
