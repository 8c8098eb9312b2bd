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
    names = [name for rate in RATES for name in (_sensitivity_at(rate), _specificity_at(rate))]
    values = {name: np.full(len(ranking.true), np.nan) for name in ("partial_auroc", *names)}
    for row, (true, false) in enumerate(zip(ranking.true, ranking.false, strict=True)):
        positives, negatives = true[-1], false[-1]
        if positives == 0 or negatives == 0:
            continue
        values["partial_auroc"][row] = _partial(true / positives, 1 - false / negatives)
        for rate in RATES:
            # The small factors keep a rate that is reached exactly from being missed by rounding.
            last = np.searchsorted(false, (1 - rate) * negatives * (1 + 1e-9), side="right") - 1
            values[_sensitivity_at(rate)][row] = true[last] / positives
            first = np.searchsorted(true, rate * positives * (1 - 1e-9))
            values[_specificity_at(rate)][row] = 1 - false[first] / negatives
    return values


def _partial(sensitivity: np.ndarray, specificity: np.ndarray, least: float = PARTIAL_FROM) -> float:
    """Integrate specificity over sensitivities from `least` to 1, scaled so that guessing gives 0.5 and the best 1.

    McClish, Medical Decision Making 9 (1989): `(1 + (A - A_min) / (A_max - A_min)) / 2`, here with
    `A_max = 1 - least` and `A_min = (1 - least)^2 / 2`, the area below the diagonal.
    """
    first = int(np.searchsorted(sensitivity, least))
    x, y = sensitivity[first:], specificity[first:]
    if x[0] > least:
        start = float(np.interp(least, sensitivity[first - 1 : first + 1], specificity[first - 1 : first + 1]))
        x, y = np.r_[least, x], np.r_[start, y]
    largest, smallest = 1 - least, (1 - least) ** 2 / 2
    return float((1 + (np.trapezoid(y, x) - smallest) / (largest - smallest)) / 2)


def _sensitivity_at(rate: float) -> str:
    return f"sensitivity_at_specificity_{rate * 100:.0f}"


def _specificity_at(rate: float) -> str:
    return f"specificity_at_sensitivity_{rate * 100:.0f}"
