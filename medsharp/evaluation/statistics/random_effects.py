"""Random effects: what several hospitals say together, how much they differ, and what the next one may see."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from scipy.stats import chi2
from scipy.stats import t as student

CHANCE_AGREEMENT = 0.01
"""Studies that agree better than in one of a hundred draws of equal studies do not tell the error of their mean."""


class RandomEffects(NamedTuple):
    """A summary over studies.

    Attributes:
        mean: Of the studies' true effects.
        low: 95 % limit of the mean.
        high: 95 % limit of the mean.
        prediction_low: 95 % limit of the true effect in a new study.
        prediction_high: 95 % limit of the true effect in a new study.
        tau2: Variance of the true effects between studies.
        i2: Share of the spread between estimates that is not chance.
        q: Cochran's statistic.
        q_p: Its p value under equal true effects.
        weights: Of each study, summing to 1 [k].
    """

    mean: float
    low: float
    high: float
    prediction_low: float
    prediction_high: float
    tau2: float
    i2: float
    q: float
    q_p: float
    weights: np.ndarray


def random_effects(effects: np.ndarray, variances: np.ndarray) -> RandomEffects:
    """Fit `y_i ~ N(mu, v_i + tau^2)`.

    `tau^2` is the restricted maximum likelihood estimate (Viechtbauer, J Educ Behav Stat 30, 2005). The interval of the
    mean is Hartung and Knapp's (Stat Med 20, 2001) with t of k - 1 degrees of freedom, `mu -+ t sqrt(s / sum w)`,
    `s = sum w (y - mu)^2 / (k - 1)`. Only where the estimates agree as they do in one of a hundred draws of equal
    studies is `s` taken as at least 1 (Roever, Knapp and Friede, BMC Med Res Methodol 15, 2015): equal estimates would
    have an interval of no width. That of a new study is `mu -+ t(k - 2) sqrt(tau^2 + se^2)` (Higgins, Thompson and
    Spiegelhalter, JRSS A 172, 2009) with Hartung and Knapp's error (Partlett and Riley, Stat Med 36, 2017).
    `I^2 = tau^2 / (tau^2 + s^2)` with the typical variance `s^2` of an estimate (Higgins and Thompson, Stat Med 21,
    2002, eq. 9).

    Args:
        effects: Estimates on a scale where they are about normal, such as logit AUROC [k], at least 3.
        variances: Of the estimates, above 0 [k].
    """
    y, v = np.asarray(effects, dtype=float), np.asarray(variances, dtype=float)
    count = len(y)
    fixed = 1 / v
    q = float((fixed * (y - (fixed * y).sum() / fixed.sum()) ** 2).sum())
    tau2 = reml(y, v)
    weights = 1 / (v + tau2)
    mean = float((weights * y).sum() / weights.sum())
    scale = float((weights * (y - mean) ** 2).sum()) / (count - 1)
    if chi2.cdf(q, count - 1) < CHANCE_AGREEMENT:
        scale = max(1.0, scale)
    error = math.sqrt(scale / weights.sum())
    half = float(student.ppf(0.975, count - 1)) * error
    reach = float(student.ppf(0.975, count - 2)) * math.sqrt(tau2 + error**2)
    return RandomEffects(
        mean,
        mean - half,
        mean + half,
        mean - reach,
        mean + reach,
        tau2,
        tau2 / (tau2 + typical_variance(v)),
        q,
        float(chi2.sf(q, count - 1)),
        weights / weights.sum(),
    )


def typical_variance(variances: np.ndarray) -> float:
    """Return the variance of a typical estimate among several [k] (Higgins and Thompson 2002, eq. 9)."""
    fixed = 1 / variances
    return float((len(fixed) - 1) * fixed.sum() / (fixed.sum() ** 2 - (fixed**2).sum()))


def reml(effects: np.ndarray, variances: np.ndarray, steps: int = 500) -> float:
    """Return the restricted maximum likelihood estimate of the variance between studies, at least 0.

    Fisher scoring (Viechtbauer 2005): with `w = 1 / (v + tau^2)`,
    `tau^2 <- sum w^2 ((y - mu)^2 - v) / sum w^2 + 1 / sum w`.
    """
    tau2 = max(0.0, float(np.var(effects, ddof=1) - variances.mean()))
    for _ in range(steps):
        weights = 1 / (variances + tau2)
        mean = (weights * effects).sum() / weights.sum()
        squares = weights**2
        update = (squares * ((effects - mean) ** 2 - variances)).sum() / squares.sum() + 1 / weights.sum()
        update = max(0.0, float(update))
        if abs(update - tau2) < 1e-12 + 1e-10 * tau2:
            return update
        tau2 = update
    return tau2
