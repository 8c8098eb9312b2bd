"""The calibration curve without an assumed shape: local regression of the labels on the probabilities."""

from __future__ import annotations

from typing import Any

import numpy as np

from medsharp.evaluation.statistics.intervals import percentile_band

SPAN = 0.75
"""Share of the images that each point of the curve is fitted to."""

_POINTS = 40
_MOST_GROUPS = 2000


class SmoothCalibration:
    """Loess of degree 1 with tricube weights, on a grid.

    Cleveland, JASA 74 (1979); for calibration: Austin and Steyerberg, Statistics in Medicine 33 (2014).
    More than 2,000 images are first averaged in 2,000 groups of neighbours, which changes nothing one could see.

    Args:
        labels: bool [N].
        probabilities: Sorted [N].
    """

    def __init__(self, labels: np.ndarray, probabilities: np.ndarray) -> None:
        self._y = np.asarray(labels, dtype=np.float64)
        count = min(len(probabilities), _MOST_GROUPS)
        self._starts = (np.arange(count) * len(probabilities)) // count
        sizes = np.diff(np.r_[self._starts, len(probabilities)])
        x = np.add.reduceat(probabilities, self._starts) / sizes
        low, high = np.quantile(probabilities, [0.01, 0.99])
        self.grid = np.linspace(low, high, _POINTS)
        distance = np.abs(x - self.grid[:, None])
        reach = np.partition(distance, max(1, int(SPAN * count)) - 1, axis=1)[:, max(1, int(SPAN * count)) - 1]
        kernel = np.clip(1 - (distance / np.maximum(reach, 1e-12)[:, None]) ** 3, 0, None) ** 3
        shift = x - self.grid[:, None]
        self._moments = np.concatenate([kernel, kernel * shift, kernel * shift**2]).T
        self._answers = np.concatenate([kernel, kernel * shift]).T

    def statistic(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """Return `smooth_calibration` [R, 40]: observed shares at `grid`, NaN where a fit does not exist."""
        mass, ones = weights, weights * self._y
        if len(self._starts) < weights.shape[1]:
            mass = np.add.reduceat(mass, self._starts, axis=1)
            ones = np.add.reduceat(ones, self._starts, axis=1)
        s0, s1, s2 = np.split(mass @ self._moments, 3, axis=1)
        t0, t1 = np.split(ones @ self._answers, 2, axis=1)
        determinant = s0 * s2 - s1**2
        solvable = determinant > 1e-9 * np.maximum(s0 * s2, 1e-300)
        level = np.divide(t0, s0, out=np.full_like(t0, np.nan), where=s0 > 0)
        fitted = np.divide(s2 * t0 - s1 * t1, determinant, out=level, where=solvable)
        return {"smooth_calibration": np.clip(fitted, 0.0, 1.0)}

    def curve(self, fit: np.ndarray, replicates: np.ndarray) -> dict[str, Any]:
        """Return the curve and its pointwise 95 % band, for `evaluation.json`."""
        if not np.isfinite(fit).all() or np.ptp(self.grid) == 0:
            return {"probability": [], "observed": [], "low": [], "high": []}
        low, high = percentile_band(replicates)
        return {"probability": self.grid.tolist(), "observed": fit.tolist(), "low": low, "high": high}
