"""What predicting costs beside a raw loop of Pillow and ONNX Runtime, each pair measured in turn in one process."""

from __future__ import annotations

import gc
import io
import itertools
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from medsharp.cores import usable_cores
from medsharp.errors import InputError
from medsharp.inference.predictor import BATCH, Predictor


@dataclass(frozen=True)
class Pair:
    """Two ways of doing the same.

    Attributes:
        what: Is done.
        seconds: That it takes here: the fastest of several repeats.
        beside: That the yardstick takes.
        yardstick: What that is.
        target: The ratio that is aimed for; `at_most` says from which side.
        at_most: Whether the ratio shall be at most the target: time here over time there. Otherwise it is the speed
            here over the speed there, and at least the target.
    """

    what: str
    seconds: float
    beside: float
    yardstick: str
    target: float
    at_most: bool

    @property
    def ratio(self) -> float:
        """As `target` has it."""
        return self.seconds / self.beside if self.at_most else self.beside / self.seconds

    @property
    def is_met(self) -> bool:
        """Whether the target is."""
        return self.ratio <= self.target if self.at_most else self.ratio >= self.target


def in_turn(ours: Callable[[], object], theirs: Callable[[], object], repeats: int) -> tuple[float, float]:
    """Return the median seconds of each, measured in turn so that what else the machine does falls on both."""
    times: tuple[list[float], list[float]] = ([], [])
    for work in (ours, theirs):
        work()  # what is made once
    for number in range(repeats):
        pairs = list(zip(times, (ours, theirs), strict=True))
        for found, work in pairs if number % 2 else reversed(pairs):
            start = time.perf_counter()
            work()
            found.append(time.perf_counter() - start)
    return statistics.median(times[0]), statistics.median(times[1])


def raw_input(source: bytes | Path, side: int) -> np.ndarray:
    """Return what the raw loop feeds: the picture in grey, resized without regard to its shape, uint8 [S, S]."""
    with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
        return np.asarray(image.convert("L").resize((side, side), Image.Resampling.BILINEAR))


def measure_single(predictor: Predictor, files: Sequence[Path], repeats: int = 30) -> Pair:
    """Measure one image, from its bytes to its answer, beside decoding, resizing and running the session."""
    contents = itertools.cycle([path.read_bytes() for path in files])
    side, session = predictor.preprocessing.size, predictor.session
    ours, theirs = in_turn(
        lambda: predictor.predict([next(contents)]),
        lambda: session.run(raw_input(next(contents), side)[None]),
        repeats,
    )
    return Pair("bytes to answer, one image", ours, theirs, "decode, resize, session.run", 1.15, True)


def measure_files(predictor: Predictor, files: Sequence[Path], count: int, repeats: int = 3) -> Pair:
    """Measure many files beside a loop that decodes in as many threads as there are cores while batches are run."""
    paths = list(itertools.islice(itertools.cycle(files), count))
    side = predictor.preprocessing.size

    def raw() -> None:
        with ThreadPoolExecutor(usable_cores()) as pool:
            reading = _batches(paths)
            waiting = [pool.submit(raw_input, path, side) for path in next(reading)]
            while waiting:
                following = [pool.submit(raw_input, path, side) for path in next(reading, [])]
                predictor.session.run(np.stack([future.result() for future in waiting]))
                waiting = following

    ours, theirs = in_turn(lambda: sum(1 for _ in predictor.stream(paths)), raw, repeats)
    return Pair(f"{count:,} files", ours / count, theirs / count, "threads and session.run by hand", 0.9, False)


def _batches(paths: Sequence[Path]) -> Iterator[Sequence[Path]]:
    return (paths[start : start + BATCH] for start in range(0, len(paths), BATCH))


def measure_networks(
    what: str,
    ours: Callable[[np.ndarray], object],
    theirs: Callable[[np.ndarray], object],
    side: int,
    batch: int,
    target: float,
    yardstick: str,
    repeats: int = 5,
) -> Pair:
    """Measure two networks on the same random inputs; seconds are of an image."""
    images = np.random.default_rng(0).integers(0, 256, (batch, side, side), dtype=np.uint8)
    one, other = in_turn(lambda: ours(images), lambda: theirs(images), repeats)
    return Pair(f"{what}, batch {batch}", one / batch, other / batch, yardstick, target, False)


_PLAIN = """
import io, sys
import numpy, onnxruntime
from PIL import Image
session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
side = session.get_inputs()[0].shape[-1]
image = numpy.asarray(Image.open(sys.argv[2]).convert("L").resize((side, side)))
print(session.run(None, {"image": image[None, None]})[0])
"""


def measure_start(bundle: Path, model: Path, file: Path, repeats: int = 5) -> Pair:
    """Measure `medsharp predict` of one image, a process from start to end, beside a script of the same imports."""
    program = "from medsharp.cli import main; main()"
    command = [sys.executable, "-c", program, "predict", str(bundle), str(file), "--device", "cpu"]
    plain = [sys.executable, "-c", _PLAIN, str(model), str(file)]
    environment = {**os.environ, "ORT_DISABLE_TELEMETRY": "1"}

    def run(arguments: list[str]) -> Callable[[], object]:
        return lambda: subprocess.run(arguments, env=environment, capture_output=True, check=False)

    ours, theirs = in_turn(run(command), run(plain), repeats)
    return Pair("medsharp predict IMAGE", ours, theirs, "import numpy, onnxruntime, PIL; one run", 1.2, True)


@dataclass(frozen=True)
class Memory:
    """What a long stream keeps.

    Attributes:
        predictions: How many, after a tenth as many that are not counted.
        before: Resident bytes then.
        after: Resident bytes at the end.
    """

    predictions: int
    before: int
    after: int


def measure_memory(predictor: Predictor, files: Sequence[Path], predictions: int) -> Memory:
    """Measure the memory of this process over a stream of so many images."""
    warm = predictions // 10
    stream = predictor.stream(itertools.islice(itertools.cycle(files), warm + predictions))
    for _ in itertools.islice(stream, warm):
        pass
    before = resident_bytes()
    for _ in stream:
        pass
    gc.collect()
    return Memory(predictions, before, resident_bytes())


def resident_bytes(process: int | str = "self") -> int:
    """Return the resident bytes of a process, by default of this one.

    Raises:
        InputError: The system has no /proc.
    """
    table = Path(f"/proc/{process}/statm")
    if not table.is_file():
        raise InputError("memory is measured on Linux only")
    pages = int(table.read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
