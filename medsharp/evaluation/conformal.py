"""Conformal prediction sets: calibrated on internal validation images, their coverage looked at elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from medsharp.bundle.prediction_sets import ALPHA, conformal_quantile, inside
from medsharp.errors import InputError
from medsharp.evaluation.findings import is_answered
from medsharp.evaluation.least import SMALLEST
from medsharp.evaluation.predictions import check_predictions, text_of
from medsharp.evaluation.statistics.estimate import Interval
from medsharp.evaluation.statistics.figures import Cases, Measured, measure, share_estimate
from medsharp.quantities import counted


@dataclass(frozen=True)
class Conformal:
    """Quantiles of the nonconformity score `1 - p_label` (Sadinle, Lei and Wasserman, JASA 114, 2019).

    A class is in an image's set where `1 - p_class` is at most its quantile, to six digits (`inside`).

    Attributes:
        classes: In the order of the columns.
        alpha: The share of sets that may miss the truth.
        marginal: One quantile for all classes: coverage holds over all images.
        label_conditional: A quantile for each class [K]: coverage holds for the images of each label (Vovk, Machine
            Learning 92, 2013). Infinite where a label has too few images; the class is then in every set.
        labels: Calibration images by label.
        name: Where they come from.
    """

    classes: tuple[str, ...]
    alpha: float
    marginal: float
    label_conditional: tuple[float, ...]
    labels: dict[str, int]
    name: str


def calibrate(table: pd.DataFrame, classes: Sequence[str], name: str, alpha: float = ALPHA) -> Conformal:
    """Fix the quantiles on images that neither trained the model nor are evaluated (split conformal prediction).

    The quantile is the `ceil((n + 1)(1 - alpha))`-th smallest of n scores (Vovk, Gammerman and Shafer, 2005).

    Args:
        table: Predictions as `read_predictions` gives them.
        classes: In the order of the columns.
        name: Of the table, for errors and reports.
        alpha: In (0, 1).

    Raises:
        InputError: `alpha` is not in (0, 1), or the table is wrong.
    """
    if not 0 < alpha < 1:
        raise InputError(f"alpha is {alpha}; it is the share of sets that may miss the truth, between 0 and 1")
    rows = check_predictions(table, classes, name).rows
    place = pd.Categorical(rows["label"], categories=list(classes)).codes.astype(int)
    shares = rows[[f"p_{label}" for label in classes]].to_numpy(dtype=float)
    scores = 1 - shares[np.arange(len(rows)), place]
    return Conformal(
        tuple(classes),
        alpha,
        conformal_quantile(scores, alpha),
        tuple(conformal_quantile(scores[place == number], alpha) for number in range(len(classes))),
        {label: int((place == number).sum()) for number, label in enumerate(classes)},
        name,
    )


def assert_other_images(calibration: pd.DataFrame, scored: pd.DataFrame, name: str, other: str) -> None:
    """Refuse calibration images that are scored too: sets cover the images that fixed them, which shows nothing.

    Two hospitals may both have an `1.png`; only what has the same name, label and probabilities is the same image.

    Args:
        calibration: Predictions as `read_predictions` gives them.
        scored: Those whose coverage is to be looked at.
        name: Of the calibration table.
        other: Of the scored one.

    Raises:
        InputError: They share an image.
    """
    columns = ["image", "label", *(str(c) for c in calibration if str(c).startswith("p_") and c in scored)]
    used, other_used = (table.loc[is_answered(table), columns] for table in (calibration, scored))
    shared = used.merge(other_used.drop_duplicates())["image"]
    if len(shared):
        raise InputError(
            f"{name} shares {counted(len(shared), 'image')} with {other}, such as {shared.iloc[0]}; calibrate "
            "prediction sets on images that are not scored"
        )


def conformal_figures(
    conformal: Conformal,
    rows: pd.DataFrame,
    cases: Cases,
    *,
    resamples: int,
    rng: np.random.Generator,
    interval: Interval = "percentile",
) -> dict[str, Any]:
    """Return coverage and size of the sets on the images of a data set, over all and on each site.

    Args:
        conformal: The quantiles.
        rows: The images, in the order of `cases`.
        cases: Their clusters.
        resamples: Of the patient bootstrap.
        rng: Its draws.
        interval: How intervals are made of the resamples.

    Returns:
        `alpha`, `calibration`, and under `marginal` and `label_conditional` each: `quantiles`, `coverage`,
        `coverage_by_label`, `set_size`, `single`, `empty`, `right_when_single`, `by_site`.
    """
    shares = rows[[f"p_{name}" for name in conformal.classes]].to_numpy(dtype=float)
    kinds = {
        "marginal": np.full(len(conformal.classes), conformal.marginal),
        "label_conditional": np.array(conformal.label_conditional),
    }
    return {
        "alpha": conformal.alpha,
        "calibration": {
            "name": conformal.name,
            "images": sum(conformal.labels.values()),
            "labels": dict(conformal.labels),
        },
        **{
            kind: _of_sets(conformal, limits, shares, rows, cases, resamples, rng, interval)
            for kind, limits in kinds.items()
        },
    }


def _of_sets(
    conformal: Conformal,
    limits: np.ndarray,
    shares: np.ndarray,
    rows: pd.DataFrame,
    cases: Cases,
    resamples: int,
    rng: np.random.Generator,
    interval: Interval,
) -> dict[str, Any]:
    labels = text_of(rows, "label").to_numpy()
    place = pd.Categorical(labels, categories=list(conformal.classes)).codes.astype(int)
    members = inside(shares, limits)
    sizes = members.sum(axis=1)
    covered = members[np.arange(len(rows)), place]
    everything = np.ones(len(rows), dtype=bool)
    parts = {
        "coverage": (covered, everything),
        "single": (sizes == 1, everything),
        "empty": (sizes == 0, everything),
        "right_when_single": (covered, sizes == 1),
        **{f"label:{name}": (covered, labels == name) for name in conformal.classes},
    }
    sites = text_of(rows, "site")
    counted = sites[sites != ""].value_counts()
    names = [str(name) for name in sorted(counted.index[counted >= SMALLEST])] if len(counted) > 1 else []
    parts |= {f"site:{name}": (covered, (sites == name).to_numpy()) for name in names}
    measured = _measured(parts, sizes, cases, resamples, rng, interval)

    def figure(name: str, missing: str = "no image of this label") -> dict[str, Any]:
        return share_estimate(measured, name, parts[name][1], cases, missing).figure(interval)

    return {
        "quantiles": {name: float(limit) for name, limit in zip(conformal.classes, limits, strict=True)},
        "coverage": figure("coverage"),
        "coverage_by_label": {name: figure(f"label:{name}") for name in conformal.classes},
        "set_size": measured.estimate("set_size", n=len(rows), bounds=(0.0, float(len(limits)))).figure(interval),
        "single": figure("single"),
        "empty": figure("empty"),
        "right_when_single": figure("right_when_single", "no set has one class only"),
        "by_site": [{"site": name, **figure(f"site:{name}")} for name in names],
    }


def _measured(
    parts: dict[str, tuple[np.ndarray, np.ndarray]],
    sizes: np.ndarray,
    cases: Cases,
    resamples: int,
    rng: np.random.Generator,
    interval: Interval,
) -> Measured:
    """Measure `share of part[0] among part[1]` for each part, and the mean set size."""
    over = np.stack([part & among for part, among in parts.values()], axis=1).astype(float)
    under = np.stack([among for _, among in parts.values()], axis=1).astype(float)

    def statistic(weights: np.ndarray) -> dict[str, np.ndarray]:
        wholes = weights @ under
        found = np.divide(weights @ over, wholes, out=np.full_like(wholes, np.nan), where=wholes > 0)
        values = {name: found[:, number] for number, name in enumerate(parts)}
        return values | {"set_size": weights @ sizes.astype(float) / weights.sum(axis=1)}

    return measure(cases.clusters, [statistic], resamples=resamples, rng=rng, interval=interval)
