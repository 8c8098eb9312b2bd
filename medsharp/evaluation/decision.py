"""Whether deciding by the model does more good than treating everyone or no one."""

from __future__ import annotations

import numpy as np

from medsharp.evaluation.bootstrap import Statistic

CUTS = np.round(np.linspace(0.01, 0.60, 60), 2)
"""Threshold probabilities of the decision curve: from which risk on one would act."""


def net_benefit(labels: np.ndarray, scores: np.ndarray, cuts: np.ndarray = CUTS) -> Statistic:
    """Return what computes net benefit at each cut `t` (Vickers and Elkin, Medical Decision Making 26, 2006).

    `TP / n - FP / n * t / (1 - t)`: true positives, less false positives at the price that the cut implies.

    Args:
        labels: bool [N].
        scores: Probability of the positive class [N].
        cuts: In (0, 1) [T].

    Returns:
        Weights [R, N] to `net_benefit` and `treat_all`, [R, T] each.
    """
    odds = cuts / (1 - cuts)
    worth = np.where(labels[:, None], 1.0, -odds)
    gain = np.where(scores[:, None] >= cuts, worth, 0.0)

    def statistic(weights: np.ndarray) -> dict[str, np.ndarray]:
        total = weights.sum(axis=1, keepdims=True)
        prevalence = (weights @ labels.astype(np.float64))[:, None] / total
        return {"net_benefit": weights @ gain / total, "treat_all": prevalence - (1 - prevalence) * odds}

    return statistic
