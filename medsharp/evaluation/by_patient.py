"""The same figures by patient, and by lesion, where one has several images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from medsharp.evaluation.predictions import patients_of, text_of
from medsharp.evaluation.statistics.bootstrap import affordable
from medsharp.evaluation.statistics.delong import area_intervals
from medsharp.evaluation.statistics.estimate import WILSON, Estimate, Interval, Limits
from medsharp.evaluation.statistics.figures import Cases, estimates_of, measure
from medsharp.evaluation.statistics.intervals import wilson
from medsharp.evaluation.statistics.scalars import statistics_of

FIGURES = (
    "auroc",
    "sensitivity",
    "specificity",
    "brier",
    "calibration_intercept",
    "oe_ratio",
    "calibration_slope",
)
"""What is given by patient. Sensitivity and specificity are at the frozen threshold, which was fixed on images."""

DECISIONS = ("sensitivity", "specificity")

RANKED = ("auroc", *DECISIONS)
"""What is given of scores that are no probabilities."""

ANY = "any"
"""The patient is called where any image is: a decision, without a probability."""

DELONG = "DeLong, patients, on the logit scale"
OBUCHOWSKI = "Obuchowski, clusters of patients, on the logit scale"

_BUDGET = 20_000_000
_BETWEEN = "\x1f"


def by_unit_of(
    rows: pd.DataFrame,
    cases: Cases,
    *,
    resamples: int,
    rng: np.random.Generator,
    interval: Interval = "percentile",
    figures: Sequence[str] = FIGURES,
    thresholds: np.ndarray | None = None,
) -> dict[str, dict[str, Any] | None]:
    """Return the figures `by_patient` and `by_lesion`; None where none of them is known to have several images.

    A patient is positive where any image is; `of_several_labels` counts those whose images are of both kinds. Images
    without a patient are left out and counted. So it is by lesion, where a column `lesion` numbers the lesions of each
    patient: two patients may each have a lesion 1. Lesions of one patient are resampled together; images that name no
    lesion, or no patient, are left out and counted.

    Args:
        rows: The images, in the order of `cases`.
        cases: Labels, scores, clusters and threshold.
        resamples: Of the bootstrap, for figures that have no interval in closed form.
        rng: Its draws.
        interval: How intervals are made of the resamples.
        figures: Which are given.
        thresholds: Of each image, where several models predicted them [N]. A mean probability is then called from the
            mean of the images' thresholds on, and any image from its own on.

    Returns:
        Of each `{"unit", "units", "positives", "clusters", "images", "images_left_out", "of_several_labels", "rules"}`,
        where `rules` holds the figures under `mean` and `maximum` of the images' probabilities, and `any`.
    """
    patients, lesions = patients_of(rows).to_numpy(), text_of(rows, "lesion").to_numpy()
    named = (patients != "") & (lesions != "")
    lesions = np.where(named, lesions, "")
    lesions[named] = patients[named] + _BETWEEN + lesions[named]
    return {
        f"by_{unit}": _by_unit(unit, names, cases, resamples, rng, interval, figures, thresholds)
        for unit, names in (("patient", patients), ("lesion", lesions))
    }


def _by_unit(
    unit: str,
    names: np.ndarray,
    cases: Cases,
    resamples: int,
    rng: np.random.Generator,
    interval: Interval,
    figures: Sequence[str],
    thresholds: np.ndarray | None,
) -> dict[str, Any] | None:
    known = names != ""
    codes = pd.factorize(names[known])[0]
    if not len(codes) or int(codes.max()) + 1 == len(codes):
        return None  # with one image each, the figures are those by image
    labels, scores = cases.labels[known], cases.scores[known]
    images = np.bincount(codes)
    ill = np.bincount(codes, weights=labels) > 0
    sound = np.bincount(codes, weights=~labels) > 0
    clusters = np.zeros(len(images), dtype=np.int64)
    clusters[codes] = cases.clusters[known]
    clusters = np.unique(clusters, return_inverse=True)[1]
    if ill.all() or not ill.any():
        return None  # every patient has a positive image: nothing to tell apart
    highest = np.full(len(images), -np.inf)
    np.maximum.at(highest, codes, scores)
    wished = affordable(resamples, len(images), _BUDGET)
    how: dict[str, Any] = {"resamples": wished, "rng": rng, "interval": interval}
    probabilities = {"mean": np.bincount(codes, weights=scores) / images, "maximum": highest}
    rules = {
        rule: _figures(ill, found, clusters, cases.threshold, figures, **how) for rule, found in probabilities.items()
    }
    if thresholds is not None:
        for rule, called in _called(codes, images, scores, thresholds[known]).items():
            rules[rule] |= _figures(ill, called.astype(np.float64), clusters, 0.5, DECISIONS, **how)
    # The highest probability reaches the threshold where any image's does.
    rules[ANY] = {key: rules["maximum"][key] for key in DECISIONS}
    return {
        "unit": unit,
        "units": len(images),
        "positives": int(ill.sum()),
        "clusters": int(clusters.max()) + 1,
        "images": int(known.sum()),
        "images_left_out": int((~known).sum()),
        "with_several_images": int((images > 1).sum()),
        "of_several_labels": int((ill & sound).sum()),
        "rules": rules,
    }


def _called(codes: np.ndarray, images: np.ndarray, scores: np.ndarray, thresholds: np.ndarray) -> dict[str, np.ndarray]:
    """Return which units are called by each rule, bool [U], where images have thresholds of their own [N]."""
    least, greatest = np.full(len(images), np.inf), np.full(len(images), -np.inf)
    np.minimum.at(least, codes, thresholds)
    np.maximum.at(greatest, codes, thresholds)
    # Of one model, the threshold as it is: its mean may differ in the last digit.
    mean = np.where(least == greatest, least, np.bincount(codes, weights=thresholds) / images)
    return {
        "mean": np.bincount(codes, weights=scores) / images >= mean,
        "maximum": np.bincount(codes, weights=scores >= thresholds) > 0,
    }


def _figures(
    labels: np.ndarray,
    scores: np.ndarray,
    clusters: np.ndarray,
    threshold: float,
    keys: Sequence[str],
    *,
    resamples: int,
    rng: np.random.Generator,
    interval: Interval,
) -> dict[str, Any]:
    """Return the figures of units, each with one label and one score."""
    order = np.argsort(-scores, kind="stable")
    cases = Cases(labels[order], scores[order], clusters[order], threshold)
    measured = measure(cases.clusters, statistics_of(cases, keys), resamples=resamples, rng=rng, interval=interval)
    estimates = estimates_of(cases, measured)
    return {key: _closed(key, estimates[key], cases).figure(interval) for key in keys}


def _closed(key: str, estimate: Estimate, cases: Cases) -> Estimate:
    """Return the estimate with the ordinary closed form, which holds where units are independent, or are clustered."""
    alone = int(cases.clusters.max()) + 1 == len(cases.labels)
    if key == "auroc" and 0 < estimate.value < 1:
        found = area_intervals(cases.labels, cases.scores, cases.clusters)["obuchowski"]
        low, high = found["low"], found["high"]
        if low is not None and high is not None:
            # With one row a cluster, Obuchowski's variance is DeLong's.
            limits = Limits(low, high, DELONG if alone else OBUCHOWSKI)
            return replace(estimate, ends=lambda: limits)
    if key in DECISIONS and alone and estimate.exists:
        count = int((cases.labels if key == "sensitivity" else ~cases.labels).sum())
        share = Limits(*wilson(estimate.value * count, count), WILSON)
        return replace(estimate, ends=lambda: share)
    return estimate
