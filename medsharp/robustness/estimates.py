"""Figures on the images as they are and on the same resampled patients, so that all differences are paired."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from medsharp.evaluation.statistics.bootstrap import draw
from medsharp.evaluation.statistics.figures import BOOTSTRAP, NEWCOMBE, WILSON
from medsharp.evaluation.statistics.intervals import percentile, perfect_auroc, wilson

_BLOCK = 250
_LEAST_DEFINED = 0.95
Closed = Callable[[float], tuple[float, float, str]]
"""Gives low, high and method for a value that resampling cannot move."""


class Resamples:
    """Patients drawn with replacement, each with all images; every figure of a data set is computed on the same draws.

    Args:
        clusters: The patient of each image, int 0, 1, ... [N].
        resamples: How many; none with a single patient.
        seed: Of the draws.
    """

    def __init__(self, clusters: np.ndarray, resamples: int, seed: int) -> None:
        self.clusters = clusters
        patients = int(clusters.max()) + 1
        rng = np.random.default_rng([seed, 0x5EED])
        # Counts are small whole numbers: a byte each, so that many images fit into memory.
        self._drawn = draw(patients, resamples, rng).astype(np.uint8) if patients > 1 else np.empty((0, patients))

    def blocks(self) -> Iterator[np.ndarray]:
        """Give weights, float64 [rows, N]."""
        for start in range(0, len(self._drawn), _BLOCK):
            yield self._drawn[start : start + _BLOCK, self.clusters].astype(np.float64)

    def over(self, statistic: Callable[[np.ndarray], np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Compute a statistic of weights [R, N], which gives [R, K], on all images and on the resamples.

        Returns:
            Values [K] and replicates [resamples, K].
        """
        (values,) = statistic(np.ones((1, len(self.clusters))))
        parts = [statistic(weights) for weights in self.blocks()]
        return values, np.concatenate(parts) if parts else np.empty((0, len(values)))

    def patients(self, mask: np.ndarray | None = None) -> int:
        """Count the patients, or those with an image that `mask` [N] chooses."""
        return len(np.unique(self.clusters if mask is None else self.clusters[mask]))


@dataclass(frozen=True)
class Estimate:
    """A figure and its bootstrap values.

    Attributes:
        value: NaN where it does not exist.
        replicates: [R]; empty with one patient only.
        closed: Gives the interval of 0 and 1 where the figure is a share or an AUROC.
    """

    value: float
    replicates: np.ndarray = field(repr=False)
    closed: Closed | None = field(default=None, repr=False)

    def __sub__(self, other: Estimate) -> Estimate:
        """Return the paired difference."""
        return Estimate(self.value - other.value, self.replicates - other.replicates)

    def scaled(self, factor: float, offset: float = 0.0) -> Estimate:
        """Return `(self - offset) * factor`."""
        return Estimate((self.value - offset) * factor, (self.replicates - offset) * factor)

    def figure(self) -> dict[str, Any]:
        """Return `{"value", "low", "high", "method"}`, or nulls with a `reason`."""
        nothing: dict[str, Any] = {"value": None, "low": None, "high": None}
        if not np.isfinite(self.value):
            return nothing | {"reason": "it does not exist for these images"}
        here = nothing | {"value": float(self.value)}
        if not len(self.replicates):
            return here | {"reason": "one patient only: no interval can be given"}
        if self.closed is not None and self.value in (0.0, 1.0):
            low, high, method = self.closed(self.value)
            return here | {"low": low, "high": high, "method": method}
        finite = self.replicates[np.isfinite(self.replicates)]
        if len(finite) < _LEAST_DEFINED * len(self.replicates):
            share = 1 - len(finite) / len(self.replicates)
            return here | {"reason": f"it does not exist in {share:.0%} of the resamples"}
        low, high = percentile(finite)
        return here | {"low": low, "high": high, "method": BOOTSTRAP}


def mean(estimates: Sequence[Estimate]) -> Estimate:
    """Average estimates on the same resamples."""
    return Estimate(
        float(np.mean([estimate.value for estimate in estimates])),
        np.mean([estimate.replicates for estimate in estimates], axis=0),
    )


def share_at_ends(patients: int) -> Closed:
    """Return Wilson's interval for a share of 0 or 1 of so many patients."""
    return lambda value: (*wilson(value * patients, patients), WILSON)


def auroc_at_ends(positives: int, negatives: int) -> Closed:
    """Return Newcombe's interval for an AUROC of 0 or 1."""

    def limits(value: float) -> tuple[float, float, str]:
        low, high = perfect_auroc(positives, negatives)
        return (low, high, NEWCOMBE) if value == 1.0 else (1 - high, 1 - low, NEWCOMBE)

    return limits
