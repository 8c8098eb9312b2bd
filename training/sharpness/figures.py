"""Figures of sharpness: spectral densities, lines, contours and surfaces; several runs on one scale."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medsharp.evaluation.plots import shortened
from medsharp.files import atomic_path

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Draw = Callable[["Figure", Sequence[dict[str, Any]]], None]
"""Draws on a figure, with kinds of lines that can be told apart."""

COLOURS: tuple[dict[str, Any], ...] = (
    {"color": "#0072b2", "linestyle": "-"},
    {"color": "#d55e00", "linestyle": (0, (5, 2))},
    {"color": "#009e73", "linestyle": (0, (1.2, 1.6))},
    {"color": "#cc79a7", "linestyle": (0, (6, 1.5, 1.2, 1.5))},
    {"color": "#56b4e9", "linestyle": "-"},
    {"color": "#e69f00", "linestyle": (0, (5, 2))},
)
"""Of files; pages have their own."""

_LEVELS = 12
_PANEL = 3.4


def figures_of(document: dict[str, Any]) -> dict[str, tuple[str, tuple[float, float], Draw]]:
    """Return title, size in inches and drawing of each figure that a document has the numbers for, by file name."""
    found: dict[str, tuple[str, tuple[float, float], Draw]] = {}
    runs = document["runs"]
    densities = [(run["name"], run["splits"][0]["measures"]["density"]) for run in runs]
    densities = [(name, density) for name, density in densities if density is not None]
    if densities:
        split = runs[0]["splits"][0]["split"]
        title = f"Spectral density of the Hessian, split {split}"
        found["density"] = (title, (6.0, 3.6), lambda figure, kinds: _densities(figure, kinds, densities))
    own = [(run["name"], run["landscape"]) for run in runs if run.get("landscape")]
    if own:
        found["lines"] = ("Loss along one direction", (8.0, 3.6), lambda figure, kinds: _lines(figure, kinds, own))
        wide = _PANEL * len(own) + 0.8
        for kind, words in (
            ("random", "two random filter-normalised directions"),
            ("eigenvectors", "two eigenvectors"),
        ):
            planes = [(name, each["steps"], each["planes"][kind]) for name, each in own]
            found[f"contours-{kind}"] = (f"Loss along {words}", (wide, _PANEL), _panels(planes, _contours))
            found[f"surfaces-{kind}"] = (f"Loss along {words}, as surfaces", (wide, _PANEL), _panels(planes, _surfaces))
    between = document.get("between")
    if between is not None:
        found["paths"] = (
            "Loss on the lines between runs",
            (6.0, 3.6),
            lambda figure, kinds: _paths(figure, kinds, between),
        )
        if between["triangle"] is not None:
            triangle = between["triangle"]
            found["triangle"] = (
                "Loss on the plane through three runs",
                (5.2, 4.2),
                lambda figure, kinds: _triangle(figure, triangle),
            )
    return found


def save_figures(folder: Path, document: dict[str, Any]) -> list[Path]:
    """Write each figure as PNG and SVG; return the files."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    written = []
    for name, (title, size, function) in figures_of(document).items():
        with rc_context({"svg.hashsalt": "medsharp", "font.size": 10}), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=r"Glyph \d+")  # names in any script
            figure = Figure(figsize=size, layout="constrained")
            function(figure, COLOURS)
            figure.suptitle(title, fontsize=11)
            for kind, options in (("png", {"dpi": 150}), ("svg", {"metadata": {"Date": None}})):
                with atomic_path(folder / f"{name}.{kind}") as temporary:
                    figure.savefig(temporary, format=kind, **options)
                written.append(folder / f"{name}.{kind}")
    return written


def _kinds(names: Sequence[str], kinds: Sequence[dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    for place, name in enumerate(names):
        yield shortened(name, 28), kinds[place % len(kinds)]


def _densities(
    figure: Figure, kinds: Sequence[dict[str, Any]], densities: Sequence[tuple[str, dict[str, Any]]]
) -> None:
    axes = figure.add_subplot()
    for (label, kind), (_, density) in zip(_kinds([name for name, _ in densities], kinds), densities, strict=True):
        curve = density["curve"]
        axes.semilogy(curve["eigenvalue"], np.maximum(curve["density"], 1e-12), label=label, **kind)
    axes.set(xlabel="eigenvalue", ylabel="density", ylim=(1e-6, None))
    axes.legend(frameon=False, fontsize=9)


def _lines(figure: Figure, kinds: Sequence[dict[str, Any]], own: Sequence[tuple[str, dict[str, Any]]]) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter

    left, right = figure.subplots(1, 2, sharey=True)
    for axes, key, label in (
        (left, "random", "random direction, filter-normalised"),
        (right, "eigenvectors", "top eigenvector, length in weights"),
    ):
        for (name, kind), (_, each) in zip(_kinds([name for name, _ in own], kinds), own, strict=True):
            axes.plot(each["steps"], _finite(each["lines"][key]), label=name, **kind)
        axes.set_xlabel(label)
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter(NullFormatter())
    left.set_ylabel("loss")
    left.legend(frameon=False, fontsize=9)


def _panels(planes: Sequence[tuple[str, list[float], list[list[float]]]], one: Callable[..., None]) -> Draw:
    """Return what draws a panel a run, all on one scale."""

    def function(figure: Figure, kinds: Sequence[dict[str, Any]]) -> None:
        heights = [_finite(losses) for _, _, losses in planes]
        levels = _levels(heights)
        for place, ((name, steps, _), height) in enumerate(zip(planes, heights, strict=True)):
            one(figure, (1, len(planes), place + 1), shortened(name, 28), np.array(steps), height, levels)

    return function


def _contours(
    figure: Figure, place: tuple[int, int, int], name: str, steps: np.ndarray, height: np.ndarray, levels: np.ndarray
) -> None:
    axes = figure.add_subplot(*place)
    _filled(figure, axes, steps, steps, height, levels, bar=place[1] == place[2])
    axes.plot(0, 0, "+", color="white", markersize=9)
    axes.set_title(name, fontsize=10)
    axes.set_aspect("equal")


def _surfaces(
    figure: Figure, place: tuple[int, int, int], name: str, steps: np.ndarray, height: np.ndarray, levels: np.ndarray
) -> None:
    axes: Any = figure.add_subplot(*place, projection="3d")
    across, up = np.meshgrid(steps, steps)
    logs = np.log10(height)
    axes.plot_surface(across, up, logs, cmap="viridis", vmin=np.log10(levels[0]), vmax=np.log10(levels[-1]))
    axes.set_zlim(np.log10(levels[0]), np.log10(levels[-1]))
    axes.set_zlabel("log10 loss", labelpad=8)
    axes.set_title(name, fontsize=10)


def _paths(figure: Figure, kinds: Sequence[dict[str, Any]], between: dict[str, Any]) -> None:
    axes = figure.add_subplot()
    names = [f"{path['first']} to {path['second']}" for path in between["paths"]]
    for (label, kind), path in zip(_kinds(names, kinds), between["paths"], strict=True):
        axes.plot(between["steps"], _finite(path["loss"]), label=f"{label}, barrier {path['barrier']:.3g}", **kind)
    axes.set(xlabel="share of the second run", ylabel="loss")
    axes.legend(frameon=False, fontsize=9)


def _triangle(figure: Figure, triangle: dict[str, Any]) -> None:
    axes = figure.add_subplot()
    height = _finite(triangle["loss"])
    _filled(figure, axes, np.array(triangle["x"]), np.array(triangle["y"]), height, _levels([height]), bar=True)
    for name, (x, y) in zip(triangle["names"], triangle["corners"], strict=True):
        axes.plot(x, y, "o", color="white", markeredgecolor="black")
        axes.annotate(shortened(name, 20), (x, y), xytext=(5, 5), textcoords="offset points", color="white")
    axes.set(xlabel="length in weights", ylabel="length in weights")


def _filled(
    figure: Figure, axes: Any, x: np.ndarray, y: np.ndarray, height: np.ndarray, levels: np.ndarray, *, bar: bool
) -> None:
    from matplotlib.colors import LogNorm

    filled = axes.contourf(x, y, height, levels=levels, norm=LogNorm(levels[0], levels[-1]), cmap="viridis")
    axes.contour(x, y, height, levels=levels, colors="white", linewidths=0.4)
    if bar:
        colours = figure.colorbar(filled, ax=axes, ticks=levels[::3], label="loss", format="%.3g")
        colours.minorticks_off()


def _levels(heights: Sequence[np.ndarray]) -> np.ndarray:
    """Return levels from the lowest to the highest loss of all runs, evenly spaced in its logarithm."""
    low = min(float(np.nanmin(height)) for height in heights)
    high = max(float(np.nanmax(height)) for height in heights)
    return np.geomspace(low * 0.999, max(high, low * 1.01) * 1.001, _LEVELS)


def _finite(losses: Any) -> np.ndarray:
    """Return losses as float64, those that are no positive number as gaps."""
    values = np.array(losses, dtype=np.float64)
    return np.where(np.isfinite(values) & (values > 0), values, np.nan)
