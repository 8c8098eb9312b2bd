"""What happens at the frozen operating point: decide for the positive class from a probability on."""

from __future__ import annotations

import numpy as np

from medsharp.evaluation.bootstrap import Statistic


def decisions(labels: np.ndarray, scores: np.ndarray, threshold: float) -> Statistic:
    """Return what computes sensitivity, specificity, predictive values, accuracies and prevalence.

    Args:
        labels: bool [N].
        scores: Probability of the positive class [N].
        threshold: A score that equals it counts as positive.

    Returns:
        Weights [R, N] to figures [R]; NaN where the denominator has no weight.
    """
    flagged = scores >= threshold
    columns = np.stack([labels & flagged, labels, flagged, np.ones_like(labels)], axis=1).astype(np.float64)

    def statistic(weights: np.ndarray) -> dict[str, np.ndarray]:
        true_positives, positives, flags, total = (weights @ columns).T
        negatives = total - positives
        true_negatives = negatives - (flags - true_positives)
        sensitivity, specificity = _share(true_positives, positives), _share(true_negatives, negatives)
        return {
            "sensitivity": sensitivity,
            "specificity": specificity,
            "ppv": _share(true_positives, flags),
            "npv": _share(true_negatives, total - flags),
            "balanced_accuracy": (sensitivity + specificity) / 2,
            "accuracy": _share(true_positives + true_negatives, total),
            "prevalence": _share(positives, total),
        }

    return statistic


def denominators(labels: np.ndarray, scores: np.ndarray, threshold: float) -> dict[str, np.ndarray]:
    """Return which images [N] each share is a share of."""
    flagged = scores >= threshold
    everything = np.ones_like(labels)
    return {
        "sensitivity": labels,
        "specificity": ~labels,
        "ppv": flagged,
        "npv": ~flagged,
        "accuracy": everything,
        "prevalence": everything,
    }


def operating_point(labels: np.ndarray, scores: np.ndarray, threshold: float) -> dict[str, float | int]:
    """Return the threshold and the four counts of images."""
    flagged = scores >= threshold
    return {
        "threshold": float(threshold),
        "true_positives": int((labels & flagged).sum()),
        "false_negatives": int((labels & ~flagged).sum()),
        "false_positives": int((~labels & flagged).sum()),
        "true_negatives": int((~labels & ~flagged).sum()),
    }


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.full(len(part), np.nan), where=whole > 0)
