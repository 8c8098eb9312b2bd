"""Two models on the same corrupted images."""

from __future__ import annotations

from typing import Any

from medsharp.robustness.corruptions import SEVERITIES
from medsharp.robustness.estimates import mean
from medsharp.robustness.summary import Cells, overall


def compare(first: tuple[str, Cells], second: tuple[str, Cells]) -> dict[str, Any]:
    """Return the paired differences, first less second, of means over all corruptions and severities.

    Args:
        first: Name and cells; judged on the same resamples as the second's.
        second: Name and cells.
    """
    (one, ours), (other, theirs) = first, second
    names = list(dict.fromkeys(name for name, _ in ours))
    return {
        "first": one,
        "second": other,
        "auroc": (overall(list(ours.values()), "auroc") - overall(list(theirs.values()), "auroc")).figure(),
        "balanced_accuracy": (
            overall(list(ours.values()), "balanced_accuracy") - overall(list(theirs.values()), "balanced_accuracy")
        ).figure(),
        "flips": (
            mean([cell.flips["all"] for cell in ours.values()]) - mean([cell.flips["all"] for cell in theirs.values()])
        ).figure(),
        "corruptions": {
            name: {
                "auroc": (
                    mean([ours[name, severity].figures["auroc"] for severity in SEVERITIES])
                    - mean([theirs[name, severity].figures["auroc"] for severity in SEVERITIES])
                ).figure()
            }
            for name in names
        },
    }
