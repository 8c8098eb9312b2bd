"""One corruption at one severity: what the model is worth there, and whose decision has changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from medsharp.evaluation.statistics.bootstrap import Statistic, draw
from medsharp.evaluation.statistics.estimate import Estimate
from medsharp.evaluation.statistics.figures import Cases, Measured, estimates_of, measure, share_estimate
from medsharp.evaluation.statistics.scalars import statistics_of

FIGURES = (
    "auroc",
    "brier",
    "calibration_intercept",
    "calibration_slope",
    "sensitivity",
    "specificity",
    "balanced_accuracy",
    "net_benefit_at_threshold",
)
FLIPS = ("all", "positive", "negative", "to_positive", "to_negative")


@dataclass(frozen=True)
class Resamples:
    """Patients drawn with replacement, each with all images; the same draws for every figure of a data set.

    Attributes:
        clusters: The patient of each image, int 0, 1, ... [N].
        count: How many resamples.
        seed: Of the draws.
    """

    clusters: np.ndarray
    count: int
    seed: int

    def measure(self, statistics: Sequence[Statistic], order: np.ndarray | None = None) -> Measured:
        """Compute statistics of weights [R, N], on all images and on the resamples.

        Args:
            statistics: What to compute.
            order: The order of the images that the statistics take [N]; as in `clusters` by default.
        """
        clusters = self.clusters if order is None else self.clusters[order]
        return measure(clusters, statistics, drawn=self._drawn)

    @cached_property
    def _drawn(self) -> np.ndarray:
        return draw(int(self.clusters.max()) + 1, self.count, np.random.default_rng([self.seed, 0x5EED]))

    def patients(self) -> int:
        """Count the patients."""
        return len(np.unique(self.clusters))


@dataclass(frozen=True)
class Cell:
    """A model's answers to one version of the images.

    Attributes:
        flagged: Which images it calls positive, bool [N].
        figures: Those of `FIGURES` by name.
        flips: Those of `FLIPS` by name: the share of images whose decision is another than on the clean ones, among
            all, positive and negative images; and, among all, of those that became positive or negative.
    """

    flagged: np.ndarray = field(repr=False)
    figures: dict[str, Estimate]
    flips: dict[str, Estimate]


class Judge:
    """Judges answers of one model on one data set, always on the same resamples.

    Args:
        labels: Whether each image is of the positive class, bool [N]; both occur.
        threshold: Frozen in the bundle; a score that equals it counts as positive.
        resamples: Of the patients.
    """

    def __init__(self, labels: np.ndarray, threshold: float, resamples: Resamples) -> None:
        self.labels = labels
        self.threshold = threshold
        self.resamples = resamples

    def judge(self, scores: np.ndarray, clean: np.ndarray) -> Cell:
        """Measure answers.

        Args:
            scores: Probability of the positive class on the images as they are now, [N].
            clean: On the clean images, [N].
        """
        flagged, before = scores >= self.threshold, clean >= self.threshold
        order = np.argsort(-scores, kind="stable")
        cases = Cases(self.labels[order], scores[order], self.resamples.clusters[order], self.threshold)
        measured = self.resamples.measure(statistics_of(cases, FIGURES), order)
        estimates = estimates_of(cases, measured)
        everyone, changed = np.ones_like(self.labels), flagged != before
        flips = self.shares(
            {
                "all": (changed, everyone),
                "positive": (changed, self.labels),
                "negative": (changed, ~self.labels),
                "to_positive": (changed & flagged, everyone),
                "to_negative": (changed & before, everyone),
            }
        )
        return Cell(flagged, {name: _plain(estimates[name]) for name in FIGURES}, flips)

    def shares(self, parts: dict[str, tuple[np.ndarray, np.ndarray]]) -> dict[str, Estimate]:
        """Estimate the share of `part[0]` among `part[1]` for each part.

        Args:
            parts: Two masks [N] by name.
        """
        over = np.stack([part & among for part, among in parts.values()], axis=1).astype(np.float64)
        under = np.stack([among for _, among in parts.values()], axis=1).astype(np.float64)

        def statistic(weights: np.ndarray) -> dict[str, np.ndarray]:
            whole = weights @ under
            found = np.divide(weights @ over, whole, out=np.full_like(whole, np.nan), where=whole > 0)
            return dict(zip(parts, found.T, strict=True))

        measured = self.resamples.measure([statistic])
        cases = Cases(self.labels, np.zeros(len(self.labels)), self.resamples.clusters, self.threshold)
        return {name: _plain(share_estimate(measured, name, among, cases)) for name, (_, among) in parts.items()}


def _plain(estimate: Estimate) -> Estimate:
    """Leave out what stands beside a share in a report of one data set; hundreds of cells have the same."""
    return replace(estimate, n=None, extra={})
