"""How well scores rank positives above negatives."""

from __future__ import annotations

import numpy as np

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


class WeightedRanks:
    """AUROC, average precision and curves for many weightings of the same scores; sorts once.

    Args:
        labels: bool or {0, 1} [N].
        scores: float [N], finite.
    """

    def __init__(self, labels: np.ndarray, scores: np.ndarray) -> None:
        self._order = np.argsort(scores, kind="stable")
        ordered = np.asarray(scores, dtype=np.float64)[self._order]
        self._positive = np.asarray(labels, dtype=bool)[self._order]
        self._starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
        self.thresholds = ordered[self._starts][::-1]
        """The distinct scores, from the highest down."""

    def counts(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the weight [R, U] of positives and of negatives at or above each of `thresholds`."""
        at, below = self._at_each_score(weights)
        return np.cumsum(at[:, ::-1], axis=1), np.cumsum(below[:, ::-1], axis=1)

    def auroc(self, weights: np.ndarray) -> np.ndarray:
        """Return the area under the ROC curve for each row of weights [R, N]; NaN where a class has no weight."""
        return _area(*self._at_each_score(weights))

    def average_precision(self, weights: np.ndarray) -> np.ndarray:
        """Return the area under the precision-recall step curve for each row of weights [R, N]."""
        return _average_precision(*self._at_each_score(weights))

    def figures(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """Return both areas, [R] each."""
        positives, negatives = self._at_each_score(weights)
        return {"auroc": _area(positives, negatives), "auprc": _average_precision(positives, negatives)}

    def curves(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """Return, [R, 101] each, sensitivity at each false-positive rate and precision at each recall of `GRID`."""
        found, flagged = self.counts(weights)
        sensitivity = np.full((len(weights), len(GRID)), np.nan)
        precision = np.full((len(weights), len(GRID)), np.nan)
        for row, (true, false) in enumerate(zip(found, flagged, strict=True)):
            if true[-1] == 0 or false[-1] == 0:
                continue
            sensitivity[row] = np.interp(GRID, np.r_[0.0, false / false[-1]], np.r_[0.0, true / true[-1]])
            reached = np.searchsorted(true, np.maximum(GRID * true[-1] * (1 - 1e-12), np.finfo(float).tiny))
            precision[row] = true[reached] / (true[reached] + false[reached])
        return {"roc_band": sensitivity, "precision_band": precision}

    def _at_each_score(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Sum the weights [R, N] of positives and of negatives at each distinct score, ascending: [R, U] each."""
        ordered = weights[:, self._order]
        positives = ordered * self._positive
        negatives = ordered - positives
        if len(self._starts) == len(self._order):
            return positives, negatives
        return np.add.reduceat(positives, self._starts, axis=1), np.add.reduceat(negatives, self._starts, axis=1)


def _area(positives: np.ndarray, negatives: np.ndarray) -> np.ndarray:
    below = np.cumsum(negatives, axis=1) - negatives / 2
    pairs = positives.sum(axis=1) * negatives.sum(axis=1)
    won = np.einsum("ru,ru->r", positives, below)
    return np.divide(won, pairs, out=np.full(len(pairs), np.nan), where=pairs > 0)


def _average_precision(positives: np.ndarray, negatives: np.ndarray) -> np.ndarray:
    found = np.cumsum(positives[:, ::-1], axis=1)
    flagged = found + np.cumsum(negatives[:, ::-1], axis=1)
    precision = np.divide(found, flagged, out=np.zeros_like(found), where=flagged > 0)
    total = positives.sum(axis=1)
    won = np.einsum("ru,ru->r", precision, positives[:, ::-1])
    return np.divide(won, total, out=np.full(len(total), np.nan), where=total > 0)


def roc_curve(labels: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return false-positive and true-positive rates from (0, 0) to (1, 1), a point for each distinct score."""
    true, false = _counts_of_all(labels, scores)
    return np.r_[0.0, false / false[-1]], np.r_[0.0, true / true[-1]]


def precision_recall_curve(labels: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return recall and precision, a point for each distinct score, from the highest score down."""
    true, false = _counts_of_all(labels, scores)
    return true / true[-1], true / (true + false)


def _counts_of_all(labels: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    true, false = WeightedRanks(labels, scores).counts(np.ones((1, len(labels))))
    return true[0], false[0]
