"""Forest plots: figures with their intervals under each other, and what they come to together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import wrap
from typing import TYPE_CHECKING, Any

from medsharp.evaluation.plots.svg import GUIDE, INK, MODEL, draw, shortened

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


_WIDTH, _LINES = 28, 3
"""Letters in a line of a label, and its lines."""


@dataclass(frozen=True)
class Diamond:
    """A summary over the rows: value with its interval, and where the next site may lie.

    Attributes:
        label: What stands at its left.
        value: The summary.
        low: Lower limit of its 95 % interval.
        high: Upper limit.
        prediction: Lower and upper limit of the 95 % prediction interval, or None.
    """

    label: str
    value: float
    low: float
    high: float
    prediction: tuple[float, float] | None = None


def forest(
    rows: Sequence[tuple[str, dict[str, Any]]],
    prefix: str,
    title: str,
    xlabel: str = "AUROC",
    *,
    summary: Diamond | None = None,
    guide: float | None = 0.5,
    whole: float | None = None,
) -> str:
    """Draw figures with their intervals under each other, as SVG text.

    Args:
        rows: Label and figure; figures without a value are left out.
        prefix: Makes the names inside the SVG unique on the page.
        title: For readers who cannot see it.
        xlabel: Names the figure.
        summary: Drawn below the rows.
        guide: Where a dashed line marks no information.
        whole: Where a thin line marks the value of all images together.
    """
    shown = [(label, figure) for label, figure in rows if figure.get("value") is not None]
    labels = [_lines(label) for label, _ in shown] + ([_lines(summary.label)] if summary else [])
    several = max((label.count("\n") for label in labels), default=0)

    def function(figure: Figure) -> None:
        axes = figure.add_subplot()
        if guide is not None:
            axes.axvline(guide, **GUIDE)
        if whole is not None:
            axes.axvline(whole, color=MODEL, linewidth=0.8, alpha=0.55)
        lows = [] if guide is None else [guide]
        heaviest = max((part.get("weight") or 0 for _, part in shown), default=0)
        for place, (_, part) in enumerate(shown):
            lows += _row(axes, part, place, heaviest)
        if summary is not None:
            lows += _diamond(axes, summary, len(shown))
        axes.set_yticks(range(len(labels)), labels)
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        left = max(-0.01, min(lows, default=0.5) - 0.03)
        axes.set(xlabel=xlabel, xlim=(left, 1.01), ylim=(len(labels) - 0.4, -0.6))

    return draw(function, title, prefix, size=(5.2, 0.75 + (0.34 + 0.1 * several) * max(1, len(labels))))


def _lines(label: str) -> str:
    """Return a label in as many lines as it needs, so that names stay whole; the longest end in an ellipsis."""
    lines = wrap(shortened(label, _WIDTH * _LINES), _WIDTH)
    return "\n".join(lines) or label


def _row(axes: Axes, part: dict[str, Any], place: int, heaviest: float) -> list[float]:
    """Draw a figure with its interval, its square as large as its weight in the summary; return what must be seen."""
    low, high = part.get("low"), part.get("high")
    side = 6.0 if not heaviest else 2.5 + 6.5 * ((part.get("weight") or 0) / heaviest) ** 0.5
    axes.plot(part["value"], place, "s", color=MODEL, markersize=side)
    if low is None or high is None:
        return [part["value"]]
    axes.plot([low, high], [place, place], color=MODEL, linewidth=2, solid_capstyle="butt")
    return [low, part["value"]]


def _diamond(axes: Axes, summary: Diamond, place: int) -> list[float]:
    visible = [summary.low]
    if summary.prediction is not None:
        axes.plot(summary.prediction, [place, place], color=INK, linewidth=1.2, linestyle=(0, (2, 1.5)))
        visible.append(summary.prediction[0])
    axes.fill(
        [summary.low, summary.value, summary.high, summary.value],
        [place, place - 0.26, place, place + 0.26],
        color=INK,
        linewidth=0,
        zorder=4,
    )
    return visible
