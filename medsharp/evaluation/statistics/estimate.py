"""One estimate: a value and how it strays over resampled patients; differences, means, and the rules of intervals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

import numpy as np

from medsharp.evaluation.statistics.intervals import bca, mover, normal, normal_on, percentile
from medsharp.evaluation.statistics.registry import IntervalScale

Interval = Literal["percentile", "bca"]
"""How an interval is made of the resamples."""

BOOTSTRAP = "patient bootstrap, percentile"
BCA = "patient bootstrap, BCa"
NORMAL = "patient bootstrap, normal"
NORMAL_LOG = "patient bootstrap, normal on the log scale"
NORMAL_COMPLEMENT = "patient bootstrap, normal on the scale of log(1 - value)"
NORMAL_DEBIASED = "patient bootstrap, normal, bias taken off"
PIVOTAL = "patient bootstrap, basic"
WILSON = "Wilson, patients"
NEWCOMBE = "Newcombe, patients"
MOVER = "MOVER, from the two intervals"
OBUCHOWSKI = "Obuchowski, patients, on the logit scale"

_SCALED = {
    "log": NORMAL_LOG,
    "log of 1 less it": NORMAL_COMPLEMENT,
    "debiased": NORMAL_DEBIASED,
}
_SIDES = {"low": "lower", "high": "upper"}
_OF_RESAMPLES = {BOOTSTRAP, BCA, *_SCALED.values()}

FEWEST_FOR_PERCENTILES = 1000
"""Fewer resamples than this have no percentiles worth giving; their spread is taken instead."""

LEAST_DEFINED = 0.95
"""A figure that fewer of the resamples have gets no interval: those that lack it are not like the others."""

MOST_LEFT_OUT = 5000
"""From more patients than this, BCa takes the acceleration, which is of the order of 1 / sqrt(patients), as 0."""

ALWAYS_THE_SAME = "it is the same in every resample"
ONE_PATIENT = "one patient only: no interval can be given"


class Limits(NamedTuple):
    """A 95 % interval and how it was made; infinite on a side where there is no limit."""

    low: float
    high: float
    method: str


ClosedForm = Callable[[], Limits | None]


@dataclass(frozen=True)
class Estimate:
    """A figure on the images as they are and on resampled patients.

    Estimates of the same draws subtract and average resample by resample, which keeps them paired.

    Attributes:
        value: NaN where it does not exist, infinite where a ratio is one over 0.
        replicates: Of each resample [R], likewise; empty with a single patient.
        left_out: Without each patient in turn, for BCa of not too many patients.
        reason: Why there is no value, or no interval, where that is known beforehand.
        n: The images it is about.
        bounds: The least and the greatest value that exist.
        ends: The closed form for a value that resampling cannot move, such as a share of 1; None where it moves.
        pivot: An interval of resamples that is not their percentiles, as of a figure whose bias is taken off.
        scale: The scale of the registry on which limits are made, in place of percentiles or BCa.
        extra: What else stands beside the value in files.
    """

    value: float
    replicates: np.ndarray = field(repr=False)
    left_out: np.ndarray | None = field(default=None, repr=False)
    reason: str = ""
    n: int | None = None
    bounds: tuple[float, float] = (-np.inf, np.inf)
    ends: ClosedForm | None = field(default=None, repr=False)
    pivot: ClosedForm | None = field(default=None, repr=False)
    scale: IntervalScale = ""
    extra: dict[str, Any] = field(default_factory=dict)

    def __sub__(self, other: Estimate) -> Estimate:
        """Return the difference, paired by resample; of two shares it keeps within -1 and 1."""
        return replace(self._combined([self, other], lambda a, b: a - b), bounds=self._bounds_less(other))

    def _bounds_less(self, other: Estimate) -> tuple[float, float]:
        return self.bounds[0] - other.bounds[1], self.bounds[1] - other.bounds[0]

    def scaled(self, factor: float, offset: float = 0.0) -> Estimate:
        """Return `(self - offset) * factor`."""
        return self._combined([self], lambda a: (a - offset) * factor)

    @staticmethod
    def mean(estimates: Sequence[Estimate]) -> Estimate:
        """Return the average, paired by resample; a mean of shares and areas keeps within their bounds."""
        found = Estimate._combined(estimates, lambda *parts: np.mean(parts, axis=0))
        lows, highs = zip(*(estimate.bounds for estimate in estimates), strict=True)
        single = estimates[0] if len(estimates) == 1 else None
        return replace(found, bounds=(min(lows), max(highs))) if single is None else single

    @staticmethod
    def _combined(estimates: Sequence[Estimate], how: Callable[..., Any]) -> Estimate:
        left_out = [estimate.left_out for estimate in estimates if estimate.left_out is not None]
        with np.errstate(invalid="ignore"):  # one infinite value less another is none
            return Estimate(
                float(how(*(np.float64(estimate.value) for estimate in estimates))),
                how(*(estimate.replicates for estimate in estimates)),
                how(*left_out) if len(left_out) == len(estimates) else None,
                next((estimate.reason for estimate in estimates if estimate.reason), ""),
            )

    @property
    def exists(self) -> bool:
        """Tell whether there is a value that can be written down."""
        return bool(np.isfinite(self.value))

    def interval(self, kind: Interval = "percentile") -> Limits | str:
        """Return the 95 % interval, or the reason why there is none.

        A closed form stands first, where resampling cannot move the value. Otherwise at least 95 % of the resamples
        must have the figure, and not all the same. An infinite value is one that a resample has, and the greatest (or
        the least) of them; where more than 2.5 % are, there is no limit on that side. A figure whose percentiles are
        known not to cover has limits on its own scale. Of the others, fewer than 1,000 resamples give the value less
        and plus 1.96 standard deviations; more give percentiles, or BCa limits. Limits keep within the bounds of the
        figure.

        Args:
            kind: `percentile` or `bca`.
        """
        if not self.exists:
            return self.reason or "it does not exist for these data"
        if not len(self.replicates):
            return ONE_PATIENT
        if self.reason:
            return self.reason
        closed = self.ends() if self.ends is not None else None
        if closed is not None:
            return closed
        defined = self.replicates[~np.isnan(self.replicates)]
        if len(defined) < LEAST_DEFINED * len(self.replicates):
            return f"it does not exist in {1 - len(defined) / len(self.replicates):.0%} of the resamples"
        finite = defined[np.isfinite(defined)]
        if not len(finite) or np.ptp(finite) == 0:
            return ALWAYS_THE_SAME if len(finite) == len(defined) else self._infinite()
        pivoted = self.pivot() if self.pivot is not None else None
        low, high, method = pivoted or self._of_resamples(defined, kind)
        if np.isinf(low) and np.isinf(high):
            return self._infinite()
        return Limits(max(self.bounds[0], low), min(self.bounds[1], high), method)

    def _infinite(self) -> str:
        return f"it is infinite in {np.isinf(self.replicates).mean():.1%} of the resamples"

    def _of_resamples(self, defined: np.ndarray, kind: Interval) -> Limits:
        scaled = normal_on(self.scale, self.value, defined) if self.scale else None
        if scaled is not None:
            return Limits(*scaled, _SCALED[self.scale])
        if len(self.replicates) < FEWEST_FOR_PERCENTILES:
            return Limits(*normal(self.value, defined), NORMAL)
        if kind == "bca":
            left_out = None if self.left_out is None else self.left_out[np.isfinite(self.left_out)]
            return Limits(*bca(self.value, defined, left_out), BCA)
        return Limits(*percentile(defined), BOOTSTRAP)

    def figure(self, kind: Interval = "percentile") -> dict[str, Any]:
        """Return `{"value", "low", "high", "n", "method"}`, or nulls with a `reason`.

        Where there is no limit on one side, that one is null, and the `reason` stands beside the other.
        """
        counted = {} if self.n is None else {"n": self.n}
        found: dict[str, Any] = {"value": float(self.value) if self.exists else None, "low": None, "high": None}
        interval = self.interval(kind)
        if isinstance(interval, str):
            return found | counted | {"reason": interval} | self.extra
        return found | counted | self._written(interval) | self.extra

    def _written(self, interval: Limits) -> dict[str, Any]:
        written: dict[str, Any] = interval._asdict()
        for side in ("low", "high"):
            if np.isinf(written[side]):
                written |= {side: None, "reason": f"no {_SIDES[side]} limit: {self._infinite()}"}
        return written


def independent_difference(first: Estimate, second: Estimate, kind: Interval = "percentile") -> dict[str, Any]:
    """Return `second - first` of two data sets that share no patients, as `Estimate.figure` does.

    Their resamples are paired at random, as two data sets of the same name would have been drawn alike. Where one of
    the intervals is in closed form, the two intervals are combined instead (MOVER; Zou and Donner, 2008).
    """
    nothing = {"value": None, "low": None, "high": None}
    for estimate in (first, second):
        if not estimate.exists:
            return nothing | {"reason": str(estimate.interval(kind))}
    value = second.value - first.value
    one, other = first.interval(kind), second.interval(kind)
    if isinstance(one, str) or isinstance(other, str):
        return nothing | {"value": value, "reason": one if isinstance(one, str) else other}
    if not np.isfinite([*one[:2], *other[:2]]).all():
        return nothing | {"value": value, "reason": "one of the two has no limit on one side"}
    if {one.method, other.method} <= _OF_RESAMPLES:
        return _paired_at_random(first, second).figure(kind)
    low, high = mover((second.value, other.low, other.high), (first.value, one.low, one.high))
    return nothing | {"value": value, "low": low, "high": high, "method": MOVER}


def _paired_at_random(first: Estimate, second: Estimate) -> Estimate:
    one, other = (e.replicates[np.isfinite(e.replicates)] for e in (first, second))
    count = min(len(one), len(other))
    order = np.random.default_rng(0).permutation(len(one))[:count]
    left_out = None
    if first.left_out is not None and second.left_out is not None:
        # Leaving out a patient of either data set changes the difference by that one's part.
        left_out = np.r_[second.left_out - first.value, second.value - first.left_out]
    bounds = second._bounds_less(first)
    return Estimate(second.value - first.value, other[:count] - one[order], left_out, bounds=bounds)
