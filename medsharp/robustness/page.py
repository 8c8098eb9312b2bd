"""`robustness.html`: one self-contained page."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from importlib.resources import files
from typing import Any

import jinja2
from markupsafe import Markup

from medsharp.evaluation.report.html import value_markup
from medsharp.evaluation.report.wording import change, figure, interval, percent
from medsharp.evaluation.statistics.estimate import (
    BOOTSTRAP,
    NEWCOMBE,
    NORMAL,
    NORMAL_COMPLEMENT,
    NORMAL_DEBIASED,
    NORMAL_LOG,
    WILSON,
)
from medsharp.evaluation.statistics.registry import names_of
from medsharp.quantities import counted, signed, whole
from medsharp.robustness.corruptions import LEAST_HELD
from medsharp.robustness.panels import Series, limits_of, panel
from medsharp.robustness.summary import IDLE, MOVED

_FAMILIES = {
    "medmnist-c": "MedMNIST-C",
    "ultrasound": "Ultrasound",
    "annotation": "Annotations",
}
# Key, heading, least and greatest value drawn: the slope of a hopeless fit may be anything, and is drawn at the edge.
_PANELS: tuple[tuple[str, str, float | None, float | None], ...] = (
    ("auroc", "AUROC", 0.0, 1.0),
    ("calibration_slope", "Calibration slope", -0.5, 2.5),
    ("net_benefit_at_threshold", "Net benefit at the threshold", -0.5, None),
    ("flips", "Decisions that flip", 0.0, 1.0),
)


_SPREAD = "the value less and plus 1.96 standard deviations of the resamples"
_LIMITS = {
    BOOTSTRAP: "percentiles of the resamples",
    NORMAL: _SPREAD,
    NORMAL_LOG: f"{_SPREAD} on the log scale",
    NORMAL_COMPLEMENT: f"{_SPREAD} on the scale of log(1 - value)",
    NORMAL_DEBIASED: f"{_SPREAD}, bias taken off",
    WILSON: "Wilson's interval on the number of patients, for a share of 0 or 1",
    NEWCOMBE: "Newcombe's interval, for an AUROC of 0 or 1",
}
"""How a method that `medsharp.evaluation.statistics.estimate` names makes its limits."""

_OF_SOME = frozenset({NORMAL_LOG, NORMAL_COMPLEMENT, NORMAL_DEBIASED})


def render(document: dict[str, Any], strips: Mapping[str, bytes], shown: str) -> str:
    """Return a document as one HTML page without outside references.

    Args:
        document: The content of `robustness.json`.
        strips: JPEG of each corruption's picture strip, by name.
        shown: What the strips show, such as `a simulated image`.
    """
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(
        figure=_figure,
        change=_change,
        signed=signed,
        interval=interval,
        percent=percent,
        whole=whole,
        counted=counted,
    )
    here = files("medsharp.robustness")
    sheets = (files("medsharp.evaluation.report") / "report.css", here / "robustness.css")
    return environment.from_string((here / "robustness.html.j2").read_text(encoding="utf-8")).render(
        document=document,
        datasets=[{**entry, "number": n} for n, entry in enumerate(document["datasets"], start=1)],
        families=_FAMILIES,
        charts={entry["name"]: _charts(entry, f"d{n}") for n, entry in enumerate(document["datasets"], start=1)},
        strips={
            name: Markup("data:image/jpeg;base64,{}").format(base64.b64encode(data).decode("ascii"))
            for name, data in strips.items()
        },
        shown=shown,
        controls=[entry["name"] for entry in document["corruptions"] if entry["control_of"]],
        held=LEAST_HELD,
        moved=MOVED,
        idle=IDLE,
        shade=_shade,
        limits=_limits(document["datasets"]),
        simulated=[entry["name"] for entry in document["datasets"] if entry["simulated"]],
        style=Markup("\n").join(Markup(sheet.read_text(encoding="utf-8")) for sheet in sheets),
    )


def _limits(datasets: list[dict[str, Any]]) -> list[str]:
    """Return how the limits of the figures were made: a phrase for each method that occurs, common ones first."""
    figures: dict[str, set[str]] = {}
    for key, method in _methods("", datasets):
        figures.setdefault(method, set()).add(key)
    phrases = []
    for method in sorted(figures, key=lambda one: (*_LIMITS, one).index(one)):
        # A scale of its own belongs to a few figures, which are named.
        names = names_of(figures[method] if method in _OF_SOME else ()).values()
        phrases.append(_LIMITS.get(method, method) + (f" ({', '.join(names)})" if names else ""))
    return phrases


def _methods(key: str, part: Any) -> Iterator[tuple[str, str]]:
    """Return the key of every figure with limits, and their method."""
    if isinstance(part, dict) and isinstance(part.get("method"), str):
        yield key, part["method"]
    elif isinstance(part, dict):
        for name, value in part.items():
            yield from _methods(name, value)
    elif isinstance(part, list):
        for value in part:
            yield from _methods(key, value)


def _charts(entry: dict[str, Any], prefix: str) -> dict[str, list[tuple[str, Markup]]]:
    """Return heading and SVG of each panel by corruption; a figure has one axis for all corruptions."""
    names = list(dict.fromkeys(cell["corruption"] for cell in entry["models"][0]["cells"]))
    charts: dict[str, list[tuple[str, Markup]]] = {name: [] for name in names}
    for key, title, floor, ceiling in _PANELS:
        lines = {name: _flips(entry, name) if key == "flips" else _figures(entry, name, key) for name in names}
        low, high = limits_of([series for group in lines.values() for series in group], floor, ceiling)
        percent_ = key == "flips"
        limits = (0.0, max(0.1, high)) if percent_ else (low, high)
        for name, group in lines.items():
            told = f"{title} by severity of {name} on {entry['name']}"
            svg = panel(told, group, limits, f"{prefix}-{name}-{key}", percent=percent_)
            charts[name].append((title, Markup(svg)))
    return charts


def _figures(entry: dict[str, Any], name: str, key: str) -> list[Series]:
    """Return a figure under one corruption, a line a model."""
    return [
        (
            model["name"],
            [model["clean"][key], *(cell["figures"][key] for cell in model["cells"] if cell["corruption"] == name)],
        )
        for model in entry["models"]
    ]


def _flips(entry: dict[str, Any], name: str) -> list[Series]:
    """Return flips of all images by model; with one model, of each class instead."""
    nothing = {"value": 0.0, "low": None, "high": None}
    models = entry["models"]
    kinds = [("positive", models[0]), ("negative", models[0])] if len(models) == 1 else [("all", m) for m in models]
    return [
        (
            model["name"] if kind == "all" else kind,
            [nothing, *(cell["flips"][kind] for cell in model["cells"] if cell["corruption"] == name)],
        )
        for kind, model in kinds
    ]


def _shade(change: float | None) -> str:
    """Return the background of a change in AUROC: the stronger, the more was lost or won; full at 0.25."""
    if change is None:
        return ""
    colour = "--positive" if change < 0 else "--negative"
    return f"background: color-mix(in srgb, var({colour}) {min(1.0, abs(change) / 0.25) * 70:.0f}%, transparent)"


def _figure(part: dict[str, Any] | None, key: str = "auroc") -> Markup:
    """Write a figure with its interval."""
    return value_markup(figure(part, key))


def _change(part: dict[str, Any], key: str = "auroc") -> Markup:
    """Write a difference with its interval, shares in percentage points."""
    return value_markup(change(part, key))
