"""What is lost from one data set to another, such as from the internal test images to another hospital."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from medsharp.evaluation.evaluate import Evaluation
from medsharp.evaluation.statistics.figures import RESAMPLED
from medsharp.evaluation.statistics.intervals import mover, percentile

COMPARED = ("auroc", "sensitivity", "specificity")


def difference(first: Evaluation, second: Evaluation, figure: str = "auroc") -> dict[str, Any]:
    """Return `first - second` in one figure, with its 95 % interval.

    The two must share no patients: their bootstrap values are then independent, and the interval is that of the
    differences of the two. Where one of the intervals is not from resampling, the two are combined instead (MOVER).

    Returns:
        `{"value", "low", "high", "method"}`, or nulls with a `reason`.
    """
    here, there = first.as_dict()["figures"][figure], second.as_dict()["figures"][figure]
    nothing = {"value": None, "low": None, "high": None}
    for part, evaluation in ((here, first), (there, second)):
        if part["value"] is None:
            return nothing | {"reason": f"{evaluation.as_dict()['name']}: {part['reason']}"}
    value = here["value"] - there["value"]
    for part, evaluation in ((here, first), (there, second)):
        if part["low"] is None:
            return nothing | {"value": value, "reason": f"{evaluation.as_dict()['name']}: {part['reason']}"}
    if {here["method"], there["method"]} <= RESAMPLED:
        low, high = percentile(_independent(first.replicates[figure], second.replicates[figure]))
        return {"value": value, "low": low, "high": high, "method": "difference of independent patient bootstraps"}
    low, high = mover(*((part["value"], part["low"], part["high"]) for part in (here, there)))
    return {"value": value, "low": low, "high": high, "method": "MOVER, from the two intervals"}


def drops(evaluations: Sequence[Evaluation]) -> list[dict[str, Any]]:
    """Return how much lower each external data set is than the internal one; above 0 means worse elsewhere.

    Each entry holds the name, AUROC's drop, and under `figures` that of each of `COMPARED`. Without an internal data
    set there is none.
    """
    internal = next((e for e in evaluations if e.as_dict()["role"] == "internal"), None)
    if internal is None:
        return []
    found = []
    for other in evaluations:
        if other is not internal:
            figures = {figure: difference(internal, other, figure) for figure in COMPARED}
            found.append({"name": other.as_dict()["name"], **figures["auroc"], "figures": figures})
    return found


def _independent(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Pair finite replicates at random, as two data sets of the same name would have been drawn alike."""
    first, second = first[np.isfinite(first)], second[np.isfinite(second)]
    count = min(len(first), len(second))
    order = np.random.default_rng(0).permutation(len(second))[:count]
    return first[:count] - second[order]
