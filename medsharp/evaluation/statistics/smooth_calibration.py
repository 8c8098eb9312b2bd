"""The calibration curve without an assumed shape: local regression of the labels on the probabilities."""

from __future__ import annotations

from typing import Any

import numpy as np

from medsharp.evaluation.statistics.intervals import percentile_band

SPAN = 0.75
"""Share of the images that each point of the curve is fitted to."""

_POINTS = 40
_MOST_GROUPS = 2000
_DRAWS = 200
_BLOCK_VALUES = 250_000


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
        self._probabilities = probabilities
        count = min(len(probabilities), _MOST_GROUPS)
        self._starts = (np.arange(count) * len(probabilities)) // count
        sizes = np.diff(np.r_[self._starts, len(probabilities)])
        x = np.add.reduceat(probabilities, self._starts) / sizes
        low, high = np.quantile(probabilities, [0.01, 0.99])
        self.grid = np.linspace(low, high, _POINTS)
        # The curve is drawn over the middle 98 % of the images; the distances from it are of all of them.
        nodes = np.r_[x.min(), self.grid, x.max()]
        self._x = x
        self._left = np.clip(np.searchsorted(nodes, x, side="right") - 1, 0, len(nodes) - 2)
        gap = nodes[self._left + 1] - nodes[self._left]
        self._part = np.divide(x - nodes[self._left], gap, out=np.zeros_like(x), where=gap > 0)
        distance = np.abs(x - nodes[:, None])
        reach = np.partition(distance, max(1, int(SPAN * count)) - 1, axis=1)[:, max(1, int(SPAN * count)) - 1]
        kernel = np.clip(1 - (distance / np.maximum(reach, 1e-12)[:, None]) ** 3, 0, None) ** 3
        shift = x - nodes[:, None]
        self._moments = np.concatenate([kernel, kernel * shift, kernel * shift**2]).T
        self._answers = np.concatenate([kernel, kernel * shift]).T

    def statistic(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """Return `smooth_calibration` [R, 40], observed shares at `grid`, and `ici`, `e50` and `e90`, [R] each.

        The latter are the mean, the median and the 90th percentile over the images of the distance from the probability
        to the curve, between whose points it is linear (Austin and Steyerberg, Statistics in Medicine 38, 2019). NaN
        where a fit does not exist.
        """
        mass = self._summed(weights)
        observed = self._fitted(mass, self._summed(weights * self._y))
        return {"smooth_calibration": observed[:, 1:-1], **self._distances(observed, mass)}

    def expected_if_calibrated(self, clusters: np.ndarray, rng: np.random.Generator) -> dict[str, dict[str, float]]:
        """Return what `ici`, `e50` and `e90` would be if every probability were right: their bias at this size.

        Labels are drawn with the probabilities as they are. Images of a patient share one draw: as good as all have one
        label.

        Args:
            clusters: The patient of each image, int [N].
            rng: Of the draws.

        Returns:
            For each the `mean`, and the `limit` that 95 of 100 perfectly calibrated models would stay below.
        """
        count, images = int(clusters.max()) + 1, len(clusters)
        size = max(1, _BLOCK_VALUES // images)
        parts = []
        for start in range(0, _DRAWS, size):
            draws = rng.random((min(size, _DRAWS - start), count))[:, clusters] < self._probabilities
            mass = self._summed(np.ones((len(draws), images)))
            parts.append(self._distances(self._fitted(mass, self._summed(draws.astype(np.float64))), mass))
        found = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        return {
            name: {"mean": float(values.mean()), "limit": float(np.quantile(values, 0.95))}
            for name, values in found.items()
        }

    def _summed(self, values: np.ndarray) -> np.ndarray:
        """Sum [R, N] within the groups of neighbours, [R, U]."""
        return np.add.reduceat(values, self._starts, axis=1) if len(self._starts) < values.shape[1] else values

    def _fitted(self, mass: np.ndarray, ones: np.ndarray) -> np.ndarray:
        """Return the observed shares [R, 42] at the nodes from weights and weighted labels [R, U]."""
        s0, s1, s2 = np.split(mass @ self._moments, 3, axis=1)
        t0, t1 = np.split(ones @ self._answers, 2, axis=1)
        determinant = s0 * s2 - s1**2
        solvable = determinant > 1e-9 * np.maximum(s0 * s2, 1e-300)
        level = np.divide(t0, s0, out=np.full_like(t0, np.nan), where=s0 > 0)
        fitted = np.divide(s2 * t0 - s1 * t1, determinant, out=level, where=solvable)
        return np.clip(fitted, 0.0, 1.0)

    def _distances(self, observed: np.ndarray, mass: np.ndarray) -> dict[str, np.ndarray]:
        left, right = observed[:, self._left], observed[:, self._left + 1]
        distance = np.abs(left + (right - left) * self._part - self._x)  # [R, U], as `mass`
        total = mass.sum(axis=1)
        order = np.argsort(distance, axis=1)
        ranked = np.take_along_axis(distance, order, axis=1)
        below = np.cumsum(np.take_along_axis(mass, order, axis=1), axis=1)
        found = {"ici": (distance * mass).sum(axis=1) / total}
        for name, share in (("e50", 0.5), ("e90", 0.9)):
            # The small factor keeps a share that is reached exactly from being missed by rounding.
            place = (below < (share * total * (1 - 1e-12))[:, None]).sum(axis=1)
            found[name] = np.where(np.isfinite(found["ici"]), ranked[np.arange(len(ranked)), place], np.nan)
        return found

    def curve(self, fit: np.ndarray, replicates: np.ndarray) -> dict[str, Any]:
        """Return the curve and its pointwise 95 % band, for `evaluation.json`."""
        if not np.isfinite(fit).all() or np.ptp(self.grid) == 0:
            return {"probability": [], "observed": [], "low": [], "high": []}
        low, high = percentile_band(replicates)
        return {"probability": self.grid.tolist(), "observed": fit.tolist(), "low": low, "high": high}
