"""A small bundle behind the server, and an image to send."""

from __future__ import annotations

import io
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from medsharp.inference import Prediction, Predictor
from medsharp.inference.reading import Reading
from serve import create_app
from serve.engine import Engine, Shared
from serve.engine.capacity import Admission
from serve.engine.job import Job
from serve.engine.lanes import Lanes
from serve.metrics import Metrics


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


@pytest.fixture(scope="session")
def held_type() -> type[HeldPredictor]:
    return HeldPredictor


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
    return arrivals


@pytest.fixture(scope="session")
def make_client(predictor: Predictor) -> Callable[..., TestClient]:
    def make(served: Predictor | None = None, **options: object) -> TestClient:
        return TestClient(create_app(served or predictor, **options))  # type: ignore[arg-type]

    return make


@pytest.fixture
def make_engine() -> Iterator[Callable[[Predictor], Engine]]:
    """Makes an engine by itself."""
    lanes = Lanes()
    made: list[Engine] = []

    def make(served: Predictor) -> Engine:
        shared = Shared(lanes, Admission(64), Metrics())
        made.append(Engine(served, shared, max_file_bytes=2**26, deadline_seconds=60.0))
        return made[-1]

    yield make
    for engine in made:
        engine.close()


@pytest.fixture
def engine(make_engine: Callable[[Predictor], Engine], predictor: Predictor) -> Engine:
    return make_engine(predictor)


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


@dataclass
class RunningServer:
    """`medsharp serve` in a process and folders of its own.

    Attributes:
        address: Where it is, with a slash at its end.
        folder: Holds everything that it may write to: its TMPDIR, its HOME, its cache.
        log: What it has said so far, on both channels.
    """

    process: subprocess.Popen[bytes]
    address: str
    folder: Path
    log: Path

    @property
    def port(self) -> int:
        return int(self.address.rstrip("/").rpartition(":")[2])

    def said(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")

    def files(self) -> list[Path]:
        return [path for path in self.folder.rglob("*") if path.is_file() and path != self.log]

    def stop(self, how: int = signal.SIGINT) -> str:
        """Stop it, and return all that it has said."""
        self.process.send_signal(how)
        self.process.wait(60)
        return self.said()


def as_user(number: int) -> list[str]:
    """What runs a command as a user who may read all that is here, the interpreter of root too, and writes nothing."""
    reading = "-all,+dac_read_search"
    ids = [f"--reuid={number}", f"--regid={number}", "--clear-groups", "--no-new-privs"]
    return ["setpriv", *ids, f"--inh-caps={reading}", f"--ambient-caps={reading}", f"--bounding-set={reading}"]


@pytest.fixture(scope="module")
def other_user() -> int:
    """The user of the image; skipped where nobody else can be become."""
    number = 10001
    if shutil.which("setpriv") is None or os.geteuid() != 0:
        pytest.skip("only root becomes somebody else, by setpriv")
    if subprocess.run([*as_user(number), "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("this system lets root become nobody else who may read")
    return number


@pytest.fixture(scope="module")
def serve_command(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., RunningServer]]:
    """Start `medsharp serve` with options; each is stopped at the end."""
    started: list[RunningServer] = []

    def start(*options: object, before: str = "", user: int | None = None, **environment: str) -> RunningServer:
        folder = tmp_path_factory.mktemp("server")
        log = folder / "log"
        for name in ("tmp", "home", "cache"):
            (folder / name).mkdir()
        if user is not None:
            os.chown(folder / "tmp", user, user)
            # The command line asks the system whether it may read, which then forgets about more than files' modes.
            for readable in (bundle, bundle.parent):
                readable.chmod(0o755)
        own = {
            **{name: value for name, value in os.environ.items() if not name.startswith("MEDSHARP_")},
            "TMPDIR": str(folder / "tmp"),
            "HOME": str(folder / "home"),
            "XDG_CACHE_HOME": str(folder / "cache"),
            "COLUMNS": "200",
            **environment,
        }
        # By a name, since the way to the folder is root's alone.
        wrapped, named = ([], str(bundle)) if user is None else (as_user(user), bundle.name)
        arguments = ["serve", named, "--port", "0", "--no-browser", *map(str, options)]
        code = f"{before}\nfrom medsharp.cli import app\napp({arguments!r})"
        with log.open("wb") as file:
            command = [*wrapped, sys.executable, "-c", code]
            where = None if user is None else bundle.parent
            process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, env=own, cwd=where)
        found = None
        while found is None and process.poll() is None:
            found = re.search(r"https?://\S+:\d+/", log.read_text(encoding="utf-8", errors="replace"))
            threading.Event().wait(0.05)
        server = RunningServer(process, "" if found is None else found.group(), folder, log)
        started.append(server)
        assert found is not None, server.said()
        return server

    yield start
    for server in started:
        if server.process.poll() is None:
            server.stop()
