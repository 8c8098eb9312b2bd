"""Every figure of some images, estimated on them and on resampled patients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np

from medsharp.evaluation.statistics.bootstrap import Statistic, bootstrap, jackknife
from medsharp.evaluation.statistics.calibration import contradicted
from medsharp.evaluation.statistics.estimate import (
    MOST_LEFT_OUT,
    NEWCOMBE,
    PIVOTAL,
    WILSON,
    ClosedForm,
    Estimate,
    Interval,
    Limits,
)
from medsharp.evaluation.statistics.intervals import perfect_auroc, pivotal, wilson
from medsharp.evaluation.statistics.registry import FIGURES, About, Figure
from medsharp.quantities import counted


class Tally(Protocol):
    """What the rules of figures count: of `Cases` in memory, or of images that were counted as they went by."""

    def images_about(self, which: About) -> int:
        """Count the images that a figure is about."""

    def patients_about(self, which: About) -> int:
        """Count the patients with such an image."""

    @property
    def constant(self) -> bool:
        """Whether every image has the same score."""

    @property
    def contradicted(self) -> int:
        """How many probabilities are 0 or 1, and wrong."""


@dataclass(frozen=True)
class Cases:
    """What statistics read: labels bool [N], scores float [N], clusters int [N] and the frozen threshold.

    The scores descend, so that nothing has to be sorted for each resample.
    """

    labels: np.ndarray
    scores: np.ndarray
    clusters: np.ndarray
    threshold: float

    def chosen(self, which: np.ndarray) -> Cases:
        """Return the cases that a mask [N], or ascending places [n], chooses, their clusters counted anew."""
        clusters = np.unique(self.clusters[which], return_inverse=True)[1]
        return Cases(self.labels[which], self.scores[which], clusters, self.threshold)

    def patients(self, mask: np.ndarray | None = None) -> int:
        """Count the clusters, or those of the images that `mask` chooses."""
        return int(np.count_nonzero(np.bincount(self.clusters if mask is None else self.clusters[mask])))

    def about(self, which: About) -> np.ndarray:
        """Return the mask [N] of the images that a figure is about."""
        called = self.scores >= self.threshold
        masks = {
            "images": np.ones_like(self.labels),
            "positives": self.labels,
            "negatives": ~self.labels,
            "called": called,
            "not called": ~called,
        }
        return masks[which]

    def images_about(self, which: About) -> int:
        """Count the images that a figure is about."""
        return int(self.about(which).sum())

    def patients_about(self, which: About) -> int:
        """Count the patients with such an image."""
        return self.patients(self.about(which))

    @property
    def constant(self) -> bool:
        """Whether every image has the same score."""
        return bool((self.scores == self.scores[0]).all())

    @property
    def contradicted(self) -> int:
        """How many probabilities are 0 or 1, and wrong."""
        return contradicted(self.labels, self.scores)


@dataclass(frozen=True)
class Measured:
    """Values on the data as they are, and on each resample.

    Attributes:
        values: By name, scalar or [G].
        replicates: By name, [R] or [R, G]; empty where there is only one patient.
        left_out: Values without each patient in turn, for BCa of not too many patients.
        images: How many there are.
    """

    values: dict[str, np.ndarray]
    replicates: dict[str, np.ndarray] = field(repr=False)
    left_out: dict[str, np.ndarray] = field(default_factory=dict, repr=False)
    images: int | None = None

    def estimate(self, name: str, **more: Any) -> Estimate:
        """Return a measured figure as an estimate, without its rules.

        Args:
            name: Among the values, a scalar.
            more: Other fields of the estimate.
        """
        return Estimate(float(self.values[name]), self.replicates[name], self.left_out.get(name), **more)


def measure(
    clusters: np.ndarray,
    statistics: Sequence[Statistic],
    *,
    resamples: int = 0,
    rng: np.random.Generator | None = None,
    interval: Interval = "percentile",
    drawn: np.ndarray | None = None,
) -> Measured:
    """Compute statistics on the images as they are and on resampled patients.

    Args:
        clusters: The patient of each image, int 0, 1, ... [N].
        statistics: What to compute.
        resamples: How many are drawn.
        rng: Where they come from.
        interval: What intervals are wanted; BCa needs the jackknife too.
        drawn: Draws that were made before, in place of those two, so that several calls have the same.
    """
    values: dict[str, np.ndarray] = {}
    for statistic in statistics:
        found = statistic(np.ones((1, len(clusters))))
        values.update({name: value[0] for name, value in found.items()})
    patients = int(np.count_nonzero(np.bincount(clusters)))
    if patients < 2:
        nothing = {name: np.empty((0, *np.shape(value))) for name, value in values.items()}
        return Measured(values, nothing, images=len(clusters))
    replicates = bootstrap(statistics, clusters, resamples=resamples, rng=rng, drawn=drawn)
    left_out = jackknife(statistics, clusters) if interval == "bca" and patients <= MOST_LEFT_OUT else {}
    return Measured(values, replicates, left_out, len(clusters))


def estimates_of(cases: Tally, measured: Measured, least: int = 0) -> dict[str, Estimate]:
    """Return the estimates of all measured figures of the registry, each with the rules of its entry.

    Args:
        cases: What was measured, or what was counted of it.
        measured: Values and replicates of the same cases.
        least: A figure about fewer images than this, or fewer of either class where it needs both, has no value.
    """
    found: dict[str, Estimate] = {}
    for entry in FIGURES.values():
        if entry.key in measured.values:
            found[entry.key] = _estimate(entry, cases, measured, found, least)
    return found


def figures_of(estimates: dict[str, Estimate], interval: Interval = "percentile") -> dict[str, dict[str, Any]]:
    """Return `{"value", "low", "high", "n", "method"}` by name, or nulls with a `reason`.

    `n` counts the images that the figure is about, for sensitivity the positive ones; a share has `patients` too, those
    with such an image.
    """
    return {name: estimate.figure(interval) for name, estimate in estimates.items()}


def share_estimate(measured: Measured, name: str, about: np.ndarray, cases: Cases, missing: str = "") -> Estimate:
    """Return a measured share, with Wilson's interval on patients where it is 0 or 1.

    Args:
        measured: Values and replicates.
        name: Among the measured values.
        about: The images that it is a share of [N].
        cases: Their clusters.
        missing: Why it has no value, where it has none.
    """
    return counted_share(measured, name, int(about.sum()), cases.patients(about), missing)


def counted_share(measured: Measured, name: str, images: int, patients: int, missing: str = "") -> Estimate:
    """Return what `share_estimate` does of so many images and patients."""
    value = float(measured.values[name])
    return measured.estimate(
        name, n=images, bounds=(0.0, 1.0), ends=_share_at_ends(value, patients),
        reason="" if np.isfinite(value) else missing, extra={"patients": patients},
    )  # fmt: skip


def _estimate(entry: Figure, cases: Tally, measured: Measured, before: dict[str, Estimate], least: int) -> Estimate:
    value, count = float(measured.values[entry.key]), cases.images_about(entry.about)
    reason = withheld(entry, cases, least)
    if reason:
        return Estimate(np.nan, np.full_like(measured.replicates[entry.key], np.nan), reason=reason, n=count)
    reason = entry.no_interval if np.isfinite(value) else entry.missing
    if entry.share:
        share = counted_share(measured, entry.key, count, cases.patients_about(entry.about), reason)
        return replace(share, bounds=(entry.low, entry.high))
    estimate = measured.estimate(
        entry.key, n=count, bounds=(entry.low, entry.high), reason=reason, scale=entry.interval_scale,
        extra={"caution": entry.caution} if entry.caution and not reason else {},
    )  # fmt: skip
    if entry.key in _CONSEQUENCES:
        return replace(estimate, ends=_consequence_at_ends(entry.key, measured, before))
    if entry.key == "balanced_accuracy":
        return replace(estimate, ends=_mean_at_ends(value, before))
    if entry.key == "auroc":
        return replace(estimate, ends=auroc_at_ends(value, cases))
    if entry.key == "calibration_error":
        return replace(estimate, pivot=_debiased(measured))
    return estimate


def withheld(entry: Figure, cases: Tally, least: int) -> str:
    """Say why a figure has no value whatever the statistic gives; empty where it may have one.

    Args:
        entry: Of the registry.
        cases: What was measured, or what was counted of it.
        least: As for `estimates_of`.
    """
    count = cases.images_about(entry.about)
    if entry.ranking and cases.constant:
        return "every image has the same probability"
    if entry.key in ("calibration_intercept", "calibration_slope"):
        wrong = cases.contradicted
        if wrong:
            are = "probability is 0 or 1 and was" if wrong == 1 else "probabilities are 0 or 1 and were"
            return f"{wrong} {are} wrong: no finite recalibration exists"
    if count < least and entry.about != "images":
        return f"{counted(count, 'image')} only; {least} are the least"
    positives, negatives = cases.images_about("positives"), cases.images_about("negatives")
    fewer = min(positives, negatives)
    if entry.events and fewer < least:
        kind = "positive" if positives == fewer else "negative"
        return f"{counted(fewer, f'{kind} image')} only; {least} of either class are the least"
    return ""


def _share_at_ends(value: float, patients: int) -> ClosedForm:
    """Return what gives Wilson's interval of a share of 0 or 1 of so many patients."""

    def limits() -> Limits | None:
        return Limits(*wilson(value * patients, patients), WILSON) if value in (0.0, 1.0) else None

    return limits


def auroc_at_ends(value: float, cases: Tally) -> ClosedForm:
    """Return what gives Newcombe's interval of an AUROC of 0 or 1."""

    def limits() -> Limits | None:
        if value not in (0.0, 1.0):
            return None
        low, high = perfect_auroc(cases.patients_about("positives"), cases.patients_about("negatives"))
        return Limits(low, high, NEWCOMBE) if value == 1.0 else Limits(1 - high, 1 - low, NEWCOMBE)

    return limits


def _mean_at_ends(value: float, before: dict[str, Estimate]) -> ClosedForm:
    """Where both shares are 0 or both are 1, the mean of their limits is at least as wide as it must be."""

    def limits() -> Limits | None:
        if value not in (0.0, 1.0):
            return None
        parts = [before[name].interval() for name in ("sensitivity", "specificity")]
        lows, highs = zip(*((part.low, part.high) for part in parts if isinstance(part, Limits)), strict=True)
        return Limits(sum(lows) / 2, sum(highs) / 2, WILSON)

    return limits


_CONSEQUENCES = {
    # The share that it follows from, whether it falls as the share grows, and what both kinds add up to.
    "true_positives_per_1000": ("sensitivity", False, ("true_positives_per_1000", "false_negatives_per_1000")),
    "false_negatives_per_1000": ("sensitivity", True, ("true_positives_per_1000", "false_negatives_per_1000")),
    "false_positives_per_1000": ("specificity", True, ("false_positives_per_1000", "true_negatives_per_1000")),
    "true_negatives_per_1000": ("specificity", False, ("false_positives_per_1000", "true_negatives_per_1000")),
}


def _consequence_at_ends(key: str, measured: Measured, before: dict[str, Estimate]) -> ClosedForm:
    """Return what carries the closed form of a sensitivity or specificity of 0 or 1 over to decisions among women."""
    share, turned, parts = _CONSEQUENCES[key]

    def limits() -> Limits | None:
        closed = before[share].ends
        found = closed() if closed is not None else None
        if found is None:
            return None
        women = float(sum(measured.values[part] for part in parts))
        low, high = (1 - found.high, 1 - found.low) if turned else (found.low, found.high)
        return Limits(women * low, women * high, found.method)

    return limits


def _debiased(measured: Measured) -> ClosedForm:
    """Return what gives the limits of the debiased calibration error, made for its square and cut off at 0."""

    def limits() -> Limits | None:
        low, high = pivotal(
            float(measured.values["squared_calibration_error"]),
            float(measured.values["brier_reliability"]),
            measured.replicates["squared_calibration_error"],
        )
        return Limits(max(0.0, low) ** 0.5, max(0.0, high) ** 0.5, PIVOTAL)

    return limits
