"""Every figure with its 95 % interval, or with the reason why there is none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from medsharp.evaluation.statistics.bootstrap import Statistic, bootstrap, jackknife
from medsharp.evaluation.statistics.intervals import bca, normal, percentile, perfect_auroc, pivotal, wilson
from medsharp.evaluation.statistics.thresholded import denominators

Interval = Literal["percentile", "bca"]
"""How a bootstrap interval is made."""

BOOTSTRAP = "patient bootstrap, percentile"
BCA = "patient bootstrap, BCa"
NORMAL = "patient bootstrap, normal"
PIVOTAL = "patient bootstrap, basic"
WILSON = "Wilson, patients"
NEWCOMBE = "Newcombe, patients"
RESAMPLED = frozenset({BOOTSTRAP, BCA, NORMAL})
"""Methods whose replicates tell how the figure itself strays."""

SCALARS = (
    "auroc",
    "auprc",
    "partial_auroc",
    "sensitivity_at_specificity_90",
    "sensitivity_at_specificity_95",
    "specificity_at_sensitivity_90",
    "specificity_at_sensitivity_95",
    "sensitivity",
    "specificity",
    "ppv",
    "npv",
    "ppv_at_prevalence",
    "npv_at_prevalence",
    "lr_positive",
    "lr_negative",
    "balanced_accuracy",
    "accuracy",
    "prevalence",
    "net_benefit_at_threshold",
    "net_benefit_gain_at_threshold",
    "aurc",
    "brier",
    "brier_scaled",
    "brier_reliability",
    "brier_resolution",
    "brier_uncertainty",
    "brier_within_bins",
    "log_loss",
    "calibration_intercept",
    "calibration_slope",
    "ece",
    "calibration_error",
)
"""Every figure, in the order of the report."""

_RANKING = ("auroc", "auprc", "partial_auroc")
_BETWEEN_0_AND_1 = frozenset(SCALARS) - {
    "lr_positive", "lr_negative", "net_benefit_at_threshold", "net_benefit_gain_at_threshold", "brier_scaled",
    "brier_within_bins", "log_loss", "calibration_intercept", "calibration_slope",
}  # fmt: skip
_MISSING = {
    "ppv": "no image reaches the threshold",
    "npv": "every image reaches the threshold",
    "ppv_at_prevalence": "no image reaches the threshold",
    "npv_at_prevalence": "every image reaches the threshold",
    "lr_positive": "the specificity is 1",
    "lr_negative": "the specificity is 0",
    "net_benefit_at_threshold": "the threshold is 1",
    "net_benefit_gain_at_threshold": "the threshold is 1",
    "calibration_intercept": "the fit does not exist",
    "calibration_slope": "the fit does not exist: the classes are separated or all probabilities are equal",
}
# Resampling adds to the binned error what the draw of the images has added already.
_BIASED = "binned figures are biased upwards in resamples"
_PLUGGED_IN = {
    "ece": f"{_BIASED}; the calibration error has an interval",
    "brier_reliability": f"{_BIASED}; the calibration error has an interval",
    "brier_resolution": _BIASED,
}
_LEAST_DEFINED = 0.95
FEWEST_FOR_PERCENTILES = 1000
"""Fewer resamples than this have no percentiles worth giving; their spread is taken, where the data forced so few."""

MOST_LEFT_OUT = 5000
"""From more patients than this, BCa takes the acceleration, which is of the order of 1 / sqrt(patients), as 0."""


@dataclass(frozen=True)
class Cases:
    """What statistics read: labels bool [N], scores float [N], clusters int [N] and the frozen threshold.

    The scores descend, so that nothing has to be sorted for each resample.
    """

    labels: np.ndarray
    scores: np.ndarray
    clusters: np.ndarray
    threshold: float

    def chosen(self, mask: np.ndarray) -> Cases:
        """Return the cases that `mask` [N] chooses, their clusters counted anew."""
        clusters = np.unique(self.clusters[mask], return_inverse=True)[1]
        return Cases(self.labels[mask], self.scores[mask], clusters, self.threshold)

    def patients(self, mask: np.ndarray | None = None) -> int:
        """Count the clusters, or those of the images that `mask` chooses."""
        return int(np.count_nonzero(np.bincount(self.clusters if mask is None else self.clusters[mask])))


@dataclass(frozen=True)
class Measured:
    """Values on the data as they are, and on each resample.

    Attributes:
        values: By name, scalar or [G].
        replicates: By name, [R] or [R, G]; empty where there is only one patient.
        interval: How intervals are made of them.
        left_out: Values without each patient in turn, for BCa of not too many patients.
        thinned: The images were too many for all resamples that were wished.
    """

    values: dict[str, np.ndarray]
    replicates: dict[str, np.ndarray] = field(repr=False)
    interval: Interval = "percentile"
    left_out: dict[str, np.ndarray] = field(default_factory=dict, repr=False)
    thinned: bool = False


def measure(
    cases: Cases,
    statistics: Sequence[Statistic],
    *,
    resamples: int,
    rng: np.random.Generator,
    interval: Interval = "percentile",
    thinned: bool = False,
) -> Measured:
    """Compute statistics on the images as they are and on resampled patients."""
    values: dict[str, np.ndarray] = {}
    for statistic in statistics:
        found = statistic(np.ones((1, len(cases.labels))))
        values.update({name: value[0] for name, value in found.items()})
    patients = cases.patients()
    if patients < 2:
        return Measured(values, {name: np.empty((0, *np.shape(value))) for name, value in values.items()}, interval)
    replicates = bootstrap(statistics, cases.clusters, resamples=resamples, rng=rng)
    left_out = jackknife(statistics, cases.clusters) if interval == "bca" and patients <= MOST_LEFT_OUT else {}
    return Measured(values, replicates, interval, left_out, thinned)


def figures_of(cases: Cases, measured: Measured) -> dict[str, dict[str, Any]]:
    """Return `{"value", "low", "high", "n", "method"}` by name, or nulls with a `reason`.

    `n` counts the images that the figure is about: for sensitivity the positive ones. A share of 0 or 1 has `patients`
    too, the number that Wilson's interval stands on.
    """
    shares = denominators(cases.labels, cases.scores, cases.threshold)
    tied = bool((cases.scores == cases.scores[0]).all())
    figures: dict[str, dict[str, Any]] = {}
    for name in SCALARS:
        if name not in measured.values:
            continue
        about = shares.get(name)
        count = len(cases.labels) if about is None else int(about.sum())
        value = float(measured.values[name])
        if tied and name in _RANKING:
            figures[name] = _missing("every image has the same probability", count)
        elif not np.isfinite(value):
            figures[name] = _missing(_MISSING.get(name, "it does not exist for these data"), count)
        else:
            interval = _interval(name, value, cases, about, measured, figures)
            figures[name] = {"value": value, "low": None, "high": None, "n": count} | interval
    return figures


def share_of(
    name: str, cases: Cases, measured: Measured, about: np.ndarray | None = None, missing: str = ""
) -> dict[str, Any]:
    """Return one measured figure as `figures_of` does.

    Args:
        name: Among the measured values.
        cases: The images.
        measured: Values and replicates.
        about: The images that a share is a share of [N]; None where the figure is no share.
        missing: Why it has no value, where it has none.
    """
    value = float(measured.values[name])
    count = len(cases.labels) if about is None else int(about.sum())
    if not np.isfinite(value):
        return _missing(missing or "it does not exist for these data", count)
    return {"value": value, "low": None, "high": None, "n": count} | _interval(name, value, cases, about, measured, {})


def _interval(
    name: str,
    value: float,
    cases: Cases,
    about: np.ndarray | None,
    measured: Measured,
    before: dict[str, dict[str, Any]],
) -> dict[str, Any]:
    """Return low, high and method, or the reason why there is no interval."""
    replicates = measured.replicates[name]
    if not len(replicates):
        return {"reason": "one patient only: no interval can be given"}
    if name in _PLUGGED_IN:
        return {"reason": _PLUGGED_IN[name]}
    if about is not None and value in (0.0, 1.0):
        patients = cases.patients(about)
        return _limits(wilson(value * patients, patients), WILSON) | {"patients": patients}
    if name == "balanced_accuracy" and value in (0.0, 1.0):
        # Both shares are 0 or both are 1: the mean of their limits is at least as wide as it must be.
        parts = [before["sensitivity"], before["specificity"]]
        return _limits((sum(p["low"] for p in parts) / 2, sum(p["high"] for p in parts) / 2), WILSON)
    if name == "auroc" and value in (0.0, 1.0):
        low, high = perfect_auroc(cases.patients(cases.labels), cases.patients(~cases.labels))
        return _limits((low, high) if value == 1.0 else (1 - high, 1 - low), NEWCOMBE)
    finite = replicates[np.isfinite(replicates)]
    if len(finite) < _LEAST_DEFINED * len(replicates):
        return {"reason": f"it does not exist in {1 - len(finite) / len(replicates):.0%} of the resamples"}
    if np.ptp(finite) == 0:
        return {"reason": "it is the same in every resample"}
    if name == "calibration_error":
        return _limits(_debiased(measured), PIVOTAL)
    limits, method = _of_resamples(name, value, finite, measured)
    if name in _BETWEEN_0_AND_1:
        limits = max(0.0, limits[0]), min(1.0, limits[1])
    return _limits(limits, method)


def _of_resamples(name: str, value: float, finite: np.ndarray, measured: Measured) -> tuple[tuple[float, float], str]:
    if measured.thinned and len(finite) < FEWEST_FOR_PERCENTILES:
        return normal(value, finite), NORMAL
    if measured.interval == "bca":
        left_out = measured.left_out.get(name)
        return bca(value, finite, None if left_out is None else left_out[np.isfinite(left_out)]), BCA
    return percentile(finite), BOOTSTRAP


def _debiased(measured: Measured) -> tuple[float, float]:
    """Return the limits of the debiased calibration error, made for its square and cut off at 0."""
    low, high = pivotal(
        float(measured.values["squared_calibration_error"]),
        float(measured.values["brier_reliability"]),
        measured.replicates["squared_calibration_error"],
    )
    return max(0.0, low) ** 0.5, max(0.0, high) ** 0.5


def _limits(limits: tuple[float, float], method: str) -> dict[str, Any]:
    return {"low": limits[0], "high": limits[1], "method": method}


def _missing(reason: str, count: int) -> dict[str, Any]:
    return {"value": None, "low": None, "high": None, "n": count, "reason": reason}
