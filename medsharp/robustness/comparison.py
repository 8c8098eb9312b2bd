"""Two models on the same corrupted images."""

from __future__ import annotations

from typing import Any

from medsharp.robustness.cells import Cell
from medsharp.robustness.corruptions import SEVERITIES
from medsharp.robustness.summary import Cells, flipped, overall


def compare(first: tuple[str, Cells], second: tuple[str, Cells]) -> dict[str, Any]:
    """Return the paired differences, second minus first, of means over all corruptions and severities.

    Args:
        first: Name and cells; judged on the same resamples as the second's.
        second: Name and cells.
    """
    (one, before), (other, after) = first, second
    old, new = list(before.values()), list(after.values())

    def severities(cells: Cells, name: str) -> list[Cell]:
        return [cells[name, severity] for severity in SEVERITIES]

    return {
        "first": one,
        "second": other,
        **{key: (overall(new, key) - overall(old, key)).figure() for key in ("auroc", "balanced_accuracy")},
        "flips": (flipped(new) - flipped(old)).figure(),
        "corruptions": {
            name: {
                "auroc": (
                    overall(severities(after, name), "auroc") - overall(severities(before, name), "auroc")
                ).figure()
            }
            for name in dict.fromkeys(name for name, _ in before)
        },
    }
