"""A small bundle behind the server, and an image to send."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from starlette.testclient import TestClient

from medsharp.bundle import TrainingRecord
from medsharp.export import export_network
from medsharp.inference import Predictor
from medsharp.networks import create_network
from medsharp.preprocess import PreprocessSpec
from serve import create_app


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small untrained network as a bundle."""
    rng = np.random.default_rng(1)
    images = np.clip(rng.rayleigh(60.0, size=(24, 64, 64)), 0, 255).astype(np.uint8)
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("served") / "speckle-model"
    export_network(
        create_network("resnet10_w16", num_classes=2, image_size=64).eval(),
        folder,
        classes=("benign", "malignant"),
        positive="malignant",
        preprocess_spec=PreprocessSpec(size=64),
        validation_images=images,
        validation_labels=np.arange(len(images)) % 2,
        training=TrainingRecord(
            dataset="Speckle", images={"val": 24}, network="resnet10_w16", optimizer={"name": "wsam"}
        ),
    )
    return folder


@pytest.fixture(scope="session")
def predictor(bundle: Path) -> Predictor:
    return Predictor.load(bundle)


@pytest.fixture(scope="session")
def make_client(predictor: Predictor) -> Callable[..., TestClient]:
    def make(**options: object) -> TestClient:
        return TestClient(create_app(predictor, **options))  # type: ignore[arg-type]

    return make


@pytest.fixture(scope="module")
def client(make_client: Callable[..., TestClient]) -> Iterator[TestClient]:
    with make_client() as client:
        yield client


@pytest.fixture(scope="session")
def png() -> bytes:
    """A dark blob on speckle, 90 x 120."""
    rng = np.random.default_rng(0)
    pixels = rng.rayleigh(60.0, size=(90, 120))
    pixels[30:60, 40:80] *= 0.3
    buffer = io.BytesIO()
    Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()
