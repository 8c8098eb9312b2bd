"""Every figure with its 95 % interval, or with the reason why there is none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from medsharp.evaluation.bootstrap import Statistic, bootstrap
from medsharp.evaluation.intervals import percentile, perfect_auroc, wilson
from medsharp.evaluation.thresholded import denominators

BOOTSTRAP = "patient bootstrap, percentile"
WILSON = "Wilson, patients"
NEWCOMBE = "Newcombe, patients"

SCALARS = (
    "auroc",
    "auprc",
    "brier",
    "log_loss",
    "calibration_intercept",
    "calibration_slope",
    "sensitivity",
    "specificity",
    "ppv",
    "npv",
    "balanced_accuracy",
    "accuracy",
    "prevalence",
)

_RANKING = ("auroc", "auprc")
_MISSING = {
    "ppv": "no image reaches the threshold",
    "npv": "every image reaches the threshold",
    "calibration_intercept": "the fit does not exist",
    "calibration_slope": "the fit does not exist: the classes are separated or all probabilities are equal",
}
_LEAST_DEFINED = 0.95


@dataclass(frozen=True)
class Cases:
    """What statistics read: labels bool [N], scores float [N], clusters int [N] and the frozen threshold."""

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
        return len(np.unique(self.clusters if mask is None else self.clusters[mask]))


@dataclass(frozen=True)
class Measured:
    """Values on the data as they are, and on each resample.

    Attributes:
        values: By name, scalar or [G].
        replicates: By name, [R] or [R, G]; empty where there is only one patient.
    """

    values: dict[str, np.ndarray]
    replicates: dict[str, np.ndarray] = field(repr=False)


def measure(cases: Cases, statistics: Sequence[Statistic], *, resamples: int, rng: np.random.Generator) -> Measured:
    """Compute statistics on the images as they are and on resampled patients."""
    values: dict[str, np.ndarray] = {}
    for statistic in statistics:
        found = statistic(np.ones((1, len(cases.labels))))
        values.update({name: value[0] for name, value in found.items()})
    if cases.patients() < 2:
        return Measured(values, {name: np.empty((0, *np.shape(value))) for name, value in values.items()})
    return Measured(values, bootstrap(statistics, cases.clusters, resamples=resamples, rng=rng))


def figures_of(cases: Cases, measured: Measured) -> dict[str, dict[str, Any]]:
    """Return `{"value", "low", "high", "n", "method"}` by name, or nulls with a `reason`.

    `n` counts the images that the figure is about: for sensitivity the positive ones.
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
            interval = _interval(name, value, cases, about, measured.replicates[name], figures)
            figures[name] = {"value": value, "low": None, "high": None, "n": count} | interval
    return figures


def _interval(
    name: str,
    value: float,
    cases: Cases,
    about: np.ndarray | None,
    replicates: np.ndarray,
    before: dict[str, dict[str, Any]],
) -> dict[str, Any]:
    """Return low, high and method, or the reason why there is no interval."""
    if not len(replicates):
        return {"reason": "one patient only: no interval can be given"}
    if about is not None and value in (0.0, 1.0):
        patients = cases.patients(about)
        return _limits(wilson(value * patients, patients), WILSON)
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
    return _limits(percentile(finite), BOOTSTRAP)


def _limits(limits: tuple[float, float], method: str) -> dict[str, Any]:
    return {"low": limits[0], "high": limits[1], "method": method}


def _missing(reason: str, count: int) -> dict[str, Any]:
    return {"value": None, "low": None, "high": None, "n": count, "reason": reason}
