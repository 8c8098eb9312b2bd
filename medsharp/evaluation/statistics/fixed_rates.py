"""What part of the ROC curve matters: where sensitivity, or specificity, is held high.

These figures choose their threshold on the very images that they describe. They compare models; they are not what
happens at the frozen operating point.
"""

from __future__ import annotations

import numpy as np

from medsharp.evaluation.statistics.discrimination import Ranking

RATES = (0.90, 0.95)
"""Where the one rate is held while the other is reported."""

PARTIAL_FROM = 0.90
"""The partial area counts sensitivities from here to 1."""


def at_fixed_rates(ranking: Ranking) -> dict[str, np.ndarray]:
    """Return partial AUROC, sensitivity at fixed specificities and the reverse, [R] each; NaN where a class is empty.

    Sensitivity at specificity `s` is the highest that a threshold on these scores reaches with a specificity of `s` or
    more; nothing is interpolated between thresholds.
    """
    true, false = ranking.true, ranking.false  # [R, U + 1]
    positives, negatives = true[:, -1], false[:, -1]
    rows = np.arange(len(true))
    with np.errstate(divide="ignore", invalid="ignore"):
        values = {"partial_auroc": _partial(true / positives[:, None], 1 - false / negatives[:, None])}
        for rate in RATES:
            # The small factors keep a rate that is reached exactly from being missed by rounding.
            last = _count(false <= ((1 - rate) * negatives * (1 + 1e-9))[:, None]) - 1
            values[_sensitivity_at(rate)] = true[rows, last] / positives
            first = _count(true < (rate * positives * (1 - 1e-9))[:, None])
            values[_specificity_at(rate)] = 1 - false[rows, first] / negatives
    empty = (positives == 0) | (negatives == 0)
    return {name: np.where(empty, np.nan, value) for name, value in values.items()}


def _partial(sensitivity: np.ndarray, specificity: np.ndarray, least: float = PARTIAL_FROM) -> np.ndarray:
    """Integrate specificity over sensitivities from `least` to 1, scaled so that guessing gives 0.5 and the best 1.

    McClish, Medical Decision Making 9 (1989): `(1 + (A - A_min) / (A_max - A_min)) / 2`, here with
    `A_max = 1 - least` and `A_min = (1 - least)^2 / 2`, the area below the diagonal.

    Args:
        sensitivity: Ascending from 0 to 1 [R, U + 1].
        specificity: Of the same thresholds [R, U + 1].
        least: Where to begin.
    """
    rows = np.arange(len(sensitivity))
    first = np.maximum(_count(sensitivity < least), 1)  # the first point at `least` or above it; none is at 0
    x, y = sensitivity[rows, first], specificity[rows, first]
    x0, y0 = sensitivity[rows, first - 1], specificity[rows, first - 1]
    start = y - (x - least) * (y - y0) / (x - x0)  # on the line to the point before
    strips = np.diff(sensitivity, axis=1) * (specificity[:, 1:] + specificity[:, :-1]) / 2  # [R, U], of the whole curve
    strips *= np.arange(strips.shape[1]) >= first[:, None]
    area = strips.sum(axis=1) + (x - least) * (start + y) / 2
    largest, smallest = 1 - least, (1 - least) ** 2 / 2
    return np.asarray((1 + (area - smallest) / (largest - smallest)) / 2)


def _count(mask: np.ndarray) -> np.ndarray:
    """Count what holds in each row: of ascending values, where `searchsorted` would put the limit."""
    return np.count_nonzero(mask, axis=1)


def _sensitivity_at(rate: float) -> str:
    return f"sensitivity_at_specificity_{rate * 100:.0f}"


def _specificity_at(rate: float) -> str:
    return f"specificity_at_sensitivity_{rate * 100:.0f}"
