"""The risk-coverage curve: how many errors are left when the least certain images are left undecided."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from medsharp.evaluation.plots.svg import BAND, GUIDE, MODEL

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def draw_risk_coverage(axes: Axes, entry: dict[str, Any]) -> None:
    """Draw the share of wrong decisions among the images decided, the surest first, with its band."""
    curve = entry["curves"]["risk_coverage"]
    axes.axhline(curve["risk"][-1], **GUIDE)
    if curve["low"]:
        axes.fill_between(curve["coverage"], curve["low"], curve["high"], **BAND)
    axes.plot(curve["coverage"], curve["risk"], color=MODEL, linewidth=1.8, marker="o", markersize=2.5)
    top = max(*curve["risk"], *(curve["high"] or [0.0]), 0.02)
    axes.set(xlabel="share of images decided", ylabel="wrong decisions", xlim=(0, 1.005), ylim=(0, 1.05 * top))
