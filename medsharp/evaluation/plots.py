"""The report's plots, as SVG that follows the page's colours."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito's palette, which colour-blind readers can tell apart.
MODEL = "#0072B2"
POSITIVE = "#D55E00"
NEGATIVE = "#0072B2"
REFERENCE = "#888888"
_INK = "#123456"
"""Stands for the page's text colour while drawing; replaced by currentColor."""


def plots_of(entry: dict[str, Any]) -> dict[str, str]:
    """Return SVG text by name for one data set of `evaluation.json`."""
    curves = entry["curves"]
    return {
        "roc": _draw(lambda axes: _roc(axes, entry), "ROC curve"),
        "precision_recall": _draw(lambda axes: _precision_recall(axes, entry), "Precision-recall curve"),
        "reliability": _draw(lambda axes: _reliability(axes, curves["reliability"]), "Calibration plot"),
        "histogram": _draw(lambda axes: _histogram(axes, entry), "Probabilities by class"),
        "net_benefit": _draw(lambda axes: _net_benefit(axes, curves["net_benefit"]), "Decision curve"),
    }


def _roc(axes: Axes, entry: dict[str, Any]) -> None:
    curve, figures = entry["curves"]["roc"], entry["figures"]
    axes.plot([0, 1], [0, 1], color=REFERENCE, linestyle=":", linewidth=1)
    axes.step(curve["false_positive_share"], curve["true_positive_share"], where="post", color=MODEL)
    if figures["specificity"]["value"] is not None and figures["sensitivity"]["value"] is not None:
        axes.plot(1 - figures["specificity"]["value"], figures["sensitivity"]["value"], "o", color=POSITIVE)
    axes.set(xlabel="1 - specificity", ylabel="sensitivity", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")


def _precision_recall(axes: Axes, entry: dict[str, Any]) -> None:
    curve = entry["curves"]["precision_recall"]
    axes.axhline(entry["figures"]["prevalence"]["value"], color=REFERENCE, linestyle=":", linewidth=1)
    axes.step(curve["recall"], curve["precision"], where="post", color=MODEL)
    axes.set(xlabel="recall (sensitivity)", ylabel="precision (PPV)", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    axes.set_aspect("equal")


def _reliability(axes: Axes, points: list[dict[str, float]]) -> None:
    axes.plot([0, 1], [0, 1], color=REFERENCE, linestyle=":", linewidth=1)
    x, y = [p["probability"] for p in points], [p["observed"] for p in points]
    errors = [[p["observed"] - p["low"] for p in points], [p["high"] - p["observed"] for p in points]]
    axes.errorbar(x, y, yerr=errors, fmt="o-", color=MODEL, ecolor=MODEL, elinewidth=0.8, markersize=4, linewidth=1)
    axes.set(xlabel="predicted probability", ylabel="observed share", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    axes.set_aspect("equal")


def _histogram(axes: Axes, entry: dict[str, Any]) -> None:
    bins, positive = entry["curves"]["histogram"], entry["positive"]
    edges = bins["edges"]
    axes.stairs(bins["negative"], edges, color=NEGATIVE, fill=True, alpha=0.45, label=f"not {positive}")
    axes.stairs([-count for count in bins["positive"]], edges, color=POSITIVE, fill=True, alpha=0.6, label=positive)
    axes.axvline(entry["threshold"], color=_INK, linewidth=1, linestyle="--", label="operating point")
    axes.axhline(0, color=_INK, linewidth=0.6)
    axes.yaxis.set_major_formatter(lambda value, position: f"{abs(value):.0f}")
    axes.set(xlabel=f"probability of {positive}", ylabel="images", xlim=(0, 1))
    axes.legend(frameon=False, fontsize=8, loc="best")


def _net_benefit(axes: Axes, curve: dict[str, list[float]]) -> None:
    axes.plot(curve["threshold"], curve["treat_all"], color=REFERENCE, linewidth=1, label="all positive")
    axes.axhline(0, color=REFERENCE, linewidth=1, linestyle=":", label="none positive")
    axes.plot(curve["threshold"], curve["model"], color=MODEL, label="model")
    top = max(*curve["model"], *curve["treat_all"], 0.05)
    axes.set(xlabel="threshold probability", ylabel="net benefit", xlim=(0, 0.6), ylim=(-0.1 * top, 1.1 * top))
    axes.legend(frameon=False, fontsize=8)


def _draw(draw: Any, title: str) -> str:
    from matplotlib import rc_context
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    style: Any = {
        "svg.fonttype": "none",
        "svg.hashsalt": "medsharp",
        "font.size": 9.5,
        "font.family": "sans-serif",
        **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), _INK),
        "axes.spines.top": False,
        "axes.spines.right": False,
        "legend.labelcolor": _INK,
    }
    with rc_context(style):
        figure = Figure(figsize=(3.6, 3.2), layout="constrained")
        FigureCanvasSVG(figure)
        figure.patch.set_alpha(0)
        axes = figure.add_subplot()
        axes.patch.set_alpha(0)
        draw(axes)
        stream = io.StringIO()
        figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    svg = stream.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(
        r'<svg [^>]*viewBox="([^"]*)"[^>]*>', rf'<svg viewBox="\1" role="img" aria-label="{title}">', svg, count=1
    )
    # Names are made unique to the plot, as several stand on one page.
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    return svg.replace(_INK, "currentColor").replace("font: ", "font-family: inherit; font: ")
