"""How much of a figure's uncertainty is the seed of the training, and how much the patients."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import t as student

_ROUNDING = 1e-12
"""Figures of equal networks, summed in another order, differ by no more."""

THESE_NETWORKS = "new patients, these networks"
"""What an interval covers that knows nothing of seeds."""

ONE_NETWORK = "one side is a single network, whose seeds are unknown"
EQUAL_NETWORKS = "the networks of one side are equal, which tells nothing of seeds"


@dataclass(frozen=True)
class Networks:
    """The networks of one method, all scored on the same patients.

    Attributes:
        sign: 1 where their mean is looked at, or is the later one of a difference; -1 where it is the earlier one.
        values: Figure of each network [S].
        replicates: The same on resampled patients [R, S]; a row is one resample, the same for every network and group.
    """

    sign: int
    values: np.ndarray
    replicates: np.ndarray

    @property
    def seed_variance(self) -> float | None:
        """Variance `s^2` between the networks' figures; None where one network, or equal ones, tell none."""
        if len(self.values) < 2 or np.ptp(self.values) <= _ROUNDING:
            return None
        return float(np.var(self.values, ddof=1))


def mixed_interval(value: float, groups: Sequence[Networks], patients: int) -> dict[str, Any]:
    """Return the 95 % interval of a mean over seeds, or of the difference of two, for new patients and new seeds.

    A group's figures are `mu + a_s + m + i_s`: the seed `a_s`, the patients' part `m` that all its networks share, and
    `i_s`, how these patients suit this network more than its siblings (seeds and patients are crossed: Searle, Casella
    and McCulloch, *Variance Components*, 1992, chapter 4). The mean of S networks has the variance
    `Var m + (Var a + Var i) / S`. The variance `s^2` between the networks' figures estimates `Var a + Var i`, as they
    are scored on the same patients; `Var m` is the mean covariance between two networks over resampled patients. (The
    bootstrap variance of the mean is `Var m + Var i / S`: adding `s^2 / S` to it would count `i_s` twice.)

    Of a single network the bootstrap variance stands instead, and `value` speaks of this network. There is no p value
    then: without a variance of its seeds a test of methods would reject far too often.

    Args:
        value: The mean, or the difference.
        groups: One, or the two of a difference.
        patients: How many were resampled.

    Returns:
        `low`, `high`, `method`; `p` (two-sided, of no difference) and `p_method`, or None and a `p_reason`;
        `patient_sd`, `seed_sd` (of the mean or difference: `sqrt(sum s^2 / S)`; null where no group tells of seeds),
        `seed_share` of the variance, and `covers`, what the interval speaks of. Where nothing varies, `low` and `high`
        are null with a `reason`.
    """
    patient = max(0.0, patient_variance(groups))
    told = [(variance / len(g.values), len(g.values) - 1) for g in groups if (variance := g.seed_variance) is not None]
    seed, of_seeds = satterthwaite(told)
    total, free = together((patient, max(1, patients - 1)), (seed, of_seeds))
    covers = THESE_NETWORKS
    if told:
        covers = (
            "new patients and new seeds" if len(told) == len(groups) else "new patients, new seeds of one side only"
        )
    result = {
        "low": None,
        "high": None,
        "p": None,
        "patient_sd": math.sqrt(patient),
        "seed_sd": math.sqrt(seed) if told else None,
        "seed_share": seed / total if told else None,
        "covers": covers,
        "method": "patient bootstrap and variance between seeds",
    }
    if not total > _ROUNDING**2:
        return result | {"reason": "neither patients nor seeds change it"}
    half = float(student.ppf(0.975, free)) * math.sqrt(total)
    result |= {"low": value - half, "high": value + half}
    if len(groups) < 2:
        return result
    reason = _no_test(groups)
    if reason is not None:
        return result | {"p_reason": reason}
    p = float(2 * student.sf(abs(value) / math.sqrt(total), free))
    return result | {"p": p, "p_method": "t test over patients and seeds"}


def patient_variance(groups: Sequence[Networks]) -> float:
    """Return the variance over patients of what a group's networks share, or of the difference of that.

    With C the covariances over resampled patients between all networks, a group of several counts the mean of C between
    two of its own, a group of one its variance, and a difference less twice the mean of C between the two groups'. It
    can come out below 0 where that part is small.
    """
    columns = np.concatenate([group.replicates for group in groups], axis=1)  # [R, K]
    covariance = np.atleast_2d(np.cov(columns, rowvar=False))  # [K, K]
    ends = np.cumsum([len(group.values) for group in groups])
    places = [slice(end - len(group.values), end) for group, end in zip(groups, ends, strict=True)]
    total = 0.0
    for number, (group, place) in enumerate(zip(groups, places, strict=True)):
        own, count = covariance[place, place], len(group.values)
        total += float((own.sum() - np.trace(own)) / (count * (count - 1)) if count > 1 else own[0, 0])
        for other, there in zip(groups[:number], places[:number], strict=True):
            total += 2 * group.sign * other.sign * float(covariance[place, there].mean())
    return total


def satterthwaite(parts: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Return the sum of variances and its degrees of freedom (Satterthwaite, Biometrics Bulletin 2, 1946).

    Args:
        parts: Estimated variances that add up, with the degrees of freedom of each; where all are 0 there is 1.
    """
    total = sum(part for part, _ in parts)
    denominator = sum(part**2 / free for part, free in parts)
    return total, total**2 / denominator if denominator > 0 else 1.0


def together(patients: tuple[float, float], seeds: tuple[float, float]) -> tuple[float, float]:
    """Return the variance of patients and seeds together and its degrees of freedom.

    Their mean, harmonic and weighted by the variances: `1 / f = sum w / f_i` with `w` the share of each, as Cochran
    (Biometrics 20, 1964) weighs quantiles. Satterthwaite's `sum w^2 / f_i` takes the estimated shares for true: where
    two networks happen to agree, what is left seems to have the patients' degrees of freedom. Whatever the true share
    of the seeds, intervals with this mean hold the truth in 94.2 to 96.3 % for three networks or more, and with
    Satterthwaite's in 92.2 to 95 % (normal figures, by integration; with two networks 90.6 to 96.3 and 87.2 to 95).

    Args:
        patients: Variance and degrees of freedom.
        seeds: The same.
    """
    total = patients[0] + seeds[0]
    inverse = sum(part / free for part, free in (patients, seeds))
    return total, total / inverse if inverse > 0 else 1.0


def _no_test(groups: Sequence[Networks]) -> str | None:
    """Say why the means of groups, of which one has several networks, cannot be tested; None where they can."""
    if any(len(group.values) == 1 for group in groups):
        return ONE_NETWORK
    return EQUAL_NETWORKS if any(group.seed_variance is None for group in groups) else None
