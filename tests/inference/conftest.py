"""A small bundle, made by exporting an untrained network."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from medsharp.bundle import TrainingRecord
from medsharp.inference import Predictor
from medsharp.preprocess import PreprocessSpec

if TYPE_CHECKING:
    from medsharp.networks import Classifier

SIZE = 64


@pytest.fixture(scope="session")
def images() -> np.ndarray:
    """Speckle with a blob whose brightness tells the classes apart, uint8 [24, 64, 64]."""
    rng = np.random.default_rng(0)
    pixels = rng.rayleigh(60.0, size=(24, SIZE, SIZE))
    pixels[::2, 20:40, 20:44] *= 0.2
    return np.clip(pixels, 0, 255).astype(np.uint8)


@pytest.fixture(scope="session")
def make_network() -> Callable[[str, int], Classifier]:
    def make(name: str, classes: int) -> Classifier:
        import torch

        from medsharp.networks import create_network

        torch.manual_seed(0)
        return create_network(name, num_classes=classes, image_size=SIZE).eval()

    return make


@pytest.fixture(scope="session")
def network(make_network: Callable[[str, int], Classifier]) -> Classifier:
    return make_network("resnet10_w16", 2)


@pytest.fixture(scope="session")
def make_bundle(images: np.ndarray) -> Callable[..., Path]:
    def make(network: Classifier, out: Path, classes: tuple[str, ...] = ("benign", "malignant")) -> Path:
        from medsharp.export import export_network

        export_network(
            network,
            out,
            classes=classes,
            positive="malignant",
            preprocess_spec=PreprocessSpec(size=SIZE),
            validation_images=images,
            validation_labels=np.arange(len(images)) % len(classes),
            training=TrainingRecord(
                dataset="speckle", images={"val": len(images)}, network="resnet10_w16", optimizer={"name": "wsam"}
            ),
        )
        return out

    return make


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory, network: Classifier, make_bundle: Callable[..., Path]) -> Path:
    return make_bundle(network, tmp_path_factory.mktemp("bundles") / "speckle")


@pytest.fixture(scope="session")
def predictor(bundle: Path) -> Predictor:
    return Predictor.load(bundle, device="cpu")
