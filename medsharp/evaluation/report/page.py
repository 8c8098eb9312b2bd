"""One self-contained HTML page: no script, nothing from elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

import jinja2
from markupsafe import Markup

from medsharp.evaluation.plots import forest, plots_of
from medsharp.evaluation.report.excerpts import benefit_rows, known_columns
from medsharp.evaluation.wording import LIMITS, alarming, filters, group_name, hash_rows, model_rows, sections_of

COMPARED = (("auroc", "AUROC", 0.5), ("sensitivity", "Sensitivity", None), ("specificity", "Specificity", None))
"""Figures that have forest plots: key, name and where a line marks no information."""


def render_page(document: dict[str, Any], thumbnails: Sequence[Mapping[str, str]] = ()) -> str:
    """Return the report of an `evaluation.json` document as one HTML page without outside references.

    Args:
        document: As `make_document` gives it, or read from a file that an earlier version wrote.
        thumbnails: For each data set pictures as data URIs by image name; none are shown where there are none.
    """
    datasets = []
    for number, entry in enumerate(document["datasets"], start=1):
        pictures = thumbnails[number - 1] if number <= len(thumbnails) else {}
        plots = {name: Markup(svg) for name, svg in plots_of(entry, f"d{number}").items()}
        parts = {"number": number, "plots": plots, "forests": _subgroups(entry, number), "thumbnails": pictures}
        datasets.append({"failures": None, **entry, **parts})
    here = files("medsharp.evaluation.report")
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(lambda name: (here / name).read_text(encoding="utf-8")),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(filters(), benefit_rows=benefit_rows, known_columns=known_columns)
    return environment.get_template("page.html.j2").render(
        document={"robustness": None, "checklists": [], **document},
        datasets=datasets,
        overview=_overview(document),
        limits=LIMITS,
        drops={drop["name"]: drop for drop in document["drops"]},
        model=model_rows(document["bundle"]),
        hashes=hash_rows(document["bundle"]),
        sections=sections_of(document["datasets"]),
        simulated=[entry["name"] for entry in datasets if entry["simulated"]],
        alarms=[(entry["name"], text) for entry in datasets for text in entry["notes"] if alarming(text)],
        style=Markup((here / "report.css").read_text(encoding="utf-8")),
    )


def _overview(document: dict[str, Any]) -> list[tuple[str, Markup]]:
    """Return a forest plot of the data sets for each compared figure, where there are several."""
    entries = document["datasets"]
    if len(entries) < 2:
        return []
    plots = []
    for key, name, guide in COMPARED:
        rows = [(f"{entry['name']} ({entry['role']})", entry["figures"][key]) for entry in entries]
        plot = forest(rows, f"overview-{key}", f"{name} on each data set", name, guide=guide)
        plots.append((name, Markup(plot)))
    return plots


def _subgroups(entry: dict[str, Any], number: int) -> list[tuple[str, Markup]]:
    """Return a forest plot of the subgroups for each compared figure, where there are any."""
    groups = [group for group in entry["subgroups"] if "auroc" in group]
    if not groups:
        return []
    plots = []
    for key, name, guide in COMPARED:
        rows = [("all images", entry["figures"][key])]
        rows += [(_label(group), group[key]) for group in groups if key in group]
        title = f"{name} by subgroup on {entry['name']}"
        whole = entry["figures"][key]["value"]
        plot = forest(rows, f"d{number}-groups-{key}", title, name, guide=guide, whole=whole)
        plots.append((name, Markup(plot)))
    return plots


def _label(group: dict[str, Any]) -> str:
    """Name a group so that its size stays visible however long the name is."""
    name = group["group"] if group["by"] in ("site", "device") else group_name(group)
    return f"{name if len(name) <= 24 else name[:23] + chr(0x2026)} ({group['images']})"
