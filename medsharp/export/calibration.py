"""The temperature, estimated on internal validation predictions alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize_scalar

from medsharp.inference.predictor import softmax

_FEWEST_IMAGES = 20
"""Fewer validation images than this tell a temperature of 1 from no other."""

_LOG_LIMIT = 7.0
"""Temperatures are looked for between exp(-7) and exp(7): an estimate there is a bound, not an estimate."""

_LARGEST_ERROR = 0.5
"""Standard error of log T above which none is used that makes probabilities more extreme, or may as well be 1."""


@dataclass(frozen=True)
class Temperature:
    """What logits are divided by before softmax.

    Attributes:
        value: The estimate, or 1 where there is none.
        obstacle: Why there is none: the end of a sentence; empty where there is one.
    """

    value: float
    obstacle: str = ""


def estimate_temperature(logits: np.ndarray, labels: np.ndarray) -> Temperature:
    """Estimate the temperature that minimises the log loss of `softmax(logits / T)` (Guo et al., ICML 2017, sec. 4.2).

    The loss is convex in 1 / T, and its minimum is an estimate only where it lies between the ends. It falls for ever
    as T goes to 0 where every image has its label's logit on top (the classes are separated), and as T grows where
    labels' logits are on the average no higher than the others'. What few images say of T is told by the standard error
    of log T, from the Fisher information `sum of Var_p(z) / T^2`.

    Args:
        logits: [N, C].
        labels: int [N].

    Returns:
        The estimate, or 1 and why the logits are left as they are.
    """
    logits = logits.astype(np.float64)
    if len(labels) < _FEWEST_IMAGES:
        return Temperature(1.0, f"{len(labels)} validation images are too few, at least {_FEWEST_IMAGES} are needed")
    if len(np.unique(labels)) < 2:
        return Temperature(1.0, "the validation images are of one class")
    of_label = logits[np.arange(len(labels)), labels]  # [N]
    if (of_label >= logits.max(axis=1)).all():
        return Temperature(1.0, "the validation images are perfectly separated, which fits any temperature near 0")
    if (of_label - logits.mean(axis=1)).mean() <= 0:
        return Temperature(1.0, "the validation images are told apart no better than by chance")

    def loss(log_temperature: float) -> float:
        shares = softmax(logits / np.exp(log_temperature))
        return float(-np.log(shares[np.arange(len(labels)), labels] + 1e-300).mean())

    best = minimize_scalar(loss, bounds=(-_LOG_LIMIT, _LOG_LIMIT), method="bounded", options={"xatol": 1e-6})
    log_temperature = float(best.x)
    temperature = float(np.exp(log_temperature))
    if abs(log_temperature) > _LOG_LIMIT - 1e-3:
        end = "below" if log_temperature < 0 else "above"
        return Temperature(
            1.0, f"the best temperature lies {end} {np.exp(log_temperature):.2g}, where none is looked for"
        )
    # d log p / d log T has variance Var_p(z / T): of each image [N], under its own probabilities.
    scaled = logits / temperature
    shares = softmax(scaled)
    variance = (shares * scaled**2).sum(axis=1) - (shares * scaled).sum(axis=1) ** 2
    error = 1 / np.sqrt(max(float(variance.sum()), 1e-12))
    # Taking confidence away on little evidence is honest; adding it is not.
    if error > _LARGEST_ERROR and log_temperature < 1.96 * error:
        low, high = (
            np.exp(np.clip(log_temperature + side * 1.96 * error, -_LOG_LIMIT, _LOG_LIMIT)) for side in (-1, 1)
        )
        return Temperature(
            1.0,
            f"{len(labels)} validation images, nearly separated or few, leave it open (95 % interval {low:.2g} to "
            f"{high:.2g})",
        )
    return Temperature(temperature)


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """Return the temperature of `estimate_temperature`: 1 where the images tell none.

    Args:
        logits: [N, C].
        labels: int [N].
    """
    return estimate_temperature(logits, labels).value
