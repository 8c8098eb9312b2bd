"""Two small hospitals of squares, and a study of two optimizers on a tiny network."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from medsharp.data.manifest import DatasetInfo, Manifest, make_table, write_manifest
from training.study import StudyDefinition
from training.study.definition import merged, validate_study

SIDE = 32


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Sums in a fixed order."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def make_hospital(folder: Path, name: str, count: int, seed: int) -> Path:
    """Noise with a bright square (malignant) or a dark one (benign); an image a patient."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    rows = []
    for number in range(count):
        malignant = number % 3 == 1
        top, left = rng.integers(2, SIDE - 14, size=2)
        pixels = rng.integers(60, 190, size=(SIDE, SIDE))
        pixels[top : top + 12, left : left + 12] += 45 if malignant else -45
        file = f"{number}.png"
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / file)
        label = "malignant" if malignant else "benign"
        rows.append({"image": file, "label": label, "site": name, "patient": f"{name}-{number}"})
    manifest = Manifest(make_table(rows), DatasetInfo(name, ("benign", "malignant")), folder)
    write_manifest(manifest, folder)
    return folder


@pytest.fixture(scope="session")
def hospitals(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """North with 24 patients, Porto with 36."""
    root = tmp_path_factory.mktemp("hospitals")
    return str(make_hospital(root / "north", "North", 24, 0)), str(make_hospital(root / "porto", "Porto", 36, 1))


def study_values(paths: tuple[str, ...], **changes: Any) -> dict[str, Any]:
    values: dict[str, Any] = {
        "name": "tiny",
        "base": {
            "data": {
                "path": list(paths),
                "image_size": SIDE,
                "crop": "none",
                "augmentation": "none",
                "cache": "memory",
            },
            "optimizer": {"base": "adam", "lr": 2e-3, "weight_decay": 0.0},
            "schedule": {"epochs": 2, "warmup_epochs": 1, "batch_size": 8, "keep": "last"},
            "run": {"device": "cpu", "precision": "fp32"},
        },
        "hospitals": [{"name": "north", "site": "North"}, {"name": "porto", "site": "Porto"}],
        "networks": [{"name": "cnn", "kind": "cnn", "settings": {"network": {"name": "resnet10_w16"}}}],
        "optimizers": [{"name": "adam"}, {"name": "sam", "settings": {"rho": 0.1}}],
        "folds": 3,
        "use_folds": 2,
    }
    return merged(values, changes)


@pytest.fixture
def define(hospitals: tuple[str, str]) -> Callable[..., StudyDefinition]:
    """Make a study of both hospitals; keywords are keys to change."""

    def build(**changes: Any) -> StudyDefinition:
        return validate_study(study_values(hospitals, **changes), "study.yaml")

    return build


def own_copy(paths: tuple[str, ...], folder: Path) -> tuple[str, ...]:
    """Copy hospitals, to be damaged."""
    import shutil

    return tuple(str(shutil.copytree(path, folder / Path(path).name)) for path in paths)


def replaced(study: StudyDefinition, **changes: Any) -> StudyDefinition:
    values = merged(study.model_dump(mode="json"), changes)
    return validate_study(values, "study.yaml")


__all__ = ["make_hospital", "own_copy", "replaced", "study_values"]
