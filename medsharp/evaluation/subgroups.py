"""The same figures within sites, devices and BI-RADS categories."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from medsharp.evaluation.counts import GROUPS
from medsharp.evaluation.discrimination import WeightedRanks
from medsharp.evaluation.figures import Cases, figures_of, measure
from medsharp.evaluation.predictions import text_of
from medsharp.evaluation.thresholded import decisions

SMALLEST = 20
"""Groups with fewer images get no figures."""

_MOST = 40


def subgroups_of(rows: pd.DataFrame, cases: Cases, *, resamples: int, rng: np.random.Generator) -> list[dict[str, Any]]:
    """Return AUROC, sensitivity and specificity in each group of at least `SMALLEST` images of both classes.

    A column with a single value is left out, as its group would be the whole. Groups that are too small are listed with
    the reason instead of figures, the largest `_MOST` groups of a column at most.
    """
    found = []
    for column in GROUPS:
        names = text_of(rows, column)
        if names[names != ""].nunique() < 2:
            continue
        names = names.where(names != "", "not recorded")
        sizes = names.value_counts()
        for name in sorted(sizes.index[:_MOST], key=_natural):
            found.append(
                {"by": column, "group": str(name)} | _figures(cases, (names == name).to_numpy(), resamples, rng)
            )
    return found


def _figures(cases: Cases, chosen: np.ndarray, resamples: int, rng: np.random.Generator) -> dict[str, Any]:
    part = cases.chosen(chosen)
    counts = {"images": len(part.labels), "positives": int(part.labels.sum()), "clusters": part.patients()}
    if len(part.labels) < SMALLEST:
        return counts | {"reason": f"fewer than {SMALLEST} images"}
    if part.labels.all() or not part.labels.any():
        return counts | {"reason": "one class only"}
    statistics = [WeightedRanks(part.labels, part.scores).figures, decisions(part.labels, part.scores, part.threshold)]
    figures = figures_of(part, measure(part, statistics, resamples=resamples, rng=rng))
    return counts | {name: figures[name] for name in ("auroc", "sensitivity", "specificity")}


def _natural(name: str) -> tuple[bool, float, str]:
    """Order numbers as numbers, before names, and what is not recorded last."""
    text = str(name)
    number = float(text) if text.replace(".", "", 1).isdecimal() else float("inf")
    return text == "not recorded", number, text
