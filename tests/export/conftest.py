"""A small network and images for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from medsharp.bundle import BundleSpec, TrainingRecord
from medsharp.data.manifest import DatasetInfo, Manifest, make_table
from medsharp.export import export_network
from medsharp.networks import Classifier, create_network
from medsharp.preprocess import PreprocessSpec

from .runs import fold_splits, speckle_manifest, write_run


@pytest.fixture(scope="session")
def images() -> np.ndarray:
    """Speckle, uint8 [40, 64, 64]; every second image has a dark blob."""
    rng = np.random.default_rng(0)
    pixels = rng.rayleigh(60.0, size=(40, 64, 64))
    pixels[::2, 20:40, 20:44] *= 0.2
    return np.clip(pixels, 0, 255).astype(np.uint8)


@pytest.fixture
def network() -> Classifier:
    return make_network()


def make_network() -> Classifier:
    torch.manual_seed(0)
    return create_network("resnet10_w16", num_classes=2, image_size=64).eval()


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One run of a fold, that no test may change."""
    folder = tmp_path_factory.mktemp("runs")
    manifest = speckle_manifest(folder / "data", 90)
    return write_run(folder / "run", manifest, fold_splits(manifest, 0), ["data.folds=3", "data.fold_role=val"])


@pytest.fixture(scope="session")
def export(images: np.ndarray) -> Callable[..., BundleSpec]:
    def run(network: Classifier, out: Path, **values: Any) -> BundleSpec:
        options: dict[str, Any] = {
            "classes": ("benign", "malignant"),
            "positive": "malignant",
            "preprocess_spec": PreprocessSpec(size=64),
            "validation_images": images,
            "validation_labels": np.arange(len(images)) % 2,
            "training": TrainingRecord(
                dataset="Speckle", images={"val": 40}, network="resnet10_w16", optimizer={"name": "wsam"}
            ),
        }
        return export_network(network, out, **{**options, **values})

    return run


@pytest.fixture(scope="session")
def exported(
    export: Callable[..., BundleSpec], images: np.ndarray, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, BundleSpec]:
    """A bundle that no test may change, and what export said of it; names of its test images must not be in it."""
    count = len(images)
    rows = pd.DataFrame(
        {
            "image": [f"Doe^Jane/{number}.png" for number in range(count)],
            "label": ["benign", "malignant"] * (count // 2),
            "patient": [f"MRN{number // 2}" for number in range(count)],
            "group": [f"MRN{number // 2}" for number in range(count)],
            "site": "Cairo",
            "device": "",
            "birads": "",
        }
    )
    folder = tmp_path_factory.mktemp("exported") / "speckle"
    learned = {"image": "Doe^Jane/a.png", "label": "benign", "split": "train", "sha256": "ab" * 32, "dhash": "0f" * 64}
    seen = Manifest(make_table([learned]), DatasetInfo("Speckle", ("benign", "malignant")), folder)
    spec = export(make_network(), folder, internal=rows, internal_images=images, seen=seen)
    return folder, spec
