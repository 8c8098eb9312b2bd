"""What changes from one data set to another, such as from the internal test images to another hospital."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from medsharp.evaluation.evaluate import Evaluation
from medsharp.evaluation.statistics.estimate import independent_difference

CHANGES = ("auroc", "sensitivity", "specificity", "calibration_slope", "net_benefit_gain_at_threshold")
"""Figures whose change from the internal to an external data set is given."""


def difference(first: Evaluation, second: Evaluation, figure: str = "auroc") -> dict[str, Any]:
    """Return `second - first` in one figure, with its 95 % interval.

    The two must share no patients: their bootstrap values are then independent, and the interval is that of the
    differences of the two. Where one of the intervals is in closed form, the two are combined instead (MOVER).

    Returns:
        `{"value", "low", "high", "method"}`, or nulls with a `reason`.
    """
    for evaluation in (first, second):
        content = evaluation.as_dict()
        found = content["figures"][figure]
        if found["low"] is None:
            both = all(e.as_dict()["figures"][figure]["value"] is not None for e in (first, second))
            value = second.estimates[figure].value - first.estimates[figure].value if both else None
            return {"value": value, "low": None, "high": None, "reason": f"{content['name']}: {found['reason']}"}
    kind = first.as_dict()["intervals"]["interval"]
    return independent_difference(first.estimates[figure], second.estimates[figure], kind)


def changes(evaluations: Sequence[Evaluation]) -> list[dict[str, Any]]:
    """Return each external data set less the internal one; below 0 means lower elsewhere.

    Each entry holds the name, that of the internal data set under `against`, and under `figures` the change of each of
    `CHANGES`. Without an internal data set there is none.
    """
    internal = next((e for e in evaluations if e.as_dict()["role"] == "internal"), None)
    if internal is None:
        return []
    return [
        {
            "name": other.as_dict()["name"],
            "against": internal.as_dict()["name"],
            "figures": {figure: difference(internal, other, figure) for figure in CHANGES},
        }
        for other in evaluations
        if other is not internal
    ]
