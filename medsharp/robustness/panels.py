"""Small line charts over severity; a page has hundreds of them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle
from typing import TYPE_CHECKING, Any

import numpy as np

from medsharp.evaluation.plots.svg import DASHED, DOTTED, INK, MODEL, NEGATIVE, POSITIVE, SOFT, draw

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Series = tuple[str, Sequence[dict[str, Any]]]
"""A name, and the figure at severity 0 to 5."""

_SIZE = 2.5, 1.75  # inches
_LINES: tuple[dict[str, Any], ...] = (
    {"color": MODEL, "linestyle": "-"},
    {"color": POSITIVE, "linestyle": DASHED},
    {"color": NEGATIVE, "linestyle": DOTTED},
    {"color": INK, "linestyle": (0, (6, 1.5, 1.2, 1.5))},
    {"color": SOFT, "linestyle": "-"},
)
"""As the legend of the page draws them (`.line.s0` to `.line.s4` in robustness.css)."""


def limits_of(
    series: Sequence[Series], floor: float | None = None, ceiling: float | None = None
) -> tuple[float, float]:
    """Return the range of values and their limits, within `floor` and `ceiling`."""
    values = [
        part[key]
        for _, figures in series
        for part in figures
        for key in ("value", "low", "high")
        if part.get(key) is not None
    ] or [0.0, 1.0]
    low, high = min(values), max(values)
    if high - low < 0.02:
        low, high = low - 0.01, high + 0.01
    return (low if floor is None else max(low, floor)), (high if ceiling is None else min(high, ceiling))


def panel(
    title: str, series: Sequence[Series], limits: tuple[float, float], prefix: str, *, percent: bool = False
) -> str:
    """Draw figures with their bands over severity, as SVG text; what has no value is left out.

    Args:
        title: For readers who cannot see it.
        series: A line each, told apart by colour and dashes.
        limits: Of the vertical axis; what lies outside is drawn at its edge.
        prefix: Makes the names inside the SVG unique on the page.
        percent: Write the axis in percent.
    """

    def function(figure: Figure) -> None:
        axes = figure.add_subplot()
        for (_, figures), line in zip(series, cycle(_LINES), strict=False):
            value, low, high = (_column(figures, key, limits) for key in ("value", "low", "high"))
            places = np.arange(len(value))
            axes.fill_between(places, low, high, color=line["color"], alpha=0.16, linewidth=0)
            known = np.isfinite(value)
            axes.plot(places[known], value[known], marker="o", markersize=3.5, linewidth=1.6, clip_on=False, **line)
        axes.set_xticks(range(6), ["clean", *"12345"])
        axes.set_ylim(*limits)
        axes.locator_params(axis="y", nbins=4)
        axes.grid(axis="y", alpha=0.25, linewidth=0.8)
        if percent:
            axes.yaxis.set_major_formatter(lambda value, _: f"{value * 100:.0f} %")

    return draw(function, title, prefix, size=_SIZE)


def _column(figures: Sequence[dict[str, Any]], key: str, limits: tuple[float, float]) -> np.ndarray:
    values = [np.nan if part.get(key) is None else float(part[key]) for part in figures]
    return np.clip(np.array(values), *limits)
