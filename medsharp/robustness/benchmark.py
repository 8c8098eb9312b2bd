"""What robustness costs: corrupting beside preprocessing and inference, and how long a whole run takes."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from medsharp.data.phantom import write_phantom
from medsharp.inference.predictor import Predictor
from medsharp.progress import Progress
from medsharp.robustness.corruptions import CORRUPTIONS, SEVERITIES, corrupt
from medsharp.robustness.predicting import predict_corrupted, prepare
from medsharp.robustness.sample import Sample, take_sample

_BATCH = 32


@dataclass(frozen=True)
class Cost:
    """Milliseconds an image, CPU time of all threads unless said otherwise.

    Attributes:
        corruptions: By name, the mean of all severities.
        preprocess: Crop and resize.
        inference: The network, in batches of 32.
        together: Wall time of corrupting, preprocessing and predicting at severity 3, the mean of all corruptions.
        side: Of the images, in pixels.
        input_side: Of the network's input.
        images: How many were measured.
    """

    corruptions: dict[str, float]
    preprocess: float
    inference: float
    together: float
    side: int
    input_side: int
    images: int

    @property
    def corruption(self) -> float:
        """The mean of all corruptions."""
        return float(np.mean(list(self.corruptions.values())))

    def seconds(self, images: int) -> float:
        """Return the wall time of all corruptions at all severities on so many images."""
        return self.together / 1000 * images * len(self.corruptions) * len(SEVERITIES)


def measure_cost(
    predictor: Predictor, *, patients: int = 24, side: int = 256, repeats: int = 3, progress: Progress | None = None
) -> Cost:
    """Measure on a simulated hospital; of each figure the fastest of several repeats is taken.

    Args:
        predictor: A loaded bundle with the classes benign and malignant.
        patients: Of the hospital; one or two images each.
        side: Of its images in pixels.
        repeats: How often everything is measured.
        progress: Called with what is done, what there is to do and what is being done.
    """
    with TemporaryDirectory() as folder:
        write_phantom(Path(folder) / "A", hospital="A", patients=patients, size=side)
        sample = take_sample(Path(folder) / "A", predictor.spec.classes, predictor.spec.positive)
        count = len(sample)
        inputs = np.stack([prepare(place, sample, [predictor.preprocessing])[0] for place in range(count)])

        def infer() -> None:
            for start in range(0, count, _BATCH):
                predictor.session.run(inputs[start : start + _BATCH])

        inference = _fastest(infer, repeats, time.process_time) / count
        place_only = _fastest(
            lambda: [prepare(place, sample, [predictor.preprocessing]) for place in range(count)],
            repeats,
            time.process_time,
        )
        costs, walls = {}, []
        with ThreadPoolExecutor() as pool:
            for done, name in enumerate(CORRUPTIONS, start=1):
                costs[name] = 1000 * _fastest(_corrupter(sample, name), repeats, time.process_time) / count / 5
                walls.append(_fastest(_whole(sample, predictor, name, pool), repeats, time.perf_counter) / count)
                if progress is not None:
                    progress(done, len(CORRUPTIONS), "measuring corruptions")
    return Cost(
        corruptions=costs,
        preprocess=1000 * place_only / count,
        inference=1000 * inference,
        together=1000 * float(np.mean(walls)),
        side=side,
        input_side=predictor.spec.preprocess.size,
        images=count,
    )


def _corrupter(sample: Sample, name: str) -> Callable[[], object]:
    def work() -> None:
        for place in range(len(sample)):
            for severity in SEVERITIES:
                corrupt(sample.pixels(place), name, severity, sample.seed(place, 0))

    return work


def _whole(sample: Sample, predictor: Predictor, name: str, pool: ThreadPoolExecutor) -> Callable[[], object]:
    return lambda: predict_corrupted(sample, [predictor], name, 3, 0, pool)


def _fastest(work: Callable[[], object], repeats: int, clock: Callable[[], float]) -> float:
    times = []
    for _ in range(repeats):
        start = clock()
        work()
        times.append(clock() - start)
    return min(times)
