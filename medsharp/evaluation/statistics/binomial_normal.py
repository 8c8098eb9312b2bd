"""Shares of several hospitals together, from their counts: no logit of a share is taken, so that none is biased."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.optimize import brentq, minimize_scalar
from scipy.special import expit
from scipy.stats import chi2
from scipy.stats import t as student

from medsharp.evaluation.statistics.random_effects import RandomEffects, typical_variance

LARGEST_TAU = 3.0
"""Standard deviation between hospitals that is looked for at most: one deviation is 20 times the odds."""

_NODES, _MASSES = np.polynomial.hermite_e.hermegauss(15)
# Log weights of the nodes under dz, the density of z being put back with the integrand.
_LOG_MASSES = (np.log(_MASSES) + _NODES**2 / 2 - math.log(2 * math.pi) / 2)[:, None]
_FAR = 40.0


class _Sites(NamedTuple):
    """Log likelihood of each site with its score and information for `mu`, [k] each."""

    likelihood: np.ndarray
    score: np.ndarray
    information: np.ndarray


def binomial_normal(successes: np.ndarray, totals: np.ndarray) -> RandomEffects:
    """Fit `x_i ~ Binomial(n_i, expit(mu + tau z_i))`, `z_i ~ N(0, 1)`, by maximum likelihood.

    The likelihood is integrated by adaptive Gauss-Hermite quadrature (Stijnen, Hamza and Oezdemir, Stat Med 29, 2010).
    `expit(mu)` is the share at the median site. Its interval holds every `mu` whose profile likelihood is not too
    small: `2 (l(mu^, tau^) - max_tau l(mu, tau)) <= k log(1 + t^2 / (k - 1))` with the 97.5 % quantile `t` of k - 1
    degrees of freedom, which is exact where sites are large and differ, tends to the usual 3.84 for many sites, and is
    on the careful side for few sites that do not differ. It exists where every share is 0 or 1. A new site has
    `mu -+ t(k - 2) sqrt(tau^2 + 1 / information)`, or NaN where every share is 0 or every one is 1.

    Args:
        successes: Of each site, not necessarily whole [k], at least 3 sites.
        totals: Of each site, above 0 [k].

    Returns:
        The summary on the logit scale, infinite where every share is 0 or every one is 1. `q` is Pearson's statistic
        of equal shares, `weights` the information on `mu` that each site brings.
    """
    x, n = np.asarray(successes, dtype=float), np.asarray(totals, dtype=float)
    count, pooled = len(x), float(x.sum() / n.sum())
    most = count * math.log1p(float(student.ppf(0.975, count - 1)) ** 2 / (count - 1))
    if pooled in (0.0, 1.0):
        # The likelihood grows towards 1 without end, where it is 1 and its logarithm 0.
        mean = math.inf if pooled else -math.inf
        low, high = _limits(lambda mu: _root(-_profile(x, n, mu)) - math.sqrt(most), mean, 0.5)
        return RandomEffects(mean, low, high, math.nan, math.nan, 0.0, 0.0, 0.0, 1.0, n / n.sum())
    mean, tau = maximum(x, n)
    parts = _sites(x, n, mean, tau)
    best = float(parts.likelihood.sum())
    information = float(parts.information.sum())
    half = math.sqrt(most / information)
    low, high = _limits(lambda mu: _root(best - _profile(x, n, mu)) - math.sqrt(most), mean, half)
    reach = float(student.ppf(0.975, count - 2)) * math.sqrt(tau**2 + 1 / information)
    q = float(((x - n * pooled) ** 2 / (n * pooled * (1 - pooled))).sum())
    share = float(expit(mean))
    return RandomEffects(
        mean,
        low,
        high,
        mean - reach,
        mean + reach,
        tau**2,
        tau**2 / (tau**2 + typical_variance(1 / (n * share * (1 - share)))),
        q,
        float(chi2.sf(q, count - 1)),
        parts.information / information,
    )


def maximum(successes: np.ndarray, totals: np.ndarray) -> tuple[float, float]:
    """Return `mu` and `tau` of the greatest likelihood, `mu` infinite where every share is 0 or every one is 1."""
    pooled = float(successes.sum() / totals.sum())
    if pooled in (0.0, 1.0):
        return math.inf if pooled else -math.inf, 0.0
    start = math.log(pooled / (1 - pooled))

    def loss(tau: float) -> float:
        nonlocal start
        start = _mean_given(successes, totals, tau, start)
        return -float(_sites(successes, totals, start, tau).likelihood.sum())

    tau = _smallest(loss)
    return _mean_given(successes, totals, tau, start), tau


def _profile(x: np.ndarray, n: np.ndarray, mu: float) -> float:
    """Return the log likelihood of `mu` with the `tau` that suits it best."""

    def loss(tau: float) -> float:
        return -float(_sites(x, n, mu, tau).likelihood.sum())

    return -loss(_smallest(loss))


def _smallest(loss: Callable[[float], float]) -> float:
    found = minimize_scalar(loss, bounds=(0, LARGEST_TAU), method="bounded", options={"xatol": 1e-4})
    # The search never reaches its bounds, and sites that do not differ are common.
    return 0.0 if loss(0.0) <= found.fun + 1e-9 else float(found.x)


def _mean_given(x: np.ndarray, n: np.ndarray, tau: float, start: float) -> float:
    """Return the `mu` that suits a `tau` best, by Newton's method."""
    mu = start
    for _ in range(100):
        parts = _sites(x, n, mu, tau)
        step = float(parts.score.sum() / max(float(parts.information.sum()), 1e-8))
        mu += max(-1.0, min(1.0, step))
        if abs(step) < 1e-8:
            break
    return mu


def _root(loss: float) -> float:
    """Return the root of twice a loss of log likelihood, which is about linear in `mu` on either side."""
    return math.sqrt(2 * max(0.0, loss))


def _limits(excess: Callable[[float], float], mean: float, half: float) -> tuple[float, float]:
    """Return where `excess` turns positive on either side of `mean`, which may be infinite; first `half` away."""
    centre = mean if math.isfinite(mean) else math.copysign(_FAR, mean)
    limits = []
    for side in (-1.0, 1.0):
        if mean == side * math.inf:
            limits.append(mean)
            continue
        inside, step = centre, side * half
        while excess(inside + step) < 0 and abs(inside + step) < _FAR:
            inside, step = inside + step, step * 1.5
        outside = inside + step
        limits.append(float(brentq(excess, inside, outside, xtol=1e-5)) if excess(outside) > 0 else side * math.inf)
    return limits[0], limits[1]


def _sites(x: np.ndarray, n: np.ndarray, mu: float, tau: float) -> _Sites:
    """Integrate each site's likelihood over its own log odds.

    Nodes are laid around the mode of the integrand with its curvature (Pinheiro and Bates, J Comput Graph Stat 4,
    1995). With the mean over the site's posterior, `U = E[x - n p]` and `H = E[n p (1 - p)] - Var[x - n p]` (Louis,
    JRSS B 44, 1982).
    """
    centre, width = _modes(x, n, mu, tau)
    z = centre + width * _NODES[:, None]  # [nodes, k]
    log_odds = mu + tau * z
    p = expit(log_odds)
    # log(1 + exp(a)) = a - log(expit(a)), in half the time of logaddexp.
    inside = (x - n) * log_odds + n * np.log(p) - z**2 / 2 + _LOG_MASSES + np.log(width)
    greatest = inside.max(axis=0)
    masses = np.exp(inside - greatest)
    whole = masses.sum(axis=0)
    masses = masses / whole
    rest = x - n * p
    score = (masses * rest).sum(axis=0)
    information = (masses * (n * p * (1 - p) - rest**2)).sum(axis=0) + score**2
    return _Sites(greatest + np.log(whole), score, information)


def _modes(x: np.ndarray, n: np.ndarray, mu: float, tau: float) -> tuple[np.ndarray, np.ndarray]:
    """Return where each site's integrand is greatest, in units of `z`, and how wide it is there, [k] each."""
    z = np.zeros(len(x))
    for _ in range(100):
        p = expit(mu + tau * z)
        step = (tau * (x - n * p) - z) / (tau**2 * n * p * (1 - p) + 1)
        z = z + np.clip(step, -2, 2)
        if np.abs(step).max() < 1e-6:  # where the nodes lie need not be exact
            break
    p = expit(mu + tau * z)
    return z, 1 / np.sqrt(tau**2 * n * p * (1 - p) + 1)
