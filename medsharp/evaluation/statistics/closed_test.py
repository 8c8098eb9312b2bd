"""Which update local data justify: a closed test of nested recalibrations, with patients as clusters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.special import expit
from scipy.stats import chi2

from medsharp.evaluation.statistics.calibration import recalibrate_log_odds

Recalibrated = Literal["none", "intercept", "slope"]
"""No update, an intercept, or intercept and slope."""

LEVEL = 0.05
"""Of each test, and so of the whole closed test: chance updates a calibrated model in at most 5 of 100 hospitals."""


@dataclass(frozen=True)
class Comparison:
    """One recalibration against a more extensive one.

    Attributes:
        kept: What is kept where the test is not significant.
        against: The more extensive one.
        statistic: Twice the difference of the log likelihoods.
        df: How many parameters more.
        design_effect: How far images of a patient inflate the statistic; 1 with one image a patient.
        p: Of the statistic, corrected for it.
    """

    kept: Recalibrated
    against: Recalibrated
    statistic: float
    df: int
    design_effect: float
    p: float


@dataclass(frozen=True)
class ClosedTest:
    """The update that was chosen, and the tests in the order in which they were made."""

    chosen: Recalibrated
    tests: tuple[Comparison, ...]


def closed_test(labels: np.ndarray, log_odds: np.ndarray, clusters: np.ndarray) -> ClosedTest:
    """Choose between no update, an intercept, and intercept and slope.

    As Vergouwe et al. (Statistics in Medicine 36, 2017, sec. 2.3): the most extensive update is tested against none at
    all, with 2 degrees of freedom, and none is chosen unless that is significant; then against the intercept alone,
    with 1. (Their fourth method, all coefficients anew, is a new network here, and is left out.)

    Likelihoods treat images as independent. Where patients have several, twice their difference is not chi squared but
    a sum of chi squared variables weighted by the eigenvalues of `H^-1 J`, `H` the information and `J` the variance of
    the patients' scores, both under the larger model, which holds whether the smaller one does or not. It is divided by
    their mean, the design effect, and its degrees of freedom are corrected for their spread (Rao and Scott, Annals of
    Statistics 12, 1984; Satterthwaite). With one image a patient nothing is corrected. With few patients who have very
    different numbers of images, the tests reject somewhat too often (docs/updating.md).

    Args:
        labels: bool [N].
        log_odds: Of the positive class [N].
        clusters: The patient of each image, int 0, 1, ... [N].

    Returns:
        The choice. Where intercept and slope cannot be fitted (the classes are separated), no test can be made, and
        none is chosen.
    """
    y, score = np.asarray(labels, dtype=np.float64), np.asarray(log_odds, dtype=np.float64)
    fit = recalibrate_log_odds(labels, score, np.ones((1, len(y))))
    if not np.isfinite([fit.constant[0], fit.slope[0]]).all():
        return ClosedTest("none", ())
    fits = {
        "none": score,
        "intercept": fit.in_the_large[0] + score,
        "slope": fit.constant[0] + fit.slope[0] * score,
    }
    likelihood = {name: float((y * odds - np.logaddexp(0, odds)).sum()) for name, odds in fits.items()}
    tests = []
    for kept in ("none", "intercept"):
        statistic = 2 * (likelihood["slope"] - likelihood[kept])
        weights = _eigenvalues(y, score, expit(fits["slope"]), clusters, nuisance=kept == "intercept")
        tests.append(_corrected(kept, statistic, weights))
        if not tests[-1].p < LEVEL:
            return ClosedTest(kept, tuple(tests))
    return ClosedTest("slope", tuple(tests))


def _eigenvalues(
    y: np.ndarray, score: np.ndarray, expected: np.ndarray, clusters: np.ndarray, *, nuisance: bool
) -> np.ndarray:
    """Return the eigenvalues of `H^-1 J` of the tested parameters under a model, [2], or [1] with a nuisance.

    With the intercept as nuisance, what is left of the slope's score when the intercept's part is taken off counts.
    """
    if len(np.unique(clusters)) == len(clusters):
        return np.ones(1 if nuisance else 2)
    information = expected * (1 - expected)  # [N]
    centred = score - (information @ score) / information.sum()
    design = centred[:, None] if nuisance else np.stack([np.ones_like(score), score], axis=1)  # [N, K]
    count = int(clusters.max()) + 1
    scores = np.zeros((count, design.shape[1]))
    np.add.at(scores, clusters, design * (y - expected)[:, None])
    variance = count / (count - 1) * scores.T @ scores
    hessian = design.T @ (design * information[:, None])
    return np.linalg.eigvals(np.linalg.solve(hessian, variance)).real


def _corrected(kept: Literal["none", "intercept"], statistic: float, weights: np.ndarray) -> Comparison:
    mean = float(weights.mean())
    spread = float((weights**2).mean()) / mean**2  # 1 + squared coefficient of variation
    df = len(weights)
    p = float(chi2.sf(statistic / (mean * spread), df / spread))
    return Comparison(kept, "slope", statistic, df, mean, p)
