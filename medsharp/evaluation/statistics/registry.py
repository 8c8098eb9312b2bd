"""The registry of figures: what each is called, means and is a share of, and how its interval and summary are made.

A figure is added by an entry here and a statistic that computes it (`medsharp.evaluation.statistics.scalars`); tables,
pages, comparison, summary over sites and the console read the entry.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

About = Literal["images", "positives", "negatives", "called", "not called"]
"""Which images a figure is about: all, those of the positive class, of the others, at or above the threshold, below."""

Better = Literal["higher", "lower", "0", "1", "neither"]
"""Where a figure should lie; `0` and `1` are what calibration aims at."""

DISCRIMINATION = "Discrimination"
DECISIONS = "At the operating point"
CONSEQUENCES = "Among 1,000 women"
USE = "Use"
CALIBRATION = "Calibration"
CHOSEN_HERE = "With thresholds chosen on these very images, to compare models only"
CLASSES = "Over all classes"
SETS = "Prediction sets"
SECTIONS = (DISCRIMINATION, DECISIONS, CONSEQUENCES, USE, CALIBRATION, CHOSEN_HERE)
"""Sections of a data set's tables, in order."""

_MISSING = "it does not exist for these data"
_NOBODY_CALLED = "no image reaches the threshold"
_EVERYBODY_CALLED = "every image reaches the threshold"
_NO_FIT = "the fit does not exist: the classes are separated or all probabilities are equal"
_BIASED = "binned figures are biased upwards in resamples"
_NO_ODDS = "the threshold is 0 or 1"
_FEW_MISSED = "where few positives lie below the threshold, its interval covers 90 % in place of 95"
_SMOOTH = (
    "no interval from resamples holds the truth often enough both where calibration is perfect and where it is poor"
)

Pooling = Literal["logit", "identity"]
"""The scale on which a figure of several hospitals is summarised."""

IntervalScale = Literal["", "log", "log of 1 less it", "debiased"]
"""How limits are made where percentiles of the resamples do not cover (docs/statistics.md has the coverage of each):
the value less and plus 1.96 standard deviations of the resamples on this scale; `debiased` takes their bias off."""


@dataclass(frozen=True)
class Figure:
    """One figure.

    Attributes:
        key: In every file.
        name: In tables; `{prevalence}` is filled in where a prevalence is stated.
        meaning: A few words on what it tells.
        section: Where it stands; empty for what is shown elsewhere.
        better: Where it should lie.
        percent: Shown as a percentage.
        digits: Decimals shown, of the percentage where it is one.
        low: The least value that exists.
        high: The greatest value that exists.
        about: The images that it counts or is a share of.
        share: It is a plain share of those images, so that Wilson's interval holds where it is 0 or 1.
        events: It needs images of the positive class and of the others alike.
        ranking: It only looks at the order of the scores.
        decided: It changes with the operating point.
        pooled: The scale on which hospitals are summarised; None where they are not.
        interval_scale: How limits are made of the resamples; empty for percentiles or BCa, whichever was asked for.
        missing: Why it has no value where it has none.
        no_interval: Why it never has an interval.
        caution: What must be said beside its interval, which covers too seldom or too often.
        headline: It stands beside those of the other data sets, at the top.
        compared: Models are compared in it.
        recommended: For any evaluation of a prediction model with a binary outcome (Van Calster et al., Lancet Digital
            Health 7, 2025: discrimination by AUROC, calibration by its plot, net benefit, distributions of the
            probabilities); the others are optional.
    """

    key: str
    name: str
    meaning: str
    section: str
    better: Better
    percent: bool = False
    digits: int = 3
    low: float = float("-inf")
    high: float = float("inf")
    about: About = "images"
    share: bool = False
    events: bool = True
    ranking: bool = False
    decided: bool = False
    pooled: Pooling | None = None
    interval_scale: IntervalScale = ""
    missing: str = _MISSING
    no_interval: str = ""
    caution: str = ""
    headline: bool = False
    compared: bool = False
    recommended: bool = False


def _share(
    key: str, name: str, meaning: str, about: About, *, pooled: Pooling | None = "logit", headline: bool = True,
    compared: bool = False, missing: str = _MISSING,
) -> Figure:  # fmt: skip
    """Return the entry of a share of images at the operating point."""
    return Figure(
        key, name, meaning, DECISIONS, "higher", percent=True, digits=1, low=0.0, high=1.0, about=about, share=True,
        events=False, decided=True, pooled=pooled, headline=headline, compared=compared, missing=missing,
    )  # fmt: skip


def _of_thousand(key: str, name: str, meaning: str, about: About, better: Better) -> Figure:
    """Return the entry of a count of decisions among 1,000 women at a stated prevalence."""
    return Figure(
        key, name, f"{meaning}, with this sensitivity and specificity", CONSEQUENCES, better, digits=1, low=0.0,
        high=1000.0, about=about, events=False, decided=True,
    )  # fmt: skip


def _smooth(key: str, name: str, meaning: str) -> Figure:
    """Return the entry of a distance between the smooth calibration curve and the diagonal."""
    return Figure(
        key, name, f"{meaning} of the smooth calibration curve from the probability; above 0 even for perfect "
        "probabilities", CALIBRATION, "lower", low=0.0, high=1.0, no_interval=_SMOOTH,
        missing="the smooth calibration curve does not exist",
    )  # fmt: skip


def _at_rate(key: str, name: str) -> Figure:
    return Figure(
        key, name, "the highest that a threshold reaches", CHOSEN_HERE, "higher", percent=True, digits=1, low=0.0,
        high=1.0, ranking=True,
    )  # fmt: skip


_ENTRIES = (
    Figure(
        "auroc", "AUROC", "chance that a positive image ranks above a negative one; 0.5 is guessing", DISCRIMINATION,
        "higher", low=0.0, high=1.0, ranking=True, pooled="logit", headline=True, compared=True, recommended=True,
    ),
    Figure(
        "auprc", "AUPRC", "average precision; guessing gives the prevalence", DISCRIMINATION, "higher", low=0.0,
        high=1.0, ranking=True, headline=True, compared=True,
    ),
    Figure(
        "partial_auroc", "Partial AUROC", "where sensitivity is at least 0.9, scaled so that 0.5 is guessing",
        DISCRIMINATION, "higher", low=9 / 19, high=1.0, ranking=True, interval_scale="log of 1 less it",
    ),
    _at_rate("sensitivity_at_specificity_90", "Sensitivity at specificity 90\u00a0%"),
    _at_rate("sensitivity_at_specificity_95", "Sensitivity at specificity 95\u00a0%"),
    _at_rate("specificity_at_sensitivity_90", "Specificity at sensitivity 90\u00a0%"),
    _at_rate("specificity_at_sensitivity_95", "Specificity at sensitivity 95\u00a0%"),
    _share(
        "sensitivity", "Sensitivity", "share of positive images at or above the threshold", "positives", compared=True
    ),
    _share(
        "specificity", "Specificity", "share of negative images below the threshold", "negatives", compared=True
    ),
    _share(
        "ppv", "PPV", "share of positives among images at or above the threshold", "called",
        missing=_NOBODY_CALLED,
    ),
    _share(
        "npv", "NPV", "share of negatives among images below the threshold", "not called",
        missing=_EVERYBODY_CALLED,
    ),
    Figure(
        "ppv_at_prevalence", "PPV at {prevalence}", "with this sensitivity and specificity", DECISIONS, "higher",
        percent=True, digits=1, low=0.0, high=1.0, decided=True, headline=True, missing=_NOBODY_CALLED,
    ),
    Figure(
        "npv_at_prevalence", "NPV at {prevalence}", "with this sensitivity and specificity", DECISIONS, "higher",
        percent=True, digits=1, low=0.0, high=1.0, decided=True, headline=True, missing=_EVERYBODY_CALLED,
    ),
    Figure(
        "lr_positive", "Positive likelihood ratio", "by how much being called multiplies the odds", DECISIONS,
        "higher", digits=2, low=0.0, decided=True, missing="the specificity is 1",
    ),
    Figure(
        "lr_negative", "Negative likelihood ratio", "by how much not being called multiplies the odds", DECISIONS,
        "lower", digits=2, low=0.0, decided=True, missing="the specificity is 0",
    ),
    Figure(
        "balanced_accuracy", "Balanced accuracy", "mean of sensitivity and specificity", DECISIONS, "higher",
        percent=True, digits=1, low=0.0, high=1.0, decided=True, compared=True,
    ),
    _share(
        "accuracy", "Accuracy", "share of right decisions; depends on the prevalence", "images", pooled=None,
        headline=False,
    ),
    Figure(
        "prevalence", "Prevalence", "share of positive images", "", "neither", percent=True, digits=1, low=0.0,
        high=1.0, share=True, events=False,
    ),
    _of_thousand(
        "true_positives_per_1000", "Found, at {prevalence}", "positives at or above the threshold", "positives",
        "higher",
    ),
    _of_thousand(
        "false_negatives_per_1000", "Missed, at {prevalence}", "positives below the threshold", "positives", "lower"
    ),
    _of_thousand(
        "false_positives_per_1000", "False alarms, at {prevalence}", "negatives at or above the threshold", "negatives",
        "lower",
    ),
    _of_thousand(
        "true_negatives_per_1000", "Spared, at {prevalence}", "negatives below the threshold", "negatives", "higher"
    ),
    Figure(
        "net_benefit_at_threshold", "Net benefit", "of acting by the model at the threshold, in true positives", USE,
        "higher", decided=True, compared=True, recommended=True, missing="the threshold is 1",
    ),
    Figure(
        "net_benefit_gain_at_threshold", "Net benefit gained",
        "over the better of acting on every image and on none; below 0 that is better than the model", USE, "higher",
        decided=True, headline=True, recommended=True, interval_scale="debiased", caution=_FEW_MISSED,
        missing="the threshold is 1",
    ),
    Figure(
        "interventions_avoided", "Interventions avoided per 100",
        "against acting on every image, less those that the positives missed are worth; below 0, acting on every image "
        "is better", USE, "higher", digits=1, high=100.0, decided=True, caution=_FEW_MISSED, missing=_NO_ODDS,
    ),
    Figure(
        "aurc", "Area under risk-coverage", "mean share of errors when the least certain are left undecided", USE,
        "lower", low=0.0, high=1.0, events=False, decided=True,
    ),
    Figure(
        "brier", "Brier score", "mean squared error of the probability; 0 is perfect", CALIBRATION, "lower", low=0.0,
        high=1.0, events=False, pooled="identity", headline=True, compared=True,
    ),
    Figure(
        "brier_scaled", "Scaled Brier score", "1 is perfect, 0 is the prevalence for everyone", CALIBRATION, "higher",
        high=1.0,
    ),
    Figure(
        "brier_reliability", "Brier: reliability", "the part that calibration could remove", CALIBRATION, "lower",
        low=0.0, high=1.0, no_interval=f"{_BIASED}; the calibration error has an interval",
    ),
    Figure(
        "brier_resolution", "Brier: resolution", "what telling images apart takes off", CALIBRATION, "higher",
        low=0.0, high=1.0, no_interval=_BIASED,
    ),
    Figure(
        "brier_uncertainty", "Brier: uncertainty", "what the prevalence alone gives", CALIBRATION, "neither", low=0.0,
        high=1.0,
    ),
    Figure("brier_within_bins", "Brier: within bins", "the rest", CALIBRATION, "neither"),
    Figure(
        "log_loss", "Log loss", "mean negative log likelihood; 0 is perfect", CALIBRATION, "lower", low=0.0,
        events=False, compared=True,
    ),
    Figure(
        "calibration_intercept", "Calibration intercept", "0 is perfect; below 0, risks are overestimated",
        CALIBRATION, "0", digits=2, pooled="identity", headline=True, compared=True, missing="the fit does not exist",
    ),
    Figure(
        "oe_ratio", "O:E ratio", "observed over expected positives; 1 is perfect, below 1, risks are overestimated",
        CALIBRATION, "1", digits=2, low=0.0, interval_scale="log", missing="every probability is 0",
    ),
    Figure(
        "calibration_slope", "Calibration slope", "1 is perfect; below 1, probabilities are too extreme", CALIBRATION,
        "1", digits=2, pooled="identity", headline=True, compared=True, interval_scale="log", missing=_NO_FIT,
    ),
    _smooth("ici", "ICI", "mean distance"),
    _smooth("e50", "E50", "median distance"),
    _smooth("e90", "E90", "90th percentile of the distance"),
    Figure(
        "ece", "ECE", "mean absolute error in bins; above 0 even for perfect probabilities", CALIBRATION, "lower",
        low=0.0, high=1.0, no_interval=f"{_BIASED}; the calibration error has an interval",
    ),
    Figure(
        "calibration_error", "Calibration error", "root mean square in bins, its bias taken off; 0 is perfect",
        CALIBRATION, "lower", low=0.0, high=1.0,
    ),
)  # fmt: skip

FIGURES: dict[str, Figure] = {entry.key: entry for entry in _ENTRIES}
"""Every figure of a data set by key, in the order of the report."""

_ELSEWHERE = (
    Figure("hand_till", "Hand and Till's AUROC", "mean over pairs of classes", CLASSES, "higher", low=0.0, high=1.0),
    Figure("macro_auroc", "Mean AUROC", "each class against the rest", CLASSES, "higher", low=0.0, high=1.0),
    Figure(
        "macro_sensitivity", "Mean sensitivity", "over the classes", CLASSES, "higher", percent=True, digits=1,
        low=0.0, high=1.0,
    ),
    Figure("macro_f1", "Mean F1", "over the classes", CLASSES, "higher", low=0.0, high=1.0),
    Figure(
        "coverage", "Coverage", "share of images whose set holds the truth", SETS, "higher", percent=True, digits=1,
        low=0.0, high=1.0, share=True, events=False,
    ),
    Figure("set_size", "Set size", "mean number of classes in a set", SETS, "lower", digits=2, low=0.0, events=False),
    Figure(
        "single", "Sets of one class", "share of images", SETS, "higher", percent=True, digits=1, low=0.0, high=1.0,
        share=True, events=False,
    ),
    Figure(
        "empty", "Empty sets", "share of images", SETS, "lower", percent=True, digits=1, low=0.0, high=1.0, share=True,
        events=False,
    ),
    Figure(
        "right_when_single", "Right when single", "share of sets of one class that hold the truth", SETS, "higher",
        percent=True, digits=1, low=0.0, high=1.0, share=True, events=False,
    ),
    Figure(
        "error_rate", "Wrong decisions", "share of images decided wrongly at the threshold", "", "lower", percent=True,
        digits=1, low=0.0, high=1.0, share=True, events=False,
    ),
    Figure(
        "share", "Share", "share of images", "", "neither", percent=True, digits=1, low=0.0, high=1.0, share=True,
        events=False,
    ),
    Figure(
        "flips", "Changed decisions", "share of images decided otherwise than on the clean image", "", "lower",
        percent=True, digits=1, low=0.0, high=1.0, share=True, events=False,
    ),
)  # fmt: skip

ALL: dict[str, Figure] = FIGURES | {entry.key: entry for entry in _ELSEWHERE}
"""Figures of a data set, over classes, of prediction sets, of what is refused and under corruption."""

_UNKNOWN = Figure("", "", "", "", "neither")


def figure_named(key: str) -> Figure:
    """Return the entry of a figure; one that no entry describes, of another version's file, is a plain number."""
    return ALL.get(key, _UNKNOWN)


def keys_where(**wanted: object) -> tuple[str, ...]:
    """Return the keys of the data set's figures whose entries have these attributes, in order.

    For instance `keys_where(compared=True)`.
    """
    return tuple(
        key for key, entry in FIGURES.items() if all(getattr(entry, name) == value for name, value in wanted.items())
    )


def names_of(keys: Iterable[str]) -> dict[str, str]:
    """Return the names of figures by key, in the order of the report."""
    chosen = set(keys)
    return {key: entry.name for key, entry in FIGURES.items() if key in chosen}


SCALARS = tuple(FIGURES)
COMPARED = keys_where(compared=True)
HEADLINE = keys_where(headline=True)
SUMMARISED = tuple(key for key, entry in FIGURES.items() if entry.pooled)
DECIDED = frozenset(keys_where(decided=True))
