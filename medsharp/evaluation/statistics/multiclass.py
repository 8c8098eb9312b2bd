"""More than two classes: each against the rest, all pairs, and the averages over classes."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from medsharp.evaluation.statistics.bootstrap import Statistic
from medsharp.evaluation.statistics.discrimination import WeightedRanks, areas
from medsharp.evaluation.statistics.figures import Cases, measure, share_of


def multiclass_figures(
    rows: pd.DataFrame, classes: Sequence[str], cases: Cases, *, resamples: int, rng: np.random.Generator
) -> dict[str, Any]:
    """Return figures over all classes, the decision being the most probable class.

    Args:
        rows: The images, in the order of `cases`.
        classes: In the order of the columns.
        cases: Their clusters.
        resamples: Of the patient bootstrap.
        rng: Its draws.

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
        cases,
        [_rankings(place, shares, present), _decisions(place, shares.argmax(axis=1), present)],
        resamples=resamples,
        rng=rng,
    )
    parts: dict[str, Any] = {}
    for number, name in enumerate(classes):
        if number not in present:
            parts[name] = {"reason": "no image of this class"}
            continue
        chosen = shares.argmax(axis=1) == number
        about = {"sensitivity": place == number, "specificity": place != number, "ppv": chosen}
        parts[name] = {
            figure: share_of(f"{figure}:{number}", cases, measured, about.get(figure), "no image is given this class")
            for figure in ("auroc", "auprc", "sensitivity", "specificity", "ppv")
        }
    overall = ("hand_till", "macro_auroc", "macro_sensitivity", "macro_f1", "accuracy")
    return {"one_vs_rest": parts, "overall": {name: share_of(name, cases, measured) for name in overall}}


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
