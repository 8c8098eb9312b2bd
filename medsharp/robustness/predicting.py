"""Corrupt, preprocess, predict: the next batches are made ready while the network works on one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np

from medsharp.cores import usable_cores
from medsharp.inference.predictor import Predictor, softmax
from medsharp.preprocess import PreprocessSpec, preprocess
from medsharp.robustness.corruptions import CORRUPTIONS, corrupt
from medsharp.robustness.sample import Sample

BATCH = 32
_AHEAD = 3


@dataclass(frozen=True)
class Missing:
    """A version of the images that some models have not answered.

    Attributes:
        name: Of the corruption, or `clean`.
        severity: 1 to 5, or 0 for clean images.
        places: Of the models.
    """

    name: str
    severity: int
    places: tuple[int, ...]


def predict_missing(
    sample: Sample, predictors: Sequence[Predictor], missing: Sequence[Missing], seed: int
) -> Iterator[tuple[Missing, list[np.ndarray]]]:
    """Give what `predict_corrupted` does for each version that is missing, of the models that lack it."""
    with ThreadPoolExecutor(usable_cores()) as pool:
        for one in missing:
            models = [predictors[place] for place in one.places]
            yield one, predict_corrupted(sample, models, one.name, one.severity, seed, pool)


def predict_corrupted(
    sample: Sample,
    predictors: Sequence[Predictor],
    name: str,
    severity: int,
    seed: int,
    pool: ThreadPoolExecutor,
) -> list[np.ndarray]:
    """Return probabilities, float64 [N, C] by model, of every image of a sample under one corruption.

    Batches are corrupted and preprocessed in threads while the network works on the one before.

    Args:
        sample: The images.
        predictors: They see the same pixels.
        name: Of the corruption, or `clean`.
        severity: 1 to 5, or 0 for clean images.
        seed: Of the run.
        pool: Does the work ahead.
    """
    specs = list(dict.fromkeys(predictor.preprocessing for predictor in predictors))
    ready = partial(prepare, sample=sample, specs=specs, name=name, severity=severity, seed=seed)
    parts: list[list[np.ndarray]] = [[] for _ in predictors]
    for batch in _ahead(ready, len(sample), pool):
        for place, predictor in enumerate(predictors):
            inputs = np.stack([prepared[specs.index(predictor.preprocessing)] for prepared in batch])
            logits = predictor.session.run(inputs)["logits"].astype(np.float64)
            parts[place].append(softmax(logits / predictor.spec.temperature))
    return [np.concatenate(found) for found in parts]


def prepare(
    place: int, sample: Sample, specs: Sequence[PreprocessSpec], name: str = "clean", severity: int = 0, seed: int = 0
) -> list[np.ndarray]:
    """Corrupt an image of a sample and bring it to the input of each network.

    Args:
        place: Of the image in the sample.
        sample: The images.
        specs: How each network places images.
        name: Of the corruption.
        severity: 1 to 5, or 0 for the clean image.
        seed: Of the run.

    Returns:
        uint8 [S, S] for each of `specs`.
    """
    image = sample.image(place)
    pixels, coloured = image.pixels, image.coloured
    if severity:
        entry = CORRUPTIONS[name]
        lesion = sample.lesion_area(place) if entry.at_lesion else None
        pixels = corrupt(pixels, name, severity, sample.seed(place, seed), lesion=lesion)
        if entry.moves:
            coloured = None
    return [
        preprocess(pixels, spec, lesion=sample.lesion(place) if spec.crop == "lesion" else None, coloured=coloured)
        for spec in specs
    ]


def _ahead(
    ready: Callable[[int], list[np.ndarray]], count: int, pool: ThreadPoolExecutor
) -> Iterator[list[list[np.ndarray]]]:
    """Give batches in order, the next few being prepared meanwhile."""
    batches = [range(start, min(start + BATCH, count)) for start in range(0, count, BATCH)]
    waiting: list[list[Future[list[np.ndarray]]]] = []
    try:
        for number in range(len(batches)):
            while len(waiting) < _AHEAD and number + len(waiting) < len(batches):
                waiting.append([pool.submit(ready, place) for place in batches[number + len(waiting)]])
            yield [future.result() for future in waiting.pop(0)]
    finally:
        for future in (future for batch in waiting for future in batch):
            future.cancel()
