"""Temperature and operating point, chosen on internal validation predictions alone."""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize_scalar

from medsharp.bundle import OperatingPoint
from medsharp.errors import InputError
from medsharp.inference.predictor import softmax

_LOG_LIMIT = 3.0
"""Temperatures stay between exp(-3) and exp(3): beyond, the validation set was separated and says nothing."""


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """Return the temperature that minimises the log loss of `softmax(logits / T)` (Guo et al., ICML 2017, section 4.2).

    Args:
        logits: [N, C].
        labels: int [N].
    """

    def loss(log_temperature: float) -> float:
        shares = softmax(logits.astype(np.float64) / np.exp(log_temperature))
        return float(-np.log(shares[np.arange(len(labels)), labels] + 1e-300).mean())

    found = minimize_scalar(loss, bounds=(-_LOG_LIMIT, _LOG_LIMIT), method="bounded", options={"xatol": 1e-6})
    return float(np.exp(found.x))


def choose_operating_point(scores: np.ndarray, positive: np.ndarray, sensitivity: float) -> OperatingPoint:
    """Choose the largest threshold that still finds the asked share of positives.

    It is laid half way down to the next lower score, so that rounding in another runtime does not move the decision.

    Args:
        scores: Calibrated probability of the positive class [N].
        positive: bool [N].
        sensitivity: Share of the positives that must score at or above the threshold.

    Raises:
        InputError: There are no positives or no negatives, or the sensitivity is no share above 0.
    """
    check_choice(positive, sensitivity)
    ordered = np.sort(scores[positive])[::-1]
    needed = int(np.ceil(sensitivity * len(ordered) - 1e-9))
    least = float(ordered[needed - 1])
    below = scores[scores < least]
    threshold = (least + float(below.max())) / 2 if len(below) else least / 2
    flagged = scores >= threshold
    return OperatingPoint(
        threshold=threshold,
        rule=f"largest threshold with sensitivity >= {sensitivity:g} on internal validation images, laid half way down "
        f"to the next lower score{_few(len(ordered))}",
        sensitivity=float(flagged[positive].mean()),
        specificity=float((~flagged[~positive]).mean()),
        images=len(scores),
        positives=int(positive.sum()),
    )


def check_choice(positive: np.ndarray, sensitivity: float) -> None:
    """Refuse what no operating point can be chosen with, before anything is computed.

    Args:
        positive: bool [N], of the validation images.
        sensitivity: Share of the positives to find.

    Raises:
        InputError: There are no images, no positives or no negatives, or the sensitivity is no share above 0.
    """
    if not 0 < sensitivity <= 1:
        raise InputError(f"sensitivity {sensitivity:g} must be above 0 and at most 1")
    if len(positive) == 0:
        raise InputError("the validation split is empty; no operating point can be chosen")
    if positive.all() or not positive.any():
        raise InputError("the validation split has images of one class only; no operating point can be chosen")


def _few(positives: int) -> str:
    # With fewer than 20 positives, 0.95 means that all of them are found: one image moves the threshold.
    return f"; only {positives} positives, so it is uncertain" if positives < 20 else ""
