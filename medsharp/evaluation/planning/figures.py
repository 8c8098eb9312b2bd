"""What each image adds to a figure: from that follows the figure's standard error in an evaluation of any size.

A figure of an evaluation is, but for terms of order 1 / n, its value in the population plus the mean of an influence
over the images (Hampel, JASA 69, 1974). Its variance is therefore that of a patient's sum of influences, whatever the
images of a patient have in common, which is what resampling patients estimates.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.special import expit

from medsharp.evaluation.planning.anticipated import Anticipated
from medsharp.evaluation.statistics.calibration import recalibrate
from medsharp.evaluation.statistics.intervals import Z


@dataclass(frozen=True)
class Precision:
    """A figure in a population, and what it varies by.

    Attributes:
        value: In the population.
        image_variance: Of an image's influence.
        patient_covariance: Of the influences of two images of a patient.
    """

    value: float
    image_variance: float
    patient_covariance: float

    def variance(self, anticipated: Anticipated) -> float:
        """Return the variance of the figure in an evaluation of one patient; divide by the number of patients."""
        images, pairs = anticipated.images, anticipated.pairs
        clustered = (images * self.image_variance + pairs * self.patient_covariance) / images**2
        return clustered * anticipated.design_effect


Influence = Callable[[Anticipated], tuple[float, np.ndarray]]
"""A population to a figure's value and the influence of each image [N], whose weighted mean is 0."""


@dataclass(frozen=True)
class Planned:
    """A figure that can be planned for.

    Attributes:
        key: Its name in files, and with `_width` in options.
        name: Its name in tables.
        influence: What computes it.
        bounds: The values it can take.
        width: Of the 95 % interval that is wished where nothing is wished: as `pmvalsampsize` has it; None where
            the figure is planned on request only.
        decides: Whether it is of decisions at an operating point.
        logarithm: Whether its interval is made on the logarithmic scale.
    """

    key: str
    name: str
    influence: Influence
    bounds: tuple[float, float]
    width: float | None
    decides: bool = False
    logarithm: bool = False

    def most(self, value: float) -> float:
        """Return the width of the widest interval around a value that stays in the figure's range."""
        low, high = self.bounds
        return math.inf if self.logarithm else 2 * min(value - low, high - value)

    def width_of(self, value: float, error: float) -> float:
        """Return the width of the 95 % interval at a standard error."""
        return 2 * value * math.sinh(Z * error) if self.logarithm else 2 * Z * error

    def error_of(self, value: float, width: float) -> float:
        """Return the standard error, of the logarithm where `logarithm` says so, at which the interval has a width."""
        return math.asinh(width / (2 * value)) / Z if self.logarithm else width / (2 * Z)


def precision(figure: Planned, anticipated: Anticipated) -> Precision:
    """Return a figure's value in a population and what it varies by."""
    value, influence = figure.influence(anticipated)
    weights, patients = anticipated.weights, anticipated.patients
    # Ordered pairs of images of a patient, each pair weighing as the patient does: (sum h)^2 - sum h^2.
    squares = np.bincount(patients, influence**2)
    products = np.bincount(patients, influence) ** 2 - squares
    sizes = np.bincount(patients)
    pairs = float(anticipated.patient_weights @ (sizes * (sizes - 1)))
    shared = float(anticipated.patient_weights @ products) / pairs if pairs else 0.0
    return Precision(value, float(weights @ influence**2), shared)


def _auroc(anticipated: Anticipated) -> tuple[float, np.ndarray]:
    """AUROC `A`; `(V10 - A) / q` of a positive, `(V01 - A) / (1 - q)` of a negative (DeLong, Biometrics 44, 1988)."""
    labels, weights = anticipated.labels, anticipated.weights
    share = float(weights @ labels)
    over = _below(anticipated.log_odds[labels], anticipated.log_odds[~labels], weights[~labels] / (1 - share))
    under = 1 - _below(anticipated.log_odds[~labels], anticipated.log_odds[labels], weights[labels] / share)
    area = float(weights[labels] @ over / share)
    influence = np.empty(len(labels))
    influence[labels] = (over - area) / share
    influence[~labels] = (under - area) / (1 - share)
    return area, influence


def _below(values: np.ndarray, others: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the weight of `others` below each value, that of ties half."""
    order = np.argsort(others, kind="stable")
    summed = np.concatenate([[0.0], np.cumsum(weights[order])])
    first, last = (summed[np.searchsorted(others[order], values, side=side)] for side in ("left", "right"))
    return (first + last) / 2


def _sensitivity(anticipated: Anticipated) -> tuple[float, np.ndarray]:
    return _share(_flags(anticipated), anticipated.labels, anticipated.weights)


def _specificity(anticipated: Anticipated) -> tuple[float, np.ndarray]:
    return _share(~_flags(anticipated), ~anticipated.labels, anticipated.weights)


def _share(right: np.ndarray, of: np.ndarray, weights: np.ndarray) -> tuple[float, np.ndarray]:
    whole = float(weights @ of)
    value = float(weights @ (right & of)) / whole
    return value, of * (right - value) / whole


def _observed_to_expected(anticipated: Anticipated) -> tuple[float, np.ndarray]:
    """O:E, with the influence on its logarithm: `y / O - p / E`."""
    probabilities, weights = expit(anticipated.log_odds), anticipated.weights
    observed, expected = float(weights @ anticipated.labels), float(weights @ probabilities)
    return observed / expected, anticipated.labels / observed - probabilities / expected


def _intercept(anticipated: Anticipated) -> tuple[float, np.ndarray]:
    """`a` of `logit P = a + L`; the score `y - q` over the information `E q (1 - q)`."""
    labels, odds, weights = anticipated.labels, anticipated.log_odds, anticipated.weights
    if anticipated.contradicted:
        return math.nan, np.full(len(labels), math.nan)
    share = float(weights @ labels)
    large = float(brentq(lambda a: float(weights @ expit(a + odds)) - share, -50.0, 50.0))
    risk = expit(large + odds)
    return large, (labels - risk) / float(weights @ (risk * (1 - risk)))


def recalibration(anticipated: Anticipated) -> tuple[float, float]:
    """Return `c` and `b` of `logit P = c + b L`, NaN where the fit does not exist."""
    weights = anticipated.weights
    if anticipated.contradicted:
        return math.nan, math.nan
    fit = recalibrate(anticipated.labels, expit(anticipated.log_odds), weights[None] * len(weights))
    return float(fit.constant[0]), float(fit.slope[0])


def _slope(anticipated: Anticipated) -> tuple[float, np.ndarray]:
    """`b` of `logit P = c + b L`: the scores `(y - q) (1, L)` through the inverse of the information."""
    labels, odds, weights = anticipated.labels, anticipated.log_odds, anticipated.weights
    constant, slope = recalibration(anticipated)
    risk = expit(constant + slope * odds)
    spread = weights * risk * (1 - risk)
    whole, mean, square = float(spread.sum()), float(spread @ odds), float(spread @ odds**2)
    return slope, (labels - risk) * (whole * odds - mean) / (whole * square - mean**2)


def _net_benefit(anticipated: Anticipated) -> tuple[float, np.ndarray]:
    """Net benefit over prevalence, `(TP - FP t / (1 - t)) / P` (Riley et al., Statistics in Medicine 40, 2021, 3.4)."""
    labels, weights = anticipated.labels, anticipated.weights
    benefit = _flags(anticipated) * _worth(anticipated)
    share = float(weights @ labels)
    value = float(weights @ benefit) / share
    return value, (benefit - value * labels) / share


def _net_benefit_gain(anticipated: Anticipated) -> tuple[float, np.ndarray]:
    """Net benefit less that of the better of treating all and none (Vickers and Elkin, Med Decis Making 26, 2006)."""
    worth, weights = _worth(anticipated), anticipated.weights
    treats_all = float(weights @ worth) > 0
    gain = (_flags(anticipated) * 1.0 - treats_all) * worth
    value = float(weights @ gain)
    return value, gain - value


def _treat_all(anticipated: Anticipated) -> tuple[float, np.ndarray]:
    """Net benefit of treating all."""
    worth = _worth(anticipated)
    value = float(anticipated.weights @ worth)
    return value, worth - value


def _worth(anticipated: Anticipated) -> np.ndarray:
    """Return what it is worth to flag each image: 1 for a positive, less the threshold's odds for a negative [N]."""
    threshold = anticipated.threshold
    assert threshold is not None
    return np.where(anticipated.labels, 1.0, -threshold / (1 - threshold))


def _flags(anticipated: Anticipated) -> np.ndarray:
    assert anticipated.flagged is not None
    return anticipated.flagged


_INFINITE = float("inf")

TREAT_ALL = Planned("treat_all", "net benefit of treating all", _treat_all, (-_INFINITE, 1.0), None, decides=True)
"""What a gain is over, where it is above 0; not planned for itself."""

FIGURES = {
    figure.key: figure
    for figure in (
        Planned("auroc", "AUROC", _auroc, (0.0, 1.0), 0.1),
        Planned("sensitivity", "sensitivity", _sensitivity, (0.0, 1.0), 0.1, decides=True),
        Planned("specificity", "specificity", _specificity, (0.0, 1.0), 0.1, decides=True),
        Planned("oe", "O:E", _observed_to_expected, (0.0, _INFINITE), 0.2, logarithm=True),
        Planned("intercept", "calibration intercept", _intercept, (-_INFINITE, _INFINITE), None),
        Planned("slope", "calibration slope", _slope, (-_INFINITE, _INFINITE), 0.2),
        Planned("net_benefit", "standardized net benefit", _net_benefit, (-_INFINITE, 1.0), 0.2, decides=True),
        Planned(
            "net_benefit_gain",
            "net benefit over treating all or none",
            _net_benefit_gain,
            (-1.0, 1.0),
            None,
            decides=True,
        ),
    )
}
"""By key, in the order of tables."""
