"""A simulated hospital of small images, and toy models whose answers are known."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from medsharp.bundle import BundleSpec, InputCheck, OperatingPoint, Preprocessing, TrainingRecord
from medsharp.data.phantom import write_phantom
from medsharp.images import ImageLimits

SIDE = 96


@pytest.fixture(scope="session")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Simulated hospital A, 24 patients, 96 pixels a side."""
    folder = tmp_path_factory.mktemp("hospitals") / "A"
    write_phantom(folder, hospital="A", patients=24, size=SIDE)
    return folder


@pytest.fixture(scope="session")
def second_hospital(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Other patients at a hospital of the same name."""
    folder = tmp_path_factory.mktemp("hospitals") / "A"
    write_phantom(folder, hospital="A", patients=24, size=SIDE, seed=1)
    return folder


def make_spec(name: str = "toy") -> BundleSpec:
    return BundleSpec(
        format=1,
        name=name,
        created="2026-01-01",
        medsharp="0",
        classes=("benign", "malignant"),
        positive="malignant",
        preprocess=Preprocessing(size=SIDE, crop="none", fit="stretch"),
        temperature=1.0,
        operating_point=OperatingPoint(
            threshold=0.5, rule="given", sensitivity=1.0, specificity=1.0, images=2, positives=1
        ),
        input_check=InputCheck(feature_mean=(0.0,), feature_scale=(1.0,), distance_limit=1.0, brightness=(0, 255)),
        heatmap_reference=1.0,
        outputs=("logits",),
        training=TrainingRecord(dataset="none", images={}, network="toy", optimizer={"name": "none"}),
        files={},
    )


class ToySession:
    """Gives logits (0, margin of the image), and counts what it was asked."""

    def __init__(self, margin: Callable[[np.ndarray], np.ndarray]) -> None:
        self.margin = margin
        self.images = 0

    def run(self, images: np.ndarray) -> dict[str, np.ndarray]:
        self.images += len(images)
        margin = self.margin(images.astype(np.float32))
        return {"logits": np.stack([np.zeros_like(margin), margin], axis=1).astype(np.float32)}


def darkness(images: np.ndarray) -> np.ndarray:
    """Darker in the middle than around: malignant."""
    middle = images[:, SIDE // 3 : 2 * SIDE // 3, SIDE // 3 : 2 * SIDE // 3].mean(axis=(1, 2))
    return (images.mean(axis=(1, 2)) - middle) / 20 - 1


def whiteness(images: np.ndarray) -> np.ndarray:
    """Reads what is written on images: many white pixels in the middle are malignant."""
    return ((images[:, 16:-16, 16:-16] == 255).sum(axis=(1, 2)) - 40.0) / 10


MARGINS = {"lesion": darkness, "annotations": whiteness}


@pytest.fixture
def toy(tmp_path: Path) -> Callable[..., Any]:
    """Makes a model that looks at the lesion, or at annotations."""

    def make(looks_at: str = "lesion", name: str = "toy") -> Any:
        spec, session = make_spec(name), ToySession(MARGINS[looks_at])
        return SimpleNamespace(
            folder=tmp_path,
            spec=spec,
            session=session,
            preprocessing=spec.preprocess.spec(),
            limits=ImageLimits(),
            value_range=None,
        )

    return make
