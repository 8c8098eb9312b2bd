"""The ROC curves of several data sets in one plot."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from medsharp.evaluation.plots.ranking import unit_square
from medsharp.evaluation.plots.svg import GUIDE, LINES, draw, shortened

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST = len(LINES)
"""How many curves can be told apart."""


def told_apart(entries: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the data sets whose curves can be told apart: of more than `MOST` the internal ones and the largest.

    Args:
        entries: Data sets of `evaluation.json`; their order is kept.
    """
    ranked = sorted(entries, key=lambda entry: (entry["role"] != "internal", -entry["counts"]["images"]))
    chosen = {id(entry) for entry in ranked[:MOST]}
    return [entry for entry in entries if id(entry) in chosen]


def roc_of_several(entries: Sequence[dict[str, Any]], prefix: str) -> str:
    """Draw the ROC curves of the data sets that can be `told_apart` over each other, as SVG text.

    Each has a colour and a kind of line.

    Args:
        entries: Data sets of `evaluation.json`.
        prefix: Makes the names inside the SVG unique on the page.
    """
    drawn = told_apart(entries)

    def function(figure: Figure) -> None:
        axes = figure.add_subplot()
        axes.plot([0, 1], [0, 1], **GUIDE)
        for entry, line in zip(drawn, LINES[: len(drawn)], strict=True):
            curve, figures = entry["curves"]["roc"], entry["figures"]
            label = shortened(entry["name"], 30)
            axes.plot(curve["false_positive_rate"], curve["true_positive_rate"], linewidth=1.8, label=label, **line)
            point = 1 - figures["specificity"]["value"], figures["sensitivity"]["value"]
            axes.plot(*point, "o", color=line["color"], markersize=6, clip_on=False, zorder=5)
        unit_square(axes, "1 \N{MINUS SIGN} specificity", "sensitivity")
        axes.legend(frameon=False, fontsize=9, loc="lower right", handlelength=2.6)

    names = ", ".join(entry["name"] for entry in drawn)
    return draw(function, f"ROC curves on {names}", prefix, size=(4.8, 4.4))
