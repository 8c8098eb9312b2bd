"""The report's plots, as SVG that follows the page's colours and font."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Each stands for a colour of the page's style sheet while drawing, so that light, dark and print share one plot.
INK, SOFT, MODEL, POSITIVE, NEGATIVE, PANEL = "#010101", "#010102", "#010103", "#010104", "#010105", "#010106"
_PAGE = {
    INK: "--ink",
    SOFT: "--soft",
    MODEL: "--model",
    POSITIVE: "--positive",
    NEGATIVE: "--negative",
    PANEL: "--panel",
}


def plots_of(entry: dict[str, Any], prefix: str) -> dict[str, str]:
    """Return SVG text by name for one data set of `evaluation.json`.

    Args:
        entry: The data set.
        prefix: Makes the names inside the SVG unique on the page.
    """
    name, positive = entry["name"], entry["positive"]
    drawn: dict[str, tuple[Callable[[Figure], None], str]] = {
        "roc": (lambda figure: _roc(figure.add_subplot(), entry), f"ROC curve on {name}"),
        "precision_recall": (
            lambda figure: _precision_recall(figure.add_subplot(), entry),
            f"Precision-recall curve on {name}",
        ),
        "reliability": (
            lambda figure: _reliability(figure.add_subplot(), entry),
            f"Calibration plot: observed share of {positive} by predicted probability on {name}",
        ),
        "histogram": (lambda figure: _histogram(figure, entry), f"Predicted probabilities by class on {name}"),
        "net_benefit": (lambda figure: _net_benefit(figure, entry), f"Decision curve on {name}"),
    }
    return {key: draw(function, title, f"{prefix}-{key}", size=(4.4, 4.0)) for key, (function, title) in drawn.items()}


def forest(rows: Sequence[tuple[str, dict[str, Any]]], prefix: str, title: str, xlabel: str = "AUROC") -> str:
    """Draw figures with their intervals under each other, as SVG text.

    Args:
        rows: Label and figure; figures without a value are left out.
        prefix: Makes the names inside the SVG unique on the page.
        title: For readers who cannot see it.
        xlabel: Names the figure.
    """
    shown = [(label, figure) for label, figure in rows if figure.get("value") is not None]

    def function(figure: Figure) -> None:
        axes = figure.add_subplot()
        lows = [0.5]
        for place, (_, part) in enumerate(shown):
            low, high = part.get("low"), part.get("high")
            if low is not None and high is not None:
                axes.plot([low, high], [place, place], color=MODEL, linewidth=2, solid_capstyle="butt")
                lows.append(low)
            axes.plot(part["value"], place, "s", color=MODEL, markersize=6)
            lows.append(part["value"])
        axes.axvline(0.5, color=SOFT, linewidth=0.8, linestyle=(0, (4, 3)))
        axes.set_yticks(range(len(shown)), [_shortened(label) for label, _ in shown])
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.set(xlabel=xlabel, xlim=(min(lows) - 0.03, 1.01), ylim=(len(shown) - 0.4, -0.6))

    return draw(function, title, prefix, size=(5.8, 0.75 + 0.34 * max(1, len(shown))))


def _roc(axes: Axes, entry: dict[str, Any]) -> None:
    curve, figures = entry["curves"]["roc"], entry["figures"]
    axes.plot([0, 1], [0, 1], color=SOFT, linestyle=(0, (4, 3)), linewidth=0.8)
    band = curve["band"]
    if band["low"]:
        axes.fill_between(band["false_positive_rate"], band["low"], band["high"], color=MODEL, alpha=0.16, linewidth=0)
    axes.plot(curve["false_positive_rate"], curve["true_positive_rate"], color=MODEL, linewidth=1.8)
    x, y = 1 - figures["specificity"]["value"], figures["sensitivity"]["value"]
    axes.plot(
        x, y, "o", color=PANEL, markeredgecolor=POSITIVE, markeredgewidth=2, markersize=7, zorder=5, clip_on=False
    )
    _unit_square(axes, "1 \N{MINUS SIGN} specificity", "sensitivity")


def _precision_recall(axes: Axes, entry: dict[str, Any]) -> None:
    curve, figures = entry["curves"]["precision_recall"], entry["figures"]
    axes.axhline(figures["prevalence"]["value"], color=SOFT, linestyle=(0, (4, 3)), linewidth=0.8)
    band = curve["band"]
    if band["low"]:
        axes.fill_between(band["recall"], band["low"], band["high"], color=MODEL, alpha=0.16, linewidth=0)
    axes.step(
        [0, *curve["recall"]], [curve["precision"][0], *curve["precision"]], where="pre", color=MODEL, linewidth=1.6
    )
    if figures["ppv"]["value"] is not None:
        x, y = figures["sensitivity"]["value"], figures["ppv"]["value"]
        axes.plot(
            x, y, "o", color=PANEL, markeredgecolor=POSITIVE, markeredgewidth=2, markersize=7, zorder=5, clip_on=False
        )
    _unit_square(axes, "recall (sensitivity)", "precision (PPV)")


def _reliability(axes: Axes, entry: dict[str, Any]) -> None:
    bins, curve = entry["curves"]["reliability"]["bins"], entry["curves"]["reliability"]["curve"]
    axes.plot([0, 1], [0, 1], color=SOFT, linestyle=(0, (4, 3)), linewidth=0.8)
    if curve["low"]:
        axes.fill_between(curve["probability"], curve["low"], curve["high"], color=MODEL, alpha=0.16, linewidth=0)
    axes.plot(curve["probability"], curve["observed"], color=MODEL, linewidth=1.6)
    for point in bins:
        axes.plot([point["probability"]] * 2, [point["low"], point["high"]], color=INK, linewidth=0.9)
    axes.plot(
        [b["probability"] for b in bins],
        [b["observed"] for b in bins],
        "o",
        color=INK,
        markersize=4.5,
        clip_on=False,
        zorder=4,
    )
    _unit_square(axes, f"predicted probability of {_shortened(entry['positive'])}", "observed share")


def _histogram(figure: Figure, entry: dict[str, Any]) -> None:
    bins, counts, positive = entry["curves"]["histogram"], entry["counts"], _shortened(entry["positive"], 20)
    others = [name for name in entry["classes"] if name != entry["positive"]]
    rest = _shortened(others[0], 20) if len(others) == 1 else f"not {positive}"
    upper, lower = figure.subplots(2, 1, sharex=True)
    parts = (
        (upper, "positive", POSITIVE, positive, counts["positives"]),
        (lower, "negative", NEGATIVE, rest, counts["images"] - counts["positives"]),
    )
    for axes, key, colour, label, images in parts:
        axes.stairs(np.array(bins[key]) / images * 100, bins["edges"], color=colour, fill=True, alpha=0.85)
        axes.axvline(entry["threshold"], color=INK, linewidth=1.1, linestyle=(0, (4, 2)))
        axes.set_title(f"{label}, n = {images}", loc="left", fontsize=10, color=colour, fontweight="bold")
        axes.set(ylabel="% of class", xlim=(0, 1))
        axes.margins(y=0.08)
    lower.set_xlabel(f"predicted probability of {positive}")


def _net_benefit(figure: Figure, entry: dict[str, Any]) -> None:
    curve, axes = entry["curves"]["net_benefit"], figure.add_subplot()
    cuts = curve["threshold"]
    if curve["low"]:
        axes.fill_between(cuts, curve["low"], curve["high"], color=MODEL, alpha=0.16, linewidth=0)
    axes.plot(cuts, curve["model"], color=MODEL, linewidth=1.8, label="model")
    axes.plot(cuts, curve["treat_all"], color=POSITIVE, linewidth=1.4, linestyle=(0, (5, 2)), label="every image")
    axes.axhline(0, color=SOFT, linewidth=1.4, label="none")
    top = max(*curve["model"], *curve["treat_all"], *(curve["high"] or [0.05]), 0.05)
    axes.set(xlabel="threshold probability", ylabel="net benefit", xlim=(0, max(cuts)), ylim=(-0.25 * top, 1.05 * top))
    figure.legend(frameon=False, fontsize=10, loc="outside upper left", ncols=3, borderpad=0, columnspacing=1.4)


def _unit_square(axes: Axes, xlabel: str, ylabel: str) -> None:
    axes.set(xlabel=xlabel, ylabel=ylabel, xlim=(0, 1), ylim=(0, 1.005), aspect="equal")
    axes.set_xticks(np.linspace(0, 1, 6))
    axes.set_yticks(np.linspace(0, 1, 6))


def _shortened(text: str, length: int = 32) -> str:
    # A dollar sign would start mathematics in matplotlib.
    text = text.replace("$", r"\$")
    return text if len(text) <= length else text[: length - 1] + "…"


def draw(function: Callable[[Figure], None], title: str, prefix: str, size: tuple[float, float]) -> str:
    """Let `function` draw on a figure and return it as SVG that takes colours and font from the page.

    Args:
        function: Draws.
        title: For readers who cannot see it.
        prefix: Makes the names inside the SVG unique on the page.
        size: Width and height in inches.
    """
    from matplotlib import rc_context
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    style: Any = {
        "svg.fonttype": "none",
        "svg.hashsalt": "medsharp",
        "font.size": 11,
        "font.family": "DejaVu Sans",
        **dict.fromkeys(("text.color", "axes.labelcolor", "legend.labelcolor"), INK),
        **dict.fromkeys(("axes.edgecolor", "xtick.color", "ytick.color"), SOFT),
        **dict.fromkeys(("xtick.labelcolor", "ytick.labelcolor"), INK),
        "axes.linewidth": 0.8,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.unicode_minus": True,
    }
    with rc_context(style):
        figure = Figure(figsize=size, layout="constrained")
        FigureCanvasSVG(figure)
        figure.patch.set_visible(False)
        function(figure)
        for axes in figure.axes:
            axes.patch.set_visible(False)
        stream = io.StringIO()
        figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    return _for_page(stream.getvalue(), title, prefix)


def _for_page(svg: str, title: str, prefix: str) -> str:
    """Make matplotlib's SVG part of a page: no header, names of its own, the page's colours and font."""
    from markupsafe import escape

    svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    box = re.search(r'viewBox="([^"]*)"', svg)
    if box is None:
        raise RuntimeError("matplotlib wrote an SVG without a viewBox")
    opening = f'<svg viewBox="{box[1]}" role="img" aria-label="{escape(title)}">'
    svg = opening + svg[svg.index(">") + 1 :]
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{prefix}-\1"', svg)
    svg = re.sub(r'xlink:href="#([^"]+)"', rf'href="#{prefix}-\1"', svg)
    svg = re.sub(r"url\(#([^)]+)\)", rf"url(#{prefix}-\1)", svg)
    # `font: [weight] size family` becomes size and weight alone; the family is the page's.
    svg = re.sub(r"font: (?:(bold|700) )?([\d.]+px) [^;\"]*", _font, svg)
    for colour, variable in _PAGE.items():
        svg = svg.replace(colour, f"var({variable})")
    return svg


def _font(found: re.Match[str]) -> str:
    return f"font-size: {found[2]}" + ("; font-weight: 600" if found[1] else "")
