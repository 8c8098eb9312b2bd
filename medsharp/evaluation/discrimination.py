"""How well scores rank positives above negatives."""

from __future__ import annotations

import numpy as np


def auroc(labels: np.ndarray, scores: np.ndarray) -> float:
    """Area under the ROC curve: the chance that a positive scores higher than a negative, ties counting half.

    Args:
        labels: bool or {0, 1} [N].
        scores: float [N].

    Returns:
        The area, or NaN where there is only one class.
    """
    return float(WeightedRanks(labels, scores).auroc(np.ones((1, len(labels))))[0])


class WeightedRanks:
    """AUROC and average precision for many weightings of the same scores; sorts once.

    Args:
        labels: bool or {0, 1} [N].
        scores: float [N].
    """

    def __init__(self, labels: np.ndarray, scores: np.ndarray) -> None:
        self.order = np.argsort(scores, kind="stable")
        ordered = np.asarray(scores, dtype=np.float64)[self.order]
        self.positive = np.asarray(labels, dtype=bool)[self.order]
        self.starts = np.flatnonzero(np.r_[True, np.diff(ordered) > 0])

    def _by_score(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Sum the weights [R, N] of positives and of negatives at each distinct score, ascending."""
        ordered = weights[:, self.order]
        positives = np.add.reduceat(ordered * self.positive, self.starts, axis=1)
        negatives = np.add.reduceat(ordered * ~self.positive, self.starts, axis=1)
        return positives, negatives

    def auroc(self, weights: np.ndarray) -> np.ndarray:
        """Return the area under the ROC curve for each row of weights [R, N]; NaN where a class has no weight."""
        positives, negatives = self._by_score(weights)
        below = np.cumsum(negatives, axis=1) - negatives
        won = (positives * (below + negatives / 2)).sum(axis=1)
        pairs = positives.sum(axis=1) * negatives.sum(axis=1)
        return np.divide(won, pairs, out=np.full(len(weights), np.nan), where=pairs > 0)

    def average_precision(self, weights: np.ndarray) -> np.ndarray:
        """Return the area under the precision-recall step curve for each row of weights [R, N]."""
        positives, negatives = self._by_score(weights)
        found = np.cumsum(positives[:, ::-1], axis=1)
        flagged = found + np.cumsum(negatives[:, ::-1], axis=1)
        precision = np.divide(found, flagged, out=np.zeros_like(found), where=flagged > 0)
        total = positives.sum(axis=1)
        area = (precision * positives[:, ::-1]).sum(axis=1)
        return np.divide(area, total, out=np.full(len(weights), np.nan), where=total > 0)


def roc_curve(labels: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return false-positive and true-positive shares from (0, 0) to (1, 1), a point for each distinct score."""
    ranks = WeightedRanks(labels, scores)
    positives, negatives = (counts[0, ::-1] for counts in ranks._by_score(np.ones((1, len(labels)))))
    false, true = np.cumsum(negatives) / negatives.sum(), np.cumsum(positives) / positives.sum()
    return np.r_[0.0, false], np.r_[0.0, true]


def precision_recall_curve(labels: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return recall and precision, a point for each distinct score, from the highest score down."""
    ranks = WeightedRanks(labels, scores)
    positives, negatives = (counts[0, ::-1] for counts in ranks._by_score(np.ones((1, len(labels)))))
    found = np.cumsum(positives)
    return found / positives.sum(), found / (found + np.cumsum(negatives))
