"""The risk-coverage curve: how many errors are left when the least certain images are left undecided."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from medsharp.evaluation.plots.svg import BAND, GUIDE, LINES, MODEL, POINT, draw

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def draw_risk_coverage(axes: Axes, entry: dict[str, Any]) -> None:
    """Draw the share of wrong decisions among the images decided, the surest first, with its band."""
    curve = entry["curves"]["risk_coverage"]
    axes.axhline(curve["risk"][-1], **GUIDE)
    if curve["low"]:
        axes.fill_between(curve["coverage"], curve["low"], curve["high"], **BAND)
    axes.plot(curve["coverage"], curve["risk"], color=MODEL, linewidth=1.8, marker="o", markersize=2.5)
    top = max(*curve["risk"], *(curve["high"] or [0.0]), 0.02)
    axes.set(xlabel="share of images decided", ylabel="wrong decisions", xlim=(0, 1.005), ylim=(0, 1.05 * top))


def abstaining(entry: dict[str, Any], prefix: str) -> str:
    """Draw the risk-coverage curve by confidence alone and with the checks, and where they abstain, as SVG text.

    Args:
        entry: A data set of `evaluation.json` whose `abstention` has `risk_coverage`.
        prefix: Makes the names inside the SVG unique on the page.
    """
    found = entry["abstention"]
    curves = found["risk_coverage"]

    def function(figure: Figure) -> None:
        axes = figure.add_subplot()
        names = {"confidence": "by distance from the threshold", "checks": "with the checks"}
        tops = [0.02]
        for (key, label), line in zip(names.items(), LINES, strict=False):
            curve = curves[key]
            axes.plot(curves["coverage"], curve["risk"], linewidth=1.8, label=label, **line)
            tops.append(max(curve["risk"]))
        if curves["checks"]["low"]:
            axes.fill_between(curves["coverage"], curves["checks"]["low"], curves["checks"]["high"], **BAND)
            tops.append(max(curves["checks"]["high"]))
        for part in found["policies"]:
            axes.plot(part["coverage"]["value"], part["risk"]["value"], **POINT)
        axes.set(
            xlabel="share of images decided", ylabel="wrong decisions", xlim=(0, 1.005), ylim=(0, 1.05 * max(tops))
        )
        axes.legend(frameon=False, fontsize=9)

    return draw(function, f"Risk-coverage curves with the input checks on {entry['name']}", prefix, size=(4.8, 4.0))
