"""Selective prediction: how much better the decisions are where the model may abstain from the least certain images."""

from __future__ import annotations

import numpy as np
from scipy.special import digamma

from medsharp.evaluation.statistics.bootstrap import Statistic
from medsharp.evaluation.statistics.calibration import CLIP
from medsharp.evaluation.statistics.discrimination import sums_from_zero

COVERAGES = np.round(np.linspace(0.05, 1.0, 20), 2)
"""Shares of the images that are decided, where the curve is given."""

_ROUNDING = 1e-8
"""Differences of log odds that are no more than the digits of a probability near 1."""


def confidence_of(scores: np.ndarray, threshold: float) -> np.ndarray:
    """Return how far each score is from the threshold, as a difference of log odds; 0 is a score that equals it.

    Scores on either side that are equally far are tied, whatever the last digits of their logarithms are, so that it
    does not matter which class is called the positive one.
    """
    distances = np.abs(_log_odds(scores) - _log_odds(np.array([threshold]))[0])
    order = np.argsort(distances, kind="stable")
    ranked = distances[order]
    first = np.diff(ranked, prepend=-np.inf) > _ROUNDING
    tied = np.empty_like(ranked)
    tied[order] = ranked[first][np.cumsum(first) - 1]
    return tied


def _log_odds(probabilities: np.ndarray) -> np.ndarray:
    """Return log odds whose sign alone changes with 1 - p; `logit` clips and rounds otherwise near 1 than near 0."""
    smaller = np.maximum(np.minimum(probabilities, 1 - probabilities), CLIP)
    return np.where(probabilities < 0.5, -1, 1) * np.log((1 - smaller) / smaller)


def selective_risk(
    labels: np.ndarray, scores: np.ndarray, threshold: float, confidence: np.ndarray | None = None
) -> Statistic:
    """Return what computes the risk-coverage curve (Geifman and El-Yaniv, NeurIPS 2017) and the area under it.

    Risk is the share of wrong decisions at the frozen threshold among the images decided, the surest first; images
    tied in confidence are decided an image at a time at their mean risk. The area is the mean of the risk over the
    coverages 1/n, 2/n, ..., 1 (`aurc`; Geifman, Uziel and El-Yaniv, ICLR 2019); without any use of abstaining it equals
    the error rate.

    A block of `m` tied images, `e` of them wrong, after `D` images with `F` wrong ones, adds
    `sum_j (F + j e / m) / (D + j) = e + (F - D e / m) (H(D + m) - H(D))` over `j = 1, ..., m`, `H` the harmonic
    numbers: what it adds on average over all orders of its images.

    Args:
        labels: bool [N].
        scores: [N].
        threshold: The frozen one.
        confidence: The order in which images are decided, the highest first [N]; by default `confidence_of`.

    Returns:
        Weights [R, N] to `aurc` [R] and `risk_at_coverage` [R, 20].
    """
    confidence = confidence_of(scores, threshold) if confidence is None else confidence
    order = np.argsort(-confidence, kind="stable")
    wrong = ((scores >= threshold) != labels)[order].astype(np.float64)
    ordered = confidence[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])

    def statistic(weights: np.ndarray) -> dict[str, np.ndarray]:
        mass = weights[:, order]
        errors = mass * wrong
        if len(starts) < len(ordered):
            mass, errors = (np.add.reduceat(part, starts, axis=1) for part in (mass, errors))
        # Both start at 0, where nothing is decided: a coverage inside the surest tied images is theirs at their risk.
        decided, failed = sums_from_zero(mass), sums_from_zero(errors)  # [R, U + 1]
        total = decided[:, -1]
        harmonic = digamma(decided + 1)  # but for Euler's constant, which drops out: H(D + m) - H(D)
        own = np.divide(errors, mass, out=np.zeros_like(mass), where=mass > 0)
        area = errors + (failed[:, :-1] - decided[:, :-1] * own) * np.diff(harmonic, axis=1)  # [R, U]
        curve = np.stack(
            [
                np.interp(COVERAGES * whole, done, bad) / (COVERAGES * whole)
                for whole, done, bad in zip(total, decided, failed, strict=True)
            ]
        )
        return {"aurc": area.sum(axis=1) / total, "risk_at_coverage": curve}

    return statistic
