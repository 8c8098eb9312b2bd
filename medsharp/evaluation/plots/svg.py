"""Drawing: what matplotlib writes becomes a part of the page, with the page's colours and font."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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

DASHED = (0, (5, 2))
DOTTED = (0, (1.2, 1.6))
LINES: tuple[dict[str, Any], ...] = (
    {"color": INK, "linestyle": "-"},
    {"color": MODEL, "linestyle": DASHED},
    {"color": POSITIVE, "linestyle": DOTTED},
    {"color": NEGATIVE, "linestyle": (0, (6, 1.5, 1.2, 1.5))},
    {"color": SOFT, "linestyle": "-"},
    {"color": MODEL, "linestyle": (0, (1.2, 1.6))},
)
"""Lines that can be told apart without colour."""

GUIDE: dict[str, Any] = {"color": SOFT, "linestyle": (0, (4, 3)), "linewidth": 0.8}
BAND: dict[str, Any] = {"color": MODEL, "alpha": 0.16, "linewidth": 0}
POINT: dict[str, Any] = {
    "marker": "o",
    "linestyle": "",
    "color": PANEL,
    "markeredgecolor": POSITIVE,
    "markeredgewidth": 2,
    "markersize": 7,
    "zorder": 5,
    "clip_on": False,
}
"""The operating point."""


def shortened(text: str, length: int = 32) -> str:
    """Return text that fits a label, safe for matplotlib."""
    text = " ".join(text.split())
    text = text if len(text) <= length else text[: length - 1] + "\N{HORIZONTAL ELLIPSIS}"
    # A dollar sign would start mathematics, and a legend leaves out what begins with an underscore.
    text = text.replace("$", r"\$")
    return f"\N{ZERO WIDTH SPACE}{text}" if text.startswith("_") else text


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
    with rc_context(style), warnings.catch_warnings():
        # Names in any script are left as text to the page's font; matplotlib's own need not have them.
        warnings.filterwarnings("ignore", message=r"Glyph \d+")
        figure = Figure(figsize=size, layout="constrained")
        canvas = FigureCanvasSVG(figure)
        figure.patch.set_visible(False)
        function(figure)
        for axes in figure.axes:
            axes.patch.set_visible(False)
        stream = io.StringIO()
        # Unlike savefig, this does not draw everything a first time only to lay it out.
        canvas.print_svg(stream, metadata={"Date": None, "Creator": None})
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
    # A hundredth of a point is finer than any screen; six decimals would double the page.
    svg = re.sub(r' d="[^"]*"', lambda path: re.sub(r"(\.\d\d)\d+", r"\1", path[0]), svg)
    # `font: [weight] size family` becomes size and weight alone; the family is the page's.
    svg = re.sub(r"font: (?:(bold|700) )?([\d.]+px) [^;\"]*", _font, svg)
    for colour, variable in _PAGE.items():
        svg = svg.replace(colour, f"var({variable})")
    return svg


def _font(found: re.Match[str]) -> str:
    return f"font-size: {found[2]}" + ("; font-weight: 600" if found[1] else "")
