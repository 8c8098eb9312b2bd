from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from medsharp.config import TrainConfig, validate_config
from medsharp.data.manifest import DatasetInfo, Manifest, make_table, write_manifest

SIDE = 32
COUNTS = {"train": 16, "val": 8, "test": 6}


# Of the module, so that what its fixtures train and what its tests train again is summed in one order.
@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Sums in a fixed order; tiny networks gain nothing from a second thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def make_manifest(folder: Path, counts: dict[str, int] | None = None) -> Manifest:
    """Noise with a bright square (malignant) or a dark one (benign), and masks of half of the images."""
    rng = np.random.default_rng(0)
    rows = []
    for split, count in (counts or COUNTS).items():
        for number in range(count):
            malignant = number % 2 == 1
            top, left = rng.integers(4, SIDE - 16, size=2)
            pixels = rng.integers(90, 160, size=(SIDE, SIDE))
            pixels[top : top + 12, left : left + 12] = 230 if malignant else 20
            name = f"{split}-{number}.png"
            Image.fromarray(pixels.astype(np.uint8)).save(folder / name)
            mask = ""
            if number % 4 < 2:
                mask = f"{split}-{number}-mask.png"
                area = np.zeros((SIDE, SIDE), np.uint8)
                area[top : top + 12, left : left + 12] = 255
                Image.fromarray(area).save(folder / mask)
            label = "malignant" if malignant else "benign"
            rows.append({"image": name, "label": label, "mask": mask, "split": split, "patient": f"{split}{number}"})
    manifest = Manifest(make_table(rows), DatasetInfo("squares", ("benign", "malignant")), folder)
    write_manifest(manifest, folder)
    return manifest


@pytest.fixture(scope="session")
def squares(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """A split data set that is easy to learn."""
    return make_manifest(tmp_path_factory.mktemp("squares"))


@pytest.fixture(scope="session")
def many_squares(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """Enough of the same for a figure to mean something: batch-norm averages settle, 24 images rank."""
    return make_manifest(tmp_path_factory.mktemp("many_squares"), {"train": 48, "val": 24, "test": 6})


def merge(values: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    merged = dict(values)
    for key, value in changes.items():
        merged[key] = merge(merged.get(key, {}), value) if isinstance(value, dict) else value
    return merged


@pytest.fixture
def configure() -> Callable[..., TrainConfig]:
    """Make a small configuration; keywords are sections to change."""

    def build(**sections: Any) -> TrainConfig:
        values = {
            "data": {"image_size": SIDE, "crop": "none", "augmentation": "light", "cache": "memory"},
            "network": {"name": "resnet10_w16"},
            "optimizer": {"name": "wsam", "lr": 2e-3},
            "schedule": {"epochs": 3, "warmup_epochs": 1, "batch_size": 6},
            "run": {"device": "cpu", "precision": "fp32"},  # the same on every CPU
        }
        return validate_config(merge(values, sections))

    return build
