"""What the probabilities are: calibration and distribution by class."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from medsharp.evaluation.plots.ranking import unit_square
from medsharp.evaluation.plots.svg import BAND, DASHED, GUIDE, INK, MODEL, NEGATIVE, POSITIVE, shortened

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def draw_reliability(axes: Axes, entry: dict[str, Any]) -> None:
    """Draw observed shares in bins and the calibration curve with its band: the smooth one, where there is one.

    The logistic curve, which assumes a shape, is then dashed beside it.
    """
    reliability = entry["curves"]["reliability"]
    bins, logistic = reliability["bins"], reliability["curve"]
    curve = reliability.get("smooth") or logistic
    axes.plot([0, 1], [0, 1], **GUIDE)
    if curve["low"]:
        axes.fill_between(curve["probability"], curve["low"], curve["high"], **BAND)
    axes.plot(curve["probability"], curve["observed"], color=MODEL, linewidth=1.6)
    if curve is not logistic and logistic["probability"]:
        axes.plot(logistic["probability"], logistic["observed"], color=POSITIVE, linewidth=1.3, linestyle=DASHED)
    for point in bins:
        axes.plot([point["probability"]] * 2, [point["low"], point["high"]], color=INK, linewidth=0.9)
    axes.plot(
        [point["probability"] for point in bins],
        [point["observed"] for point in bins],
        "o",
        color=INK,
        markersize=4.5,
        clip_on=False,
        zorder=4,
    )
    unit_square(axes, f"predicted probability of {shortened(entry['positive'])}", "observed share")


def draw_histogram(figure: Figure, entry: dict[str, Any]) -> None:
    """Draw the distribution of the probability, or score, for positive and for negative images, under each other."""
    bins, counts, positive = entry["curves"]["histogram"], entry["counts"], shortened(entry["positive"], 20)
    others = [name for name in entry["classes"] if name != entry["positive"]]
    rest = shortened(others[0], 20) if len(others) == 1 else f"not {positive}"
    upper, lower = figure.subplots(2, 1, sharex=True)
    parts = (
        (upper, "positive", POSITIVE, positive, counts["positives"]),
        (lower, "negative", NEGATIVE, rest, counts["images"] - counts["positives"]),
    )
    for axes, key, colour, label, images in parts:
        axes.stairs(np.array(bins[key]) / images * 100, bins["edges"], color=colour, fill=True, alpha=0.85)
        axes.axvline(entry["threshold"], color=INK, linewidth=1.1, linestyle=DASHED)
        axes.set_title(f"{label}, n = {images}", loc="left", fontsize=10, color=colour, fontweight="bold")
        axes.set(ylabel="% of class", xlim=(bins["edges"][0], bins["edges"][-1]))
        axes.margins(y=0.08)
    score = entry.get("scale") == "score"
    lower.set_xlabel(f"score, higher for {positive}" if score else f"predicted probability of {positive}")
