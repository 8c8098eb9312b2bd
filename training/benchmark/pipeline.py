"""What feeding a network costs: the first start, the second, batches of each recipe, and how long a trainer waits."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from medsharp.config import validate_config
from medsharp.data.benchmark import Section
from medsharp.data.manifest import DatasetInfo, Manifest, make_table
from medsharp.data.pipeline import ImageDataset, make_dataset, make_loader
from medsharp.preprocess import PreprocessSpec
from medsharp.progress import Progress, rate_text
from medsharp.recipes import RECIPES
from training.benchmark.spread import Spread
from training.loop import train

MADE_SIZE = (420, 560)
"""Height and width of made images, those of a usual ultrasound image."""

_SPLIT_EIGHTHS = ("train",) * 6 + ("val", "test")


@dataclass(frozen=True)
class PipelineSettings:
    """What is measured.

    Attributes:
        image_size: Side of the network's input.
        batch_size: Images a batch.
        workers: Processes that prepare batches; 0: the trainer's own.
        network: That waits for data.
        made: Images that are made up where there is no data set.
        waiting: Images that the trainer is given.
        rounds: How often each rate is measured.
        seed: Of made images and of the augmentation.
    """

    image_size: int = 224
    batch_size: int = 32
    workers: int = 0
    network: str = "resnet18"
    made: int = 512
    waiting: int = 256
    rounds: int = 5
    seed: int = 0


def measure_pipeline(
    settings: PipelineSettings, manifest: Manifest | None = None, progress: Progress | None = None
) -> list[Section]:
    """Measure the way from files to batches.

    Args:
        settings: What to measure.
        manifest: Whose images are read; images are made up without it. Its own split does not matter.
        progress: Called with things done, things in all and what is being done.
    """
    report = progress or (lambda done, total, what: None)
    with tempfile.TemporaryDirectory(prefix="medsharp-bench-") as temporary, _cache_in(temporary):
        if manifest is None:
            manifest = made_images(Path(temporary) / "images", settings.made, settings.seed)
        manifest = _two_classes(manifest)
        spec = PreprocessSpec(settings.image_size)
        starts, dataset = _starts(manifest, spec, report)
        return [starts, _batches(dataset, manifest, spec, settings, report), _waiting(manifest, settings, report)]


def made_images(folder: Path, count: int, seed: int = 0) -> Manifest:
    """Write PNG images of speckle on smooth structure, as large and as hard to compress as ultrasound images."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(count):
        coarse = Image.fromarray(rng.integers(20, 160, (14, 18), dtype=np.uint8))
        smooth = np.asarray(coarse.resize(MADE_SIZE[::-1], Image.Resampling.BICUBIC), dtype=np.float32)
        image = np.clip(smooth * rng.rayleigh(0.8, MADE_SIZE), 0, 255).astype(np.uint8)
        Image.fromarray(image).save(folder / f"{number}.png", compress_level=1)
        rows.append({"image": f"{number}.png", "label": "malignant" if number % 3 == 0 else "benign"})
    return Manifest(make_table(rows), DatasetInfo("made images", ("benign", "malignant")), folder)


def _starts(manifest: Manifest, spec: PreprocessSpec, report: Progress) -> tuple[Section, ImageDataset]:
    rows = []
    count = len(manifest.table)
    dataset = None
    for number, name in enumerate(("first", "second")):
        report(number, 2, "starting")
        decoded = 0

        def count_decoded(done: int, total: int, what: str) -> None:
            nonlocal decoded
            decoded = done

        begun = time.perf_counter()
        dataset = _dataset(manifest, spec, "none", count_decoded)
        seconds = time.perf_counter() - begun
        rows.append((name, f"{count}", f"{decoded}", f"{seconds:.2f}", rate_text(count / seconds)))
    assert dataset is not None
    columns = ("start", "images", "decoded", "seconds", "images/s")
    notes = ("a start hashes every file, decodes what the cache lacks, and checks what it has",)
    return Section("starts", f"From files to pixels of {spec.size} x {spec.size}", columns, tuple(rows), notes), dataset


def _batches(
    dataset: ImageDataset, manifest: Manifest, spec: PreprocessSpec, settings: PipelineSettings, report: Progress
) -> Section:
    rows = []
    for number, name in enumerate(RECIPES):
        report(number, len(RECIPES), "preparing batches")
        dataset = _dataset(manifest, spec, name)
        loader = make_loader(
            dataset, batch_size=settings.batch_size, shuffle=True, seed=settings.seed, workers=settings.workers
        )
        rates = []
        for epoch in range(settings.rounds + 1):
            dataset.set_epoch(epoch)
            begun = time.perf_counter()
            seen = sum(len(batch["label"]) for batch in loader)
            rates.append(seen / (time.perf_counter() - begun))
        spread = Spread.of(rates[1:])  # the first maps pages and starts workers
        rows.append((name, rate_text(spread.median), f"{rate_text(spread.low)}-{rate_text(spread.high)}"))
    where = f"{settings.workers} workers" if settings.workers else "the trainer's own process"
    return Section(
        "batches",
        f"From the cache to batches of {settings.batch_size}, in {where}",
        ("augmentation", "images/s", "quartiles"),
        tuple(rows),
        (f"median of {settings.rounds} epochs",),
    )


def _waiting(manifest: Manifest, settings: PipelineSettings, report: Progress) -> Section:
    """Train for two epochs and read what the trainer recorded of the second."""
    rows = []
    # Classes alternate, so that few images have both in every split.
    table = manifest.table
    order = table.groupby("label").cumcount().sort_values(kind="stable").index
    table = table.loc[order].head(settings.waiting).reset_index(drop=True)
    table["split"] = [_SPLIT_EIGHTHS[number // 2 % 8] for number in range(len(table))]
    few = manifest.replace(table=table.assign(group="", patient=""))
    recipes = ("none", "standard", "ultrasound")
    for number, name in enumerate(recipes):
        report(number, len(recipes), "training")
        values = {
            "data": {"classes": ["benign", "malignant"], "image_size": settings.image_size, "augmentation": name},
            "network": {"name": settings.network},
            "optimizer": {"name": "adamw"},
            "schedule": {"epochs": 2, "warmup_epochs": 0, "batch_size": settings.batch_size},
            "run": {"workers": settings.workers},
        }
        with tempfile.TemporaryDirectory(prefix="medsharp-bench-") as folder:
            record = train(validate_config(values), few, out=Path(folder) / "run").metrics()[-1]
        rate = rate_text(record["images_per_second"])
        rows.append((name, rate, f"{record['wait_seconds']:.2f}", f"{100 * record['wait_share']:.1f}"))
    return Section(
        "waiting",
        f"{settings.network} in training, adamw, batch {settings.batch_size}, {settings.image_size} pixels",
        ("augmentation", "images/s", "waited, s", "waited, %"),
        tuple(rows),
        ("wait_seconds and wait_share of metrics.jsonl, second epoch; the share is of the time in training steps",),
    )


def _dataset(manifest: Manifest, spec: PreprocessSpec, recipe: str, progress: Progress | None = None) -> ImageDataset:
    return make_dataset(
        manifest.table,
        manifest,
        spec=spec,
        classes=("benign", "malignant"),
        augmentation=recipe,
        cache="disk",
        progress=progress,
    )


def _two_classes(manifest: Manifest) -> Manifest:
    table = manifest.included
    return manifest.replace(table=table[table["label"].isin(("benign", "malignant"))])


@contextmanager
def _cache_in(folder: str) -> Iterator[None]:
    """Keep the measurement out of the user's cache: a first start would find everything there."""
    before = os.environ.get("XDG_CACHE_HOME")
    os.environ["XDG_CACHE_HOME"] = str(Path(folder) / "cache")
    try:
        yield
    finally:
        if before is None:
            del os.environ["XDG_CACHE_HOME"]
        else:
            os.environ["XDG_CACHE_HOME"] = before
