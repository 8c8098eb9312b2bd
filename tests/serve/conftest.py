"""A small bundle behind the server, and an image to send."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from medsharp.inference import Prediction, Predictor
from medsharp.inference.reading import Reading
from serve import create_app
from serve.engine.capacity import Result, WorkQueue
from serve.engine.job import Job


@pytest.fixture(scope="session")
def bundle(speckle_bundle: Path) -> Path:
    return speckle_bundle


@pytest.fixture(scope="session")
def predictor(bundle: Path) -> Predictor:
    return Predictor.load(bundle)


class HeldPredictor(Predictor):
    """Answers nothing until it is let go, and says when it was asked.

    Attributes:
        begun: Released once for each image that it begins to work on.
        go: Until it is set, the predictor works.
        seen: Names of the images, in order.
    """

    def __init__(self, other: Predictor) -> None:
        super().__init__(other.folder, other.spec, other.session)
        self.begun = threading.Semaphore(0)
        self.go = threading.Event()
        self.seen: list[str] = []

    def predict_readings(self, read: Sequence[Reading]) -> list[Prediction]:
        self.seen += [one.name for one in read]
        self.begun.release()
        self.go.wait()
        return super().predict_readings(read)


@pytest.fixture
def held(predictor: Predictor) -> Iterator[HeldPredictor]:
    held = HeldPredictor(predictor)
    yield held
    held.go.set()


@pytest.fixture
def arrived(monkeypatch: pytest.MonkeyPatch) -> threading.Semaphore:
    """Released once for each request that comes to the queue, of applications that are made after this."""
    arrivals = threading.Semaphore(0)
    begin = Job.begin

    def counting(job: Job) -> None:
        begin(job)
        arrivals.release()

    monkeypatch.setattr(Job, "begin", counting)

    class Counting(WorkQueue):
        async def run(self, work: Callable[[], Result]) -> Result:
            # Nothing else happens in the event loop before it is in the queue.
            arrivals.release()
            return await super().run(work)

    monkeypatch.setattr("serve.app.WorkQueue", Counting)
    return arrivals


@pytest.fixture(scope="session")
def make_client(predictor: Predictor) -> Callable[..., TestClient]:
    def make(served: Predictor | None = None, **options: object) -> TestClient:
        return TestClient(create_app(served or predictor, **options))  # type: ignore[arg-type]

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
