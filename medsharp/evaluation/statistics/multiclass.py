"""More than two classes: each against the rest, all pairs, and the averages over classes."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from medsharp.evaluation.statistics.bootstrap import Statistic
from medsharp.evaluation.statistics.discrimination import WeightedRanks, areas
from medsharp.evaluation.statistics.estimate import Estimate, Interval
from medsharp.evaluation.statistics.figures import Cases, Measured, auroc_at_ends, measure, share_estimate


def multiclass_figures(
    rows: pd.DataFrame,
    classes: Sequence[str],
    cases: Cases,
    *,
    resamples: int,
    rng: np.random.Generator,
    interval: Interval = "percentile",
) -> dict[str, Any]:
    """Return figures over all classes, the decision being the most probable class.

    Args:
        rows: The images, in the order of `cases`.
        classes: In the order of the columns.
        cases: Their clusters.
        resamples: Of the patient bootstrap.
        rng: Its draws.
        interval: How intervals are made of the resamples.

    Returns:
        `one_vs_rest` (AUROC, AUPRC, sensitivity, specificity, PPV of each class), and under `overall`: `hand_till`
        (Hand and Till, Machine Learning 45, 2001, eq. 7: the mean over pairs of classes of how well each class's
        probability separates the two), `macro_auroc`, `macro_sensitivity`, `macro_f1`, `accuracy`. A class without an
        image, or the only one with images, has reasons instead of figures, and is not averaged over.
    """
    place = pd.Categorical(rows["label"], categories=list(classes)).codes.astype(int)
    shares = rows[[f"p_{name}" for name in classes]].to_numpy(dtype=float)
    present = [number for number in range(len(classes)) if (place == number).any() and (place != number).any()]
    measured = measure(
        cases.clusters,
        [_rankings(place, shares, present), _decisions(place, shares.argmax(axis=1), present)],
        resamples=resamples,
        rng=rng,
        interval=interval,
    )
    parts: dict[str, Any] = {}
    for number, name in enumerate(classes):
        if number not in present:
            parts[name] = {"reason": "no image of this class"}
            continue
        chosen = shares.argmax(axis=1) == number
        about = {"sensitivity": place == number, "specificity": place != number, "ppv": chosen}
        against = replace(cases, labels=place == number)
        area = float(measured.values[f"auroc:{number}"])
        estimates = {
            "auroc": replace(_mean(measured, f"auroc:{number}"), ends=auroc_at_ends(area, against)),
            "auprc": _mean(measured, f"auprc:{number}"),
            **{
                key: share_estimate(measured, f"{key}:{number}", mask, cases, "no image is given this class")
                for key, mask in about.items()
            },
        }
        parts[name] = {key: estimate.figure(interval) for key, estimate in estimates.items()}
    overall = {name: _mean(measured, name) for name in ("hand_till", "macro_auroc", "macro_sensitivity", "macro_f1")}
    everything = np.ones(len(place), dtype=bool)
    overall["accuracy"] = share_estimate(measured, "accuracy", everything, cases)
    return {"one_vs_rest": parts, "overall": {name: found.figure(interval) for name, found in overall.items()}}


def _mean(measured: Measured, name: str) -> Estimate:
    """Return a figure of all images that lies between 0 and 1."""
    return measured.estimate(name, n=measured.images, bounds=(0.0, 1.0))


def _rankings(place: np.ndarray, shares: np.ndarray, present: Sequence[int]) -> Statistic:
    rests = {number: WeightedRanks(place == number, shares[:, number]) for number in present}
    pairs = []
    for one, other in itertools.permutations(present, 2):
        inside = np.flatnonzero((place == one) | (place == other))
        pairs.append((inside, WeightedRanks(place[inside] == one, shares[inside, one])))

    def statistic(weights: np.ndarray) -> dict[str, np.ndarray]:
        values: dict[str, np.ndarray] = {}
        for number, ranks in rests.items():
            values |= {f"{name}:{number}": value for name, value in areas(ranks.ranking(weights)).items()}
        separations = [ranks.auroc(weights[:, inside]) for inside, ranks in pairs]
        values["hand_till"] = np.mean(separations, axis=0)
        values["macro_auroc"] = np.mean([values[f"auroc:{number}"] for number in present], axis=0)
        return values

    return statistic


def _decisions(place: np.ndarray, chosen: np.ndarray, present: Sequence[int]) -> Statistic:
    right = np.stack([(place == number) & (chosen == number) for number in present], axis=1).astype(float)
    actual = np.stack([place == number for number in present], axis=1).astype(float)
    called = np.stack([chosen == number for number in present], axis=1).astype(float)

    def statistic(weights: np.ndarray) -> dict[str, np.ndarray]:
        total = weights.sum(axis=1, keepdims=True)
        hits, images, calls = weights @ right, weights @ actual, weights @ called
        sensitivity = _ratio(hits, images)
        specificity = _ratio(total - images - calls + hits, total - images)
        precision = _ratio(hits, calls)
        values = {
            f"{name}:{number}": value[:, column]
            for name, value in (("sensitivity", sensitivity), ("specificity", specificity), ("ppv", precision))
            for column, number in enumerate(present)
        }
        values["macro_sensitivity"] = sensitivity.mean(axis=1)
        values["macro_f1"] = _ratio(2 * hits, images + calls).mean(axis=1)
        values["accuracy"] = hits.sum(axis=1) / total[:, 0]
        return values

    return statistic


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.full_like(whole, np.nan), where=whole > 0)
