"""Temperature and operating point, chosen on internal validation predictions alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize_scalar

from medsharp.bundle import OperatingPoint
from medsharp.errors import InputError
from medsharp.evaluation.statistics.bootstrap import draw
from medsharp.evaluation.statistics.intervals import percentile
from medsharp.inference.predictor import softmax

_FEWEST_IMAGES = 20
"""Fewer validation images than this tell a temperature of 1 from no other."""

_LOG_LIMIT = 7.0
"""Temperatures are looked for between exp(-7) and exp(7): an estimate there is a bound, not an estimate."""

_LARGEST_ERROR = 0.5
"""Standard error of log T above which none is used that makes probabilities more extreme, or may as well be 1."""

_FEW_OF_A_CLASS = 20
"""With fewer positives, a sensitivity of 0.95 means that all of them are found: one image moves the threshold."""


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


def choose_operating_point(
    scores: np.ndarray,
    positive: np.ndarray,
    sensitivity: float,
    *,
    clusters: np.ndarray | None = None,
    where: str = "internal validation images",
) -> OperatingPoint:
    """Choose the largest threshold that still finds the asked share of positives.

    It is laid half way down to the next lower score, so that rounding in another runtime does not move the decision.

    Args:
        scores: Calibrated probability of the positive class [N].
        positive: bool [N].
        sensitivity: Share of the positives that must score at or above the threshold.
        clusters: The patient of each image, int 0, 1, ... [N], which are resampled for the threshold's interval; each
            image by itself by default.
        where: What the images are.

    Raises:
        InputError: There are no positives or no negatives, or the sensitivity is no share above 0.
    """
    threshold = largest_threshold(scores, positive, sensitivity, where=where)
    flagged = scores >= threshold
    return OperatingPoint(
        threshold=threshold,
        rule=f"largest threshold with sensitivity >= {sensitivity:g} on {where}, laid half way down "
        f"to the next lower score{scarcity(int(positive.sum()), int((~positive).sum()), '; ')}",
        sensitivity=float(flagged[positive].mean()),
        specificity=float((~flagged[~positive]).mean()),
        images=len(scores),
        positives=int(positive.sum()),
        interval=threshold_interval(scores, positive, sensitivity, clusters),
    )


def largest_threshold(
    scores: np.ndarray, positive: np.ndarray, sensitivity: float, *, where: str = "internal validation images"
) -> float:
    """Return the threshold of `choose_operating_point` alone.

    Args:
        scores: Probability of the positive class [N].
        positive: bool [N].
        sensitivity: Share of the positives that must score at or above it.
        where: What the images are.

    Raises:
        InputError: There are no positives or no negatives, or the sensitivity is no share above 0.
    """
    check_choice(positive, sensitivity, where)
    return _threshold(scores, positive, np.ones(len(scores)), sensitivity)


def threshold_interval(
    scores: np.ndarray,
    positive: np.ndarray,
    sensitivity: float,
    clusters: np.ndarray | None = None,
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> tuple[float, float] | None:
    """Return how far the threshold strays: its 95 % interval over resampled patients, at the temperature as it is.

    Args:
        scores: As for `choose_operating_point`.
        positive: bool [N].
        sensitivity: Share of the positives to find.
        clusters: The patient of each image, int [N]; each image by itself by default.
        resamples: Of patients with all their images.
        seed: Of the draws.

    Returns:
        The 2.5 % and 97.5 % percentiles, or None where a single patient has all positives.
    """
    clusters = np.arange(len(scores)) if clusters is None else clusters
    if len(np.unique(clusters[positive])) < 2:
        return None
    weights = draw(int(clusters.max()) + 1, resamples, np.random.default_rng(seed))[:, clusters]  # [R, N]
    thresholds = [_threshold(scores, positive, row, sensitivity) for row in weights if row[positive].any()]
    return percentile(np.array(thresholds))


def _threshold(scores: np.ndarray, positive: np.ndarray, weights: np.ndarray, sensitivity: float) -> float:
    """Return the threshold where image n counts `weights[n]` times."""
    order = np.argsort(-scores[positive], kind="stable")
    found = np.cumsum(weights[positive][order], dtype=np.float64)  # positives at or above each score
    needed = np.ceil(sensitivity * found[-1] - 1e-9)
    least = float(scores[positive][order][np.searchsorted(found, needed)])
    below = scores[(scores < least) & (weights > 0)]
    return (least + float(below.max())) / 2 if len(below) else least / 2


def check_choice(positive: np.ndarray, sensitivity: float, where: str = "internal validation images") -> None:
    """Refuse what no operating point can be chosen with, before anything is computed.

    Args:
        positive: bool [N], of the images.
        sensitivity: Share of the positives to find.
        where: What the images are.

    Raises:
        InputError: There are no images, no positives or no negatives, or the sensitivity is no share above 0.
    """
    if not 0 < sensitivity <= 1:
        raise InputError(f"sensitivity {sensitivity:g} must be above 0 and at most 1")
    if len(positive) == 0:
        raise InputError(f"there are no {where}; no operating point can be chosen")
    if positive.all() or not positive.any():
        raise InputError(f"the {where} are of one class only; no operating point can be chosen")


def scarcity(positives: int, negatives: int, before: str = "") -> str:
    """Say that an operating point stands on few images of a class: `only 7 positives, so it is uncertain`, or nothing.

    Args:
        positives: Validation images of the positive class.
        negatives: The others.
        before: What to begin with, where something is said.
    """
    counts = {"positives": positives, "negatives": negatives}
    few = [f"{count} {name}" for name, count in counts.items() if count < _FEW_OF_A_CLASS]
    return f"{before}only {' and '.join(few)}, so it is uncertain" if few else ""
