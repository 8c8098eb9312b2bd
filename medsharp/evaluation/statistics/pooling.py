"""Which model of random effects says what hospitals come to together."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.special import expit
from scipy.stats import chi2

from medsharp.evaluation.statistics.binomial_normal import binomial_normal, maximum
from medsharp.evaluation.statistics.random_effects import CHANCE_AGREEMENT, RandomEffects, random_effects
from medsharp.evaluation.statistics.site_effects import log_odds

NORMAL = "random effects, normal-normal, REML, Hartung-Knapp"
BINOMIAL = "random effects, binomial-normal, profile likelihood"

MOST_BIAS = 0.125
"""Share of its half-width by which the normal-normal summary may differ from that of the counts."""

_TOO_WELL = "the sites agree too well for their spread to tell an error"


class Pooled(NamedTuple):
    """A summary with how it was made.

    Attributes:
        found: The summary.
        method: `NORMAL` or `BINOMIAL`.
        normal: The normal-normal summary, where another one stands.
        reason: Why another one stands; empty where none does.
    """

    found: RandomEffects
    method: str
    normal: RandomEffects | None = None
    reason: str = ""


def pool_shares(successes: np.ndarray, totals: np.ndarray) -> Pooled:
    """Summarise shares on the logit scale; `expit` of the mean is the share at the median site.

    The normal-normal model of log odds (`log_odds`) stands where it can: it is what other software gives. Log odds of
    few events are biased, those of none need half an event more, and their variances depend on them; many sites share
    the bias. Where it moves the mean by more than `MOST_BIAS` of the interval's half-width, or the sites agree as
    they do in one of a hundred draws of equal sites (`random_effects`), the binomial-normal model stands instead.

    Args:
        successes: Of each site, as if images were independent [k], at least 3 sites.
        totals: Of each site, above 0 [k].
    """
    normal = random_effects(*log_odds(successes, totals))
    half = (normal.high - normal.low) / 2
    bias = abs(maximum(successes, totals)[0] - normal.mean)
    if bias > MOST_BIAS * half:
        much = f"{bias / half:.2f} of" if bias < half else "more than"
        reason = f"log odds of so few events are biased: they move the normal-normal summary by {much} its half-width"
        return Pooled(binomial_normal(successes, totals), BINOMIAL, normal, reason)
    if _agree_too_well(normal, len(totals)):
        return Pooled(binomial_normal(successes, totals), BINOMIAL, normal, _TOO_WELL)
    return Pooled(normal, NORMAL)


def pool_effects(effects: np.ndarray, variances: np.ndarray, *, logit: bool = False) -> Pooled:
    """Summarise estimates with variances, [k] each, at least 3 (`random_effects`).

    Args:
        effects: Of each site.
        variances: Of the effects.
        logit: The effects are log odds of what lies between 0 and 1, such as AUROC. Where sites agree too well they are
            summarised as shares of as many independent comparisons as have their variance, `1 / (v a (1 - a))`.
    """
    normal = random_effects(effects, variances)
    if not (logit and _agree_too_well(normal, len(effects))):
        return Pooled(normal, NORMAL)
    areas = expit(effects)
    comparisons = 1 / (variances * areas * (1 - areas))
    return Pooled(binomial_normal(areas * comparisons, comparisons), BINOMIAL, normal, _TOO_WELL)


def _agree_too_well(normal: RandomEffects, sites: int) -> bool:
    return bool(chi2.cdf(normal.q, sites - 1) < CHANCE_AGREEMENT)
