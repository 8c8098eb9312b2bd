"""95 % intervals: from resamples, and in closed form where resampling cannot give one."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from scipy.optimize import brentq
from scipy.special import ndtr, ndtri

MOST_AT_AN_END = 0.025
"""With more of the resamples at one end of a scale, the limit of a 95 % interval on that side is there too."""

Z = 1.959963984540054
"""The 97.5 % quantile of the normal distribution."""


def percentile(replicates: np.ndarray) -> tuple[float, float]:
    """Return the 2.5 % and 97.5 % percentiles of bootstrap values [R], of which some may be infinite."""
    return _quantiles(replicates, np.array([0.025, 0.975]))


def _quantiles(replicates: np.ndarray, shares: np.ndarray) -> tuple[float, float]:
    """Return two quantiles of values [R], at least one of them finite; infinite where it takes an infinite value."""
    finite = np.isfinite(replicates)
    if finite.all():
        low, high = np.quantile(replicates, shares)
        return float(low), float(high)
    # Interpolation between a finite and an infinite value is no number: the ends are told by their places.
    place = shares * (len(replicates) - 1)
    below, above = int((replicates == -np.inf).sum()), int((replicates == np.inf).sum())
    found = np.quantile(np.clip(replicates, replicates[finite].min(), replicates[finite].max()), shares)
    found = np.where(np.floor(place) < below, -np.inf, found)
    low, high = np.where(np.ceil(place) >= len(replicates) - above, np.inf, found)
    return float(low), float(high)


def bca(value: float, replicates: np.ndarray, left_out: np.ndarray | None) -> tuple[float, float]:
    """Return the bias-corrected and accelerated 95 % interval (Efron, JASA 82, 1987).

    The percentiles `Phi(z0 + (z0 + z) / (1 - a (z0 + z)))` replace 2.5 % and 97.5 %: `z0` is the normal quantile of the
    share of replicates below the value (half of those equal to it), `a = sum d^3 / (6 (sum d^2)^1.5)` of the jackknife
    values' distances `d` below their mean.

    Args:
        value: The figure.
        replicates: Bootstrap values [R], of which some may be infinite.
        left_out: Finite values without each patient in turn; without them the acceleration is 0.
    """
    share = float(np.mean(replicates < value) + np.mean(replicates == value) / 2)
    bias = float(ndtri(np.clip(share, 0.5 / len(replicates), 1 - 0.5 / len(replicates))))
    acceleration = 0.0
    if left_out is not None and len(left_out):
        distance = left_out.mean() - left_out
        spread = float((distance**2).sum())
        acceleration = float((distance**3).sum()) / (6 * spread**1.5) if spread > 0 else 0.0
    shifted = bias + np.array([-Z, Z])
    return _quantiles(replicates, ndtr(bias + shifted / (1 - acceleration * shifted)))


def normal(value: float, replicates: np.ndarray) -> tuple[float, float]:
    """Return `value` less and plus 1.96 standard deviations of bootstrap values [R], of which a few hundred do.

    Infinite values have no part in the deviation; where they are more than 2.5 %, there is no limit on their side.
    """
    half = Z * float(np.std(replicates[np.isfinite(replicates)], ddof=1))
    no_low, no_high = (bool(np.mean(replicates == end) > MOST_AT_AN_END) for end in (-np.inf, np.inf))
    return -math.inf if no_low else value - half, math.inf if no_high else value + half


_SCALES: dict[str, tuple[Callable[[np.ndarray], np.ndarray], Callable[[np.ndarray], np.ndarray]]] = {
    "log": (np.log, np.exp),
    "log of 1 less it": (lambda x: -np.log1p(-x), lambda x: -np.expm1(-x)),
}
"""Scales that normal limits are made on, ascending, each with its inverse."""


def normal_on(scale: str, value: float, replicates: np.ndarray) -> tuple[float, float] | None:
    """Return `normal` limits that are made on another scale, and turned back.

    Args:
        scale: `log`, `log of 1 less it`, or `debiased`: as it is, about the value less its bias, by which
            the mean of the replicates lies above it.
        value: The figure.
        replicates: Bootstrap values [R]; those at the end of the scale are left out.

    Returns:
        The limits, or None where the value, or more than one in forty of the replicates, is at the end of the scale:
        they lie on one side, where the limit is then.
    """
    if scale == "debiased":
        return normal(2 * value - float(replicates.mean()), replicates)
    to, back = _SCALES[scale]
    with np.errstate(divide="ignore", invalid="ignore"):
        centre, moved = float(to(np.asarray(value))), to(replicates)
    inside = moved[np.isfinite(moved)]
    if not math.isfinite(centre) or len(replicates) - len(inside) > MOST_AT_AN_END * len(replicates):
        return None
    low, high = back(np.array(normal(centre, inside)))
    return float(low), float(high)


def pivotal(value: float, plugged_in: float, replicates: np.ndarray) -> tuple[float, float]:
    """Return the basic bootstrap 95 % interval of an estimate whose bias is taken off.

    Resamples are drawn from the data, in which the quantity has its plugged-in value: `replicates - plugged_in` tells
    how far estimates stray from the truth, and is turned over (Davison and Hinkley, Bootstrap Methods, 1997, ch. 5).
    """
    low, high = np.percentile(replicates, [2.5, 97.5])
    return value - (float(high) - plugged_in), value - (float(low) - plugged_in)


def percentile_band(replicates: np.ndarray) -> tuple[list[float], list[float]]:
    """Return pointwise 95 % limits of bootstrapped curves [R, G]; resamples in which a point is NaN are left out."""
    kept = replicates[np.isfinite(replicates).all(axis=1)]
    if not len(kept):
        return [], []
    low, high = np.percentile(kept, [2.5, 97.5], axis=0)
    return low.tolist(), high.tolist()


def wilson(successes: float, total: float) -> tuple[float, float]:
    """Return the 95 % Wilson score interval of a share (Wilson, JASA 22, 1927).

    Args:
        successes: Need not be whole, so that a share of images can be given the weight of so many patients.
        total: Above 0.
    """
    share = successes / total
    centre = (share + Z**2 / (2 * total)) / (1 + Z**2 / total)
    half = Z * math.sqrt(share * (1 - share) / total + Z**2 / (4 * total**2)) / (1 + Z**2 / total)
    # Rounding must not put the limits inside the share where they equal it, at 0 and 1.
    return max(0.0, min(share, centre - half)), min(1.0, max(share, centre + half))


def perfect_auroc(positives: int, negatives: int) -> tuple[float, float]:
    """Return the 95 % interval of an observed AUROC of 1 (Newcombe, Statistics in Medicine 25, 2006, method 5).

    Every resample of perfectly ranked images is perfectly ranked too, so that the bootstrap says nothing. The lower
    limit is the `theta` for which `1 = theta + z sqrt(V(theta))`.

    Args:
        positives: Patients with a positive image.
        negatives: Patients with a negative image.
    """

    def excess(theta: float) -> float:
        return 1 - theta - Z * math.sqrt(perfect_variance(theta, positives, negatives))

    return float(brentq(excess, 0.0, 1 - 1e-12)), 1.0


def perfect_variance(area: float, positives: int, negatives: int) -> float:
    """Return the variance of an AUROC near 1 (Newcombe 2006, method 5), whatever the scores look like.

    Args:
        area: The true AUROC.
        positives: Patients with a positive image.
        negatives: Patients with a negative image.
    """
    half = (positives + negatives) / 2 - 1
    spread = 1 + half * (1 - area) / (2 - area) + half * area / (1 + area)
    return area * (1 - area) * spread / (positives * negatives)


def mover(first: tuple[float, float, float], second: tuple[float, float, float]) -> tuple[float, float]:
    """Return the 95 % interval of `first - second` of independent studies from the interval of each.

    The squared distances from value to limit are added (Zou and Donner, Statistics in Medicine 27, 2008), which keeps
    intervals that are not symmetric, as Wilson's, in shape.

    Args:
        first: Value, low, high.
        second: Value, low, high.
    """
    (a, a_low, a_high), (b, b_low, b_high) = first, second
    low = a - b - math.hypot(a - a_low, b_high - b)
    high = a - b + math.hypot(a_high - a, b - b_low)
    return low, high
