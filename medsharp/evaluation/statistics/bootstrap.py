"""Resampling patients: every statistic for many weightings of the same images, in blocks that fit into the cache."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numpy as np
from threadpoolctl import ThreadpoolController

from medsharp.cores import usable_cores

Statistic = Callable[[np.ndarray], dict[str, np.ndarray]]
"""Weights [R, N] of the images to values by name, each [R] or [R, G]."""

_BLOCK_VALUES = 250_000
_MOST_THREADS = 8
_MOST_AT_ONCE = 5_000_000
"""Draws that are in memory as numbers of patients, before they are counted."""

BUDGET = 200_000_000
"""Most resamples x images that are drawn, as long as at least `LEAST_RESAMPLES` are left."""

LEAST_RESAMPLES = 200
"""As many give the standard error of a figure to within 5 %."""


def affordable(resamples: int, images: int, budget: int = BUDGET) -> int:
    """Return how many resamples are drawn of so many images: those wished, or fewer where the images are very many.

    With 100,000 images and the default budget, 2,000 resamples are drawn; with a million, 200, whose spread then gives
    the interval (`medsharp.evaluation.statistics.intervals.normal`), as so few have no percentiles in their tails.
    """
    return min(resamples, max(LEAST_RESAMPLES, budget // max(1, images)))


def bootstrap(
    statistics: Sequence[Statistic],
    clusters: np.ndarray,
    *,
    resamples: int = 0,
    rng: np.random.Generator | None = None,
    drawn: np.ndarray | None = None,
) -> dict[str, np.ndarray]:
    """Compute statistics on patients drawn with replacement, each with all of his or her images.

    A resample is a row of multinomial weights: how often each patient was drawn. An image weighs as its patient does.
    Blocks of resamples have a random stream each, so that the result does not depend on the number of threads.

    Args:
        statistics: What to compute.
        clusters: The patient of each image, int 0, 1, ... [N].
        resamples: How many.
        rng: Where the draws come from.
        drawn: Draws that were made before, as `draw` makes them [resamples, clusters], in place of new ones.

    Returns:
        Values by name, each [resamples] or [resamples, G].
    """
    count = int(clusters.max()) + 1
    size = max(1, min(500, _BLOCK_VALUES // len(clusters)))
    if drawn is not None:
        return _gathered(
            lambda rows: _computed(statistics, rows[:, clusters].astype(np.float64)),
            [drawn[start : start + size] for start in range(0, len(drawn), size)],
        )
    if rng is None:
        raise ValueError("resamples need a generator, or draws that were made before")
    sizes = [min(size, resamples - start) for start in range(0, resamples, size)]

    def block(job: tuple[int, np.random.Generator]) -> dict[str, np.ndarray]:
        rows, stream = job
        return _computed(statistics, draw(count, rows, stream)[:, clusters].astype(np.float64))

    return _gathered(block, list(zip(sizes, rng.spawn(len(sizes)), strict=True)))


def jackknife(statistics: Sequence[Statistic], clusters: np.ndarray) -> dict[str, np.ndarray]:
    """Compute statistics without each patient in turn.

    Args:
        statistics: What to compute.
        clusters: The patient of each image, int 0, 1, ... [N].

    Returns:
        Values by name, each [clusters] or [clusters, G].
    """
    count = int(clusters.max()) + 1
    size = max(1, min(500, _BLOCK_VALUES // len(clusters)))

    def block(left_out: np.ndarray) -> dict[str, np.ndarray]:
        return _computed(statistics, (clusters != left_out[:, None]).astype(np.float64))

    return _gathered(block, [np.arange(start, min(start + size, count)) for start in range(0, count, size)])


def draw(count: int, resamples: int, rng: np.random.Generator) -> np.ndarray:
    """Return how often each of `count` patients is drawn in each resample: uint8 [resamples, count]."""
    drawn = np.empty((resamples, count), dtype=np.uint8)
    rows = max(1, _MOST_AT_ONCE // count)
    for start in range(0, resamples, rows):
        part = drawn[start : start + rows]
        patients = rng.integers(count, size=part.shape) + count * np.arange(len(part))[:, None]
        # No patient is ever drawn 256 times: with one patient in `count` the chance is below 1e-300.
        part[:] = np.bincount(patients.ravel(), minlength=part.size).reshape(part.shape)
    return drawn


def _computed(statistics: Sequence[Statistic], weights: np.ndarray) -> dict[str, np.ndarray]:
    values: dict[str, np.ndarray] = {}
    for statistic in statistics:
        values.update(statistic(weights))
    return values


def _gathered(block: Callable[..., dict[str, np.ndarray]], jobs: Sequence[object]) -> dict[str, np.ndarray]:
    """Compute blocks side by side (numpy leaves the interpreter's lock), a core each, and join them in order."""
    threads = min(_MOST_THREADS, usable_cores(), len(jobs))
    # Threads of BLAS would wait for each other on cores that have a block each; and they sum in an order of their own.
    with _libraries().limit(limits=1, user_api="blas"):
        if threads < 2:
            parts = [block(job) for job in jobs]
        else:
            with ThreadPoolExecutor(threads) as pool:
                parts = list(pool.map(block, jobs))
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


@cache
def _libraries() -> ThreadpoolController:
    """Return what sets the threads of BLAS; looking for its libraries takes longer than a small bootstrap."""
    return ThreadpoolController()
