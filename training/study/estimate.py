"""A difference with its standard error and degrees of freedom, and what may be said of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import t as student

from medsharp.evaluation.comparison.seeds import satterthwaite

_POWER = 0.8
_ROUNDING = 1e-12


@dataclass(frozen=True)
class Estimate:
    """A value whose error is a t deviate.

    Attributes:
        value: The estimate.
        error: Its standard error; 0 where nothing varies, NaN where its variance does not exist, as that over patients
            of a class that has one patient only. Nothing but the value is said then.
        free: Degrees of freedom.
    """

    value: float
    error: float
    free: float

    @staticmethod
    def of_parts(value: float, parts: Sequence[tuple[float, float]]) -> Estimate:
        """Make one whose variance is a sum of estimated variances, each with its degrees of freedom."""
        total, free = satterthwaite(parts)
        return Estimate(value, math.sqrt(total), free)

    @property
    def known(self) -> bool:
        """Whether it has an error to judge it by."""
        return math.isfinite(self.error) and self.error > 0

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95 % interval."""
        if not self.known:
            return None
        half = float(student.ppf(0.975, self.free)) * self.error
        return self.value - half, self.value + half

    @property
    def p(self) -> float | None:
        """Two-sided, of no difference."""
        return float(2 * student.sf(abs(self.value) / self.error, self.free)) if self.known else None

    def smallest_seen(self, level: float = 0.05) -> float | None:
        """Return the difference that a two-sided test at `level` would find with a power of 80 %."""
        if not self.known:
            return None
        return float(student.ppf(1 - level / 2, self.free) + student.ppf(_POWER, self.free)) * self.error

    def masses(self, equivalence: float) -> dict[str, float] | None:
        """Return the posterior probabilities that the difference is below, inside and above `+-equivalence`.

        With a flat prior the posterior is Student's t about the value; with the variance of `correlated_t` this is the
        correlated Bayesian t test (Benavoli et al., JMLR 18, 2017).
        """
        if not self.known:
            return None
        worse = float(student.cdf((-equivalence - self.value) / self.error, self.free))
        better = float(student.sf((equivalence - self.value) / self.error, self.free))
        return {"worse": worse, "equivalent": max(0.0, 1 - worse - better), "better": better}

    def as_dict(self, equivalence: float) -> dict[str, Any]:
        """Return all of it as plain values."""
        low, high = self.interval or (None, None)
        return {
            "value": self.value,
            "low": low,
            "high": high,
            "standard_error": self.error,
            "degrees_of_freedom": self.free,
            "p": self.p,
            "probabilities": self.masses(equivalence),
            "smallest_seen": self.smallest_seen(),
        }


def correlated_t(differences: np.ndarray, test_share: float) -> Estimate:
    """Estimate the mean difference over folds whose training images overlap.

    The variance of the mean is `(1/K + n_test / n_train) s^2` with K - 1 degrees of freedom (Nadeau and Bengio, Machine
    Learning 52, 2003): folds that share training images are correlated, so that `s^2 / K` is too small.

    Args:
        differences: Of each fold [K], two or more.
        test_share: Images that are tested over images that are trained on, in a fold.
    """
    count = len(differences)
    # Equal differences that were summed in another order differ by rounding, which is no error to judge by.
    spread = float(np.var(differences, ddof=1)) if np.ptp(differences) > _ROUNDING else 0.0
    return Estimate(float(np.mean(differences)), math.sqrt((1 / count + test_share) * spread), count - 1)


def together(estimates: Sequence[Estimate]) -> Estimate:
    """Return the mean of estimates that may share patients and networks.

    Their errors are taken as perfectly correlated, which is the worst case: the standard error of the mean is then the
    mean of theirs, and the degrees of freedom are the fewest.
    """
    return Estimate(
        float(np.mean([one.value for one in estimates])),
        float(np.mean([one.error for one in estimates])),
        min(one.free for one in estimates),
    )
