"""Whether probabilities mean what they say."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import brentq
from scipy.special import expit

from medsharp.evaluation.statistics.bootstrap import Statistic
from medsharp.evaluation.statistics.calibration_error import BINS, equal_mass
from medsharp.evaluation.statistics.discrimination import ratio
from medsharp.evaluation.statistics.intervals import percentile_band, wilson

CLIP = 1e-7
"""Probabilities are kept this far from 0 and 1 where a logarithm is taken."""

_STEPS = 40
_LAST_STEP = 1e-9
_LAST_STEP_OF_RESAMPLES = 3e-5
"""Newton's error after a step is of the order of its square: 1e-9, far below what resampling itself leaves open."""

_ONE_STEP_FROM = 20_000
_FAR = 50.0

MIDDLE = (0.01, 0.99)
"""Quantiles of the log odds between which the logistic calibration curve is drawn."""


class Recalibration(NamedTuple):
    """Logistic recalibration for each row of weights, [R] each; NaN where the fit does not exist.

    Attributes:
        in_the_large: `a` of `logit(P) = a + logit(p)`; 0 is perfect.
        slope: `b` of `logit(P) = c + b logit(p)`; 1 is perfect.
        constant: `c` of the same fit.
    """

    in_the_large: np.ndarray
    slope: np.ndarray
    constant: np.ndarray


def logit(probabilities: np.ndarray) -> np.ndarray:
    """Return the log odds, kept finite for 0 and 1."""
    clipped = np.clip(probabilities, CLIP, 1 - CLIP)
    return np.log(clipped / (1 - clipped))


def contradicted(labels: np.ndarray, probabilities: np.ndarray) -> int:
    """Count the probabilities of 0 and 1 that were wrong: with one of them no finite recalibration exists.

    What `recalibrate` then finds is where `CLIP` put it.

    Args:
        labels: bool [N].
        probabilities: Of the positive class [N].
    """
    return int((np.where(labels, probabilities, 1 - probabilities) <= CLIP).sum())


def recalibrate(
    labels: np.ndarray,
    probabilities: np.ndarray,
    weights: np.ndarray,
    start: Recalibration | None = None,
) -> Recalibration:
    """Fit both recalibration models by maximum likelihood (Van Calster et al., J Clin Epidemiol 74, 2016).

    Newton's method for all rows of weights at once; a row leaves the iteration when it has converged. The fit does not
    exist where a class has no weight, the classes are separated, or all probabilities are equal.

    Args:
        labels: bool [N].
        probabilities: Of the positive class [N].
        weights: [R, N].
        start: A fit with one row to start from, such as that of all images; makes resamples converge in a few steps.
    """
    return recalibrate_log_odds(labels, logit(probabilities), weights, start)


def recalibrate_log_odds(
    labels: np.ndarray, log_odds: np.ndarray, weights: np.ndarray, start: Recalibration | None = None
) -> Recalibration:
    """Fit as `recalibrate` does, to log odds as they are, however far from 0.

    Args:
        labels: bool [N].
        log_odds: Of the positive class [N].
        weights: [R, N].
        start: As there.
    """
    y, score = np.asarray(labels, dtype=np.float64), np.asarray(log_odds, dtype=np.float64)
    # For scores that are far from 0 and close together, intercept and slope are all but one parameter: Newton's steps
    # find their way for standardised scores only.
    centre, scale = score.mean(), score.std() or 1.0
    one = np.ones_like(score)
    if start is not None and np.isfinite(start).all():
        # A step that needs no image for itself comes first.
        near, last = _one_step(y, score, start)(weights), _LAST_STEP_OF_RESAMPLES
        with np.errstate(invalid="ignore"):  # a step that went off to infinity: it is lost, and said next to be
            large, full = near.in_the_large[:, None], _standardised(near, centre, scale)
        lost = ~np.isfinite(full).all(axis=1) | (np.abs(full).max(axis=1) > _FAR)
        large[lost], full[lost] = start.in_the_large, _standardised(start, centre, scale)
    else:
        share = np.clip((weights @ y) / weights.sum(axis=1), 1e-3, 1 - 1e-3)
        large, last = np.zeros((len(weights), 1)), _LAST_STEP
        full = np.stack([np.log(share / (1 - share)), np.zeros(len(weights))], axis=1)
    large = _newton(one[None], y, score, weights, large, last)
    for row in np.flatnonzero(np.isnan(large[:, 0])):
        large[row] = _bisected(y, score, weights[row])
    full = _newton(np.stack([one, (score - centre) / scale]), y, np.zeros_like(score), weights, full, last)
    slope = full[:, 1] / scale
    return Recalibration(large[:, 0], slope, full[:, 0] - slope * centre)


def _bisected(y: np.ndarray, score: np.ndarray, weights: np.ndarray) -> float:
    """Return `a` at which the expected number of positives is the observed one; NaN where a class has no weight.

    It is the maximum that Newton's method does not reach where all log odds are so far from 0 that the likelihood has
    no curvature: the number rises with `a` all the same.
    """
    observed, far = float(weights @ y), float(np.abs(score).max()) + _FAR

    def excess(intercept: float) -> float:
        return float(weights @ expit(intercept + score)) - observed

    if not excess(-far) < 0 < excess(far):
        return np.nan
    return float(brentq(excess, -far, far, xtol=1e-12))


def _standardised(fit: Recalibration, centre: float, scale: float) -> np.ndarray:
    """Return constant and slope of the same fit for standardised scores [R, 2]."""
    return np.stack([fit.constant + fit.slope * centre, fit.slope * scale], axis=1)


def _newton(
    design: np.ndarray,
    y: np.ndarray,
    offset: np.ndarray,
    weights: np.ndarray,
    beta: np.ndarray,
    last: float,
) -> np.ndarray:
    """Fit weighted logistic regressions: design [K, N], y [N], offset [N], weights [R, N], start and result [R, K]."""

    def slopes(active: np.ndarray, fits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        part = weights if len(active) == len(weights) else weights[active]
        return slopes_of(design, y, offset, part, fits)

    return newton(slopes, beta, last)


Slopes = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
"""Rows int [A] and their coefficients [A, K] to gradient [A, K] and curvature [A, K, K] of the log likelihood."""


def slopes_of(
    design: np.ndarray, y: np.ndarray, offset: np.ndarray, weights: np.ndarray, beta: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return gradient [A, K] and curvature [A, K, K] of a logistic log likelihood: sums over images.

    Args:
        design: [K, N].
        y: 0 or 1 [N].
        offset: Log odds that are added as they are [N].
        weights: [A, N].
        beta: Coefficients [A, K].
    """
    size = len(design)
    rows, columns = np.triu_indices(size)
    fitted = expit(beta @ design + offset)
    gradient = (weights * (y - fitted)) @ design.T
    curvature = np.empty((len(beta), size, size))
    curvature[:, rows, columns] = curvature[:, columns, rows] = (weights * (fitted * (1 - fitted))) @ (
        design[rows] * design[columns]
    ).T
    return gradient, curvature


def newton(slopes: Slopes, start: np.ndarray, last: float = _LAST_STEP) -> np.ndarray:
    """Return the maxima of log likelihoods [R, K] by Newton's method; NaN where there is none.

    Args:
        slopes: Gradient and curvature.
        start: Coefficients to start from [R, K].
        last: A row has converged with a step shorter than this.
    """
    beta, result = start.copy(), np.full_like(start, np.nan)
    active = np.arange(len(beta))
    for _ in range(_STEPS):
        gradient, curvature = slopes(active, beta[active])
        solvable = np.linalg.det(curvature) > 1e-10 * np.prod(np.einsum("rkk->rk", curvature), axis=1) + 1e-12
        active, gradient, curvature = active[solvable], gradient[solvable], curvature[solvable]
        if not len(active):
            break
        step = np.linalg.solve(curvature, gradient[..., None])[..., 0]
        beta[active] += np.clip(step, -4, 4)
        done = np.abs(step).max(axis=1) < last
        result[active[done]] = beta[active[done]]
        active = active[~done & (np.abs(beta[active]).max(axis=1) < 1e3)]
        if not len(active):
            break
    return result


def probability_scores(
    labels: np.ndarray, probabilities: np.ndarray, *, one_step_from: int = _ONE_STEP_FROM
) -> Statistic:
    """Return what computes log loss, recalibration and the O:E ratio from weights [R, N].

    O:E is the number of positives over the sum of their probabilities (Riley et al., BMJ 353, 2016).

    From 20,000 images on, a resample's fit is one step of Newton's method from the fit of all images (the one-step
    bootstrap; Shao and Tu, The Jackknife and Bootstrap, 1995), which is off by the order of 1 / N. That holds for
    resamples only: weights that are far from equal, as those of a simulated population, need the whole fit.

    Args:
        labels: bool [N].
        probabilities: Of the positive class [N].
        one_step_from: Fewer images than this are refitted wholly.
    """
    y = np.asarray(labels, dtype=np.float64)
    loss = log_losses(labels, probabilities)
    start = recalibrate(labels, probabilities, np.ones((1, len(y))))
    short = len(y) >= one_step_from and np.isfinite(start).all()
    refit = _one_step(y, logit(probabilities), start) if short else None

    def statistic(weights: np.ndarray) -> dict[str, np.ndarray]:
        fit = recalibrate(labels, probabilities, weights, start) if refit is None else refit(weights)
        observed, expected = weights @ y, weights @ probabilities
        return {
            "log_loss": weights @ loss / weights.sum(axis=1),
            "oe_ratio": ratio(observed, expected),
            "calibration_intercept": fit.in_the_large,
            "calibration_slope": fit.slope,
            "recalibration": np.stack([fit.constant, fit.slope], axis=1),
        }

    return statistic


def _one_step(y: np.ndarray, score: np.ndarray, start: Recalibration) -> Callable[[np.ndarray], Recalibration]:
    """Return what refits from `start` in one step: gradient and curvature there are sums over images."""
    columns = one_step_columns(y, score, start)
    return lambda weights: one_step((weights @ columns).T, start)


def log_losses(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Return the negative log likelihood of each image [N]."""
    return np.asarray(-np.log(np.maximum(np.where(labels, probabilities, 1 - probabilities), CLIP)))


def one_step_columns(y: np.ndarray, score: np.ndarray, start: Recalibration) -> np.ndarray:
    """Return what an image adds to the sums that `one_step` takes: [N, 7].

    Args:
        y: 0 or 1 [N].
        score: Log odds [N].
        start: A fit with one row.
    """
    large = expit(start.in_the_large[0] + score)
    full = expit(start.constant[0] + start.slope[0] * score)
    spread = full * (1 - full)
    sums = [y - large, large * (1 - large), y - full, (y - full) * score, spread, spread * score, spread * score**2]
    return np.stack(sums, axis=1)


def one_step(sums: np.ndarray, start: Recalibration) -> Recalibration:
    """Return the fits after one step of Newton's method from `start`.

    Args:
        sums: Of the columns, weighted [7, R].
        start: A fit with one row.
    """
    rest, information, g0, g1, h00, h01, h11 = sums
    determinant = h00 * h11 - h01**2
    # A resample whose scores are all the same has no slope: 0 / 0, and so NaN.
    with np.errstate(invalid="ignore", divide="ignore"):
        return Recalibration(
            start.in_the_large + rest / information,
            start.slope + (h00 * g1 - h01 * g0) / determinant,
            start.constant + (h11 * g0 - h01 * g1) / determinant,
        )


def reliability(
    labels: np.ndarray, probabilities: np.ndarray, clusters: np.ndarray, bins: int = BINS
) -> list[dict[str, float]]:
    """Return mean probability, observed share and 95 % Wilson interval in bins of about equally many images.

    Equal probabilities are never split between bins. Wilson's interval counts patients instead of images, as several
    images of a patient say less than as many patients.

    Args:
        labels: bool [N].
        probabilities: Sorted [N].
        clusters: int [N].
        bins: How many.
    """
    starts = equal_mass(probabilities, bins)
    points = []
    for start, end in zip(starts, [*starts[1:], len(labels)], strict=True):
        observed, patients = float(labels[start:end].mean()), len(np.unique(clusters[start:end]))
        points.append(reliability_point(float(probabilities[start:end].mean()), observed, int(end - start), patients))
    return points


def reliability_point(probability: float, observed: float, images: int, patients: int) -> dict[str, float]:
    """Return a bin's point: mean probability, observed share with Wilson's interval of so many patients, and sizes."""
    low, high = wilson(observed * patients, patients)
    return {
        "probability": probability, "observed": observed, "low": low, "high": high, "images": images,
        "patients": patients,
    }  # fmt: skip


def recalibration_curve(
    labels: np.ndarray, probabilities: np.ndarray, fit: np.ndarray, replicates: np.ndarray
) -> dict[str, Any]:
    """Return the logistic calibration curve and its band over the middle 98 % of the probabilities.

    Args:
        labels: bool [N].
        probabilities: Of the positive class [N].
        fit: Constant and slope [2].
        replicates: Those of the resamples [R, 2].
    """
    first, last = expit(np.quantile(logit(probabilities), MIDDLE))
    wrong = contradicted(labels, probabilities)
    return recalibration_between(float(first), float(last), fit, replicates, wrong)


def recalibration_between(
    first: float, last: float, fit: np.ndarray, replicates: np.ndarray, wrong: int
) -> dict[str, Any]:
    """Return the logistic calibration curve and its band between two probabilities; nothing where it does not exist.

    Args:
        first: The least probability of the curve.
        last: The greatest.
        fit: Constant and slope [2].
        replicates: Those of the resamples [R, 2].
        wrong: How many probabilities are `contradicted`.
    """
    if wrong or not np.isfinite(fit).all():
        return {"probability": [], "observed": [], "low": [], "high": []}
    grid = np.linspace(float(first), float(last), 60)
    score = logit(grid)
    low, high = percentile_band(expit(replicates[:, :1] + replicates[:, 1:] * score))
    return {"probability": grid.tolist(), "observed": expit(fit[0] + fit[1] * score).tolist(), "low": low, "high": high}
