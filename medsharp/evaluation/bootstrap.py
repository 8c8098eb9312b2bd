"""Resampling patients: every statistic for many weightings of the same images, in blocks that fit into memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

Statistic = Callable[[np.ndarray], dict[str, np.ndarray]]
"""Weights [R, N] of the images to values by name, each [R] or [R, G]."""

_BLOCK_VALUES = 2_000_000


def bootstrap(
    statistics: Sequence[Statistic], clusters: np.ndarray, *, resamples: int, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """Compute statistics on patients drawn with replacement, each with all of his or her images.

    A resample is a row of multinomial weights: how often each patient was drawn. An image weighs as its patient does.

    Args:
        statistics: What to compute.
        clusters: The patient of each image, int 0, 1, ... [N].
        resamples: How many.
        rng: Where the draws come from.

    Returns:
        Values by name, each [resamples] or [resamples, G].
    """
    count = int(clusters.max()) + 1
    size = max(1, min(500, _BLOCK_VALUES // len(clusters)))
    collected: dict[str, list[np.ndarray]] = {}
    for start in range(0, resamples, size):
        weights = draw(count, min(size, resamples - start), rng)[:, clusters]
        for statistic in statistics:
            for name, values in statistic(weights).items():
                collected.setdefault(name, []).append(values)
    return {name: np.concatenate(parts) for name, parts in collected.items()}


def draw(count: int, resamples: int, rng: np.random.Generator) -> np.ndarray:
    """Return how often each of `count` patients is drawn in each resample: float64 [resamples, count]."""
    drawn = rng.integers(count, size=(resamples, count))
    drawn += count * np.arange(resamples)[:, None]
    return np.bincount(drawn.ravel(), minlength=resamples * count).reshape(resamples, count).astype(np.float64)
