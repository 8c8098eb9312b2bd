"""Drawings of a study's report."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from medsharp.evaluation.plots.svg import GUIDE, INK, MODEL, draw, shortened

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def difference_plot(compared: Sequence[dict[str, Any]], equivalence: float, prefix: str) -> str:
    """Draw differences to the reference with their intervals, over the region of practical equivalence, as SVG."""
    labels = [f"{one['optimizer']}, {one['network']}, {one['part']}" for one in compared]

    def function(figure: Figure) -> None:
        axes = figure.add_subplot()
        axes.axvspan(-equivalence, equivalence, color=INK, alpha=0.1, linewidth=0)
        axes.axvline(0, **GUIDE)
        for place, one in enumerate(compared):
            if one["low"] is not None:
                axes.plot([one["low"], one["high"]], [place, place], color=MODEL, linewidth=2, solid_capstyle="butt")
            axes.plot(one["value"], place, "s", color=MODEL, markersize=5)
        axes.set_yticks(range(len(labels)), [shortened(label, 40) for label in labels])
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.set(xlabel="AUROC less the reference's", ylim=(len(labels) - 0.4, -0.6))

    return draw(function, "Differences to the reference", prefix, size=(6.4, 0.75 + 0.26 * len(labels)))


def residual_plot(residuals: Sequence[float], prefix: str) -> str:
    """Draw sorted standardised residuals against normal quantiles, as SVG."""
    from scipy.stats import norm

    count = len(residuals)
    expected = norm.ppf([(place + 0.5) / count for place in range(count)])

    def function(figure: Figure) -> None:
        axes = figure.add_subplot()
        axes.axline((0, 0), slope=1, **GUIDE)
        axes.plot(expected, residuals, "o", color=MODEL, markersize=3)
        axes.set(xlabel="normal quantile", ylabel="residual")

    return draw(function, "Residuals against normal quantiles", prefix, size=(3.6, 3.2))
