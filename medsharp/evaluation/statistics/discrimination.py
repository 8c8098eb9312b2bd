"""How well scores rank positives above negatives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from medsharp.evaluation.statistics.bootstrap import Statistic

GRID = np.linspace(0, 1, 101)
"""Where bands of ROC and precision-recall curves are computed: false-positive rates, and recalls."""


def auroc(labels: np.ndarray, scores: np.ndarray) -> float:
    """Area under the ROC curve: the chance that a positive scores higher than a negative, ties counting half.

    Args:
        labels: bool or {0, 1} [N].
        scores: float [N].

    Returns:
        The area, or NaN where there is only one class, no image, or a score that is not finite.
    """
    if not len(scores) or not np.isfinite(scores).all():
        return float("nan")
    return float(WeightedRanks(labels, scores).auroc(np.ones((1, len(labels))))[0])


@dataclass(frozen=True)
class Ranking:
    """Weighted counts of positives and negatives along the distinct scores, from the highest down.

    Attributes:
        thresholds: The distinct scores, descending [U].
        positives: Weight of the positives at each [R, U].
        negatives: Weight of the negatives at each [R, U].
    """

    thresholds: np.ndarray
    positives: np.ndarray
    negatives: np.ndarray

    @cached_property
    def true(self) -> np.ndarray:
        """Positives found when the first 0, 1, ..., U distinct scores count as positive: [R, U + 1]."""
        return sums_from_zero(self.positives)

    @cached_property
    def false(self) -> np.ndarray:
        """Negatives flagged likewise [R, U + 1]."""
        return sums_from_zero(self.negatives)

    def flagged_from(self, threshold: float | np.ndarray) -> np.ndarray:
        """Return how many distinct scores reach each threshold: where to look into `true` and `false`."""
        return np.searchsorted(-self.thresholds, -np.asarray(threshold), side="right")


RankingStatistic = Callable[[Ranking], dict[str, np.ndarray]]
"""Ranked weights to values by name, each [R] or [R, G]."""


class WeightedRanks:
    """Rankings for many weightings of the same scores; sorts once.

    Args:
        labels: bool or {0, 1} [N].
        scores: float [N], finite.
    """

    def __init__(self, labels: np.ndarray, scores: np.ndarray) -> None:
        order = np.argsort(-np.asarray(scores, dtype=np.float64), kind="stable")
        ordered = np.asarray(scores, dtype=np.float64)[order]
        self._positive = np.asarray(labels, dtype=bool)[order].astype(np.float64)
        self._starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
        # Cases come sorted from `evaluate_predictions`; then nothing has to be moved for each resample.
        self._order = None if (order[1:] > order[:-1]).all() else order
        self.thresholds = ordered[self._starts]
        """The distinct scores, from the highest down."""

    def ranking(self, weights: np.ndarray) -> Ranking:
        """Sum weights [R, N] at each distinct score."""
        ordered = weights if self._order is None else weights[:, self._order]
        positives = ordered * self._positive
        negatives = ordered - positives
        if len(self._starts) < len(self._positive):
            positives = np.add.reduceat(positives, self._starts, axis=1)
            negatives = np.add.reduceat(negatives, self._starts, axis=1)
        return Ranking(self.thresholds, positives, negatives)

    def statistic(self, parts: Sequence[RankingStatistic]) -> Statistic:
        """Return what computes all parts from weights [R, N], ranking them once."""

        def computed(weights: np.ndarray) -> dict[str, np.ndarray]:
            ranking = self.ranking(weights)
            values: dict[str, np.ndarray] = {}
            for part in parts:
                values.update(part(ranking))
            return values

        return computed

    def auroc(self, weights: np.ndarray) -> np.ndarray:
        """Return the area under the ROC curve for each row of weights [R, N]; NaN where a class has no weight."""
        return areas(self.ranking(weights))["auroc"]

    def average_precision(self, weights: np.ndarray) -> np.ndarray:
        """Return the area under the precision-recall step curve for each row of weights [R, N]."""
        return areas(self.ranking(weights))["auprc"]


def areas(ranking: Ranking) -> dict[str, np.ndarray]:
    """Return AUROC (Mann-Whitney, ties half) and average precision (without interpolation), [R] each."""
    true, false = ranking.true, ranking.false
    total, others = true[:, -1], false[:, -1]
    # A positive at u beats the negatives that are flagged only after it, and half of those tied with it.
    won = total * others - np.einsum("ru,ru->r", ranking.positives, (false[:, 1:] + false[:, :-1]) / 2)
    flagged = true[:, 1:] + false[:, 1:]
    precision = np.divide(true[:, 1:], flagged, out=np.zeros_like(flagged), where=flagged > 0)
    return {
        "auroc": ratio(won, total * others),
        "auprc": ratio(np.einsum("ru,ru->r", precision, ranking.positives), total),
    }


def curve_values(ranking: Ranking) -> dict[str, np.ndarray]:
    """Return, [R, 101] each, sensitivity at each false-positive rate and precision at each recall of `GRID`."""
    sensitivity = np.full((len(ranking.true), len(GRID)), np.nan)
    precision = np.full((len(ranking.true), len(GRID)), np.nan)
    for row, (true, false) in enumerate(zip(ranking.true, ranking.false, strict=True)):
        if true[-1] == 0 or false[-1] == 0:
            continue
        sensitivity[row] = np.interp(GRID * false[-1], false, true) / true[-1]
        reached = np.searchsorted(true, np.maximum(GRID * true[-1] * (1 - 1e-12), np.finfo(float).tiny))
        precision[row] = true[reached] / (true[reached] + false[reached])
    return {"roc_band": sensitivity, "precision_band": precision}


def roc_curve(labels: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return false-positive and true-positive rates from (0, 0) to (1, 1), a point for each distinct score."""
    ranking = _of_all(labels, scores)
    return ranking.false[0] / ranking.false[0, -1], ranking.true[0] / ranking.true[0, -1]


def precision_recall_curve(labels: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return recall and precision, a point for each distinct score, from the highest score down."""
    ranking = _of_all(labels, scores)
    true, false = ranking.true[0, 1:], ranking.false[0, 1:]
    return true / true[-1], true / (true + false)


def _of_all(labels: np.ndarray, scores: np.ndarray) -> Ranking:
    return WeightedRanks(labels, scores).ranking(np.ones((1, len(labels))))


def sums_from_zero(parts: np.ndarray) -> np.ndarray:
    """Return the sums of the first 0, 1, ..., U values of each row: [R, U] to [R, U + 1]."""
    sums = np.zeros((parts.shape[0], parts.shape[1] + 1))
    np.cumsum(parts, axis=1, out=sums[:, 1:])
    return sums


def ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Return `part / whole` of values that are not below 0: infinite over 0, NaN of 0 over 0 and of what is NaN."""
    return np.divide(part, whole, out=np.where((part > 0) & (whole == 0), np.inf, np.nan), where=whole > 0)
