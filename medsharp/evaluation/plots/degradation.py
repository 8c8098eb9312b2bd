"""How AUROC falls with the severity of corruption, family by family."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import TYPE_CHECKING

from medsharp.evaluation.plots.svg import GUIDE, LINES, draw, shortened

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MARKERS = "osD^vP"


def degradation(by_severity: Mapping[str, Sequence[float | None]], prefix: str, title: str) -> str:
    """Draw a line a family from the clean images to severity 5, as SVG text; lines differ in kind and marker.

    Args:
        by_severity: AUROC at severities 0 to 5 by family; None where there is none.
        prefix: Makes the names inside the SVG unique on the page.
        title: For readers who cannot see it.
    """

    def function(figure: Figure) -> None:
        axes = figure.add_subplot()
        axes.axhline(0.5, **GUIDE)
        values = [0.5]
        for (family, heights), line, marker in zip(by_severity.items(), cycle(LINES), cycle(_MARKERS), strict=False):
            points = [(level, height) for level, height in enumerate(heights) if height is not None]
            values += [height for _, height in points]
            axes.plot(*zip(*points, strict=True), marker=marker, markersize=5, label=shortened(family, 24), **line)
        axes.set_xticks(range(6), ["clean", *"12345"])
        axes.set(xlabel="severity", ylabel="AUROC", ylim=(min(values) - 0.03, min(1.005, max(values) + 0.05)))
        figure.legend(frameon=False, fontsize=9.5, loc="outside upper left", ncols=2, borderpad=0, handlelength=2.6)

    return draw(function, title, prefix, size=(4.8, 4.0))
