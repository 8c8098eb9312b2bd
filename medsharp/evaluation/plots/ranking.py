"""ROC and precision-recall curves with their bands."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from medsharp.evaluation.plots.svg import BAND, GUIDE, MODEL, POINT

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def draw_roc(axes: Axes, entry: dict[str, Any]) -> None:
    """Draw the ROC curve, its pointwise band and the operating point of a data set."""
    curve, figures = entry["curves"]["roc"], entry["figures"]
    axes.plot([0, 1], [0, 1], **GUIDE)
    band = curve["band"]
    if band["low"]:
        axes.fill_between(band["false_positive_rate"], band["low"], band["high"], **BAND)
    axes.plot(curve["false_positive_rate"], curve["true_positive_rate"], color=MODEL, linewidth=1.8)
    axes.plot(1 - figures["specificity"]["value"], figures["sensitivity"]["value"], **POINT)
    unit_square(axes, "1 \N{MINUS SIGN} specificity", "sensitivity")


def draw_precision_recall(axes: Axes, entry: dict[str, Any]) -> None:
    """Draw the precision-recall curve, its band, the prevalence and the operating point of a data set."""
    curve, figures = entry["curves"]["precision_recall"], entry["figures"]
    axes.axhline(figures["prevalence"]["value"], **GUIDE)
    band = curve["band"]
    if band["low"]:
        axes.fill_between(band["recall"], band["low"], band["high"], **BAND)
    recall, precision = [0, *curve["recall"]], [curve["precision"][0], *curve["precision"]]
    axes.step(recall, precision, where="pre", color=MODEL, linewidth=1.6)
    if figures["ppv"]["value"] is not None:
        axes.plot(figures["sensitivity"]["value"], figures["ppv"]["value"], **POINT)
    unit_square(axes, "recall (sensitivity)", "precision (PPV)")


def unit_square(axes: Axes, xlabel: str, ylabel: str) -> None:
    """Show 0 to 1 on both axes, equally long."""
    axes.set(xlabel=xlabel, ylabel=ylabel, xlim=(0, 1), ylim=(0, 1.005), aspect="equal")
    axes.set_xticks(np.linspace(0, 1, 6))
    axes.set_yticks(np.linspace(0, 1, 6))
