"""One self-contained HTML page: no script, nothing from elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

import jinja2
from markupsafe import Markup

from medsharp.evaluation.plots import plots_of, roc_of_several
from medsharp.evaluation.report.degradation import degradation_of
from medsharp.evaluation.report.excerpts import benefit_rows, known_columns, not_computed, with_figures
from medsharp.evaluation.report.forests import coverage_of, overview_of, sites_of, subgroups_of
from medsharp.evaluation.report.meanings import LIMITS
from medsharp.evaluation.report.readers import reader_section
from medsharp.evaluation.report.wording import (
    alarming,
    changes_of,
    decided,
    filters,
    hash_rows,
    leak_check,
    model_rows,
    sections_of,
)
from medsharp.evaluation.statistics.registry import HEADLINE


def render_page(document: dict[str, Any], thumbnails: Sequence[Mapping[str, str]] = ()) -> str:
    """Return the report of an `evaluation.json` document as one HTML page without outside references.

    Args:
        document: As `make_document` gives it, or read from a file that an earlier version wrote.
        thumbnails: For each data set pictures as data URIs by image name; none are shown where there are none.
    """
    entries, bundle = document["datasets"], document["bundle"]
    here = files("medsharp.evaluation.report")
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(lambda name: (here / name).read_text(encoding="utf-8")),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    excerpts = (benefit_rows, known_columns, not_computed, with_figures)
    environment.filters.update(filters() | {function.__name__: function for function in excerpts})
    environment.tests["alarming"] = alarming
    return environment.get_template("page.html.j2").render(
        document={"checklists": [], **document},
        datasets=[
            _with_plots(entry, place, thumbnails[place] if place < len(thumbnails) else {})
            for place, entry in enumerate(entries)
        ],
        curves=Markup(roc_of_several(entries, "overview-roc")) if len(entries) > 1 else None,
        overview=overview_of(document),
        degradation=degradation_of(document),
        limits=LIMITS,
        changes=changes_of(document),
        model=model_rows(bundle),
        decided=decided(bundle),
        hashes=hash_rows(bundle),
        leak_check=leak_check(bundle),
        frozen="operating_point" in bundle,
        headline=sections_of(entries, HEADLINE),
        explained=HEADLINE,
        sections=sections_of(entries),
        simulated=[entry["name"] for entry in entries if entry["simulated"]],
        alarms=[(entry["name"], text) for entry in entries for text in entry["notes"] if alarming(text)],
        style=Markup((here / "report.css").read_text(encoding="utf-8")),
    )


def _with_plots(entry: dict[str, Any], place: int, thumbnails: Mapping[str, str]) -> dict[str, Any]:
    """Return a data set with its plots and pictures; what an older file lacks is None."""
    number = place + 1
    return {
        **dict.fromkeys(("failures", "conformal", "multiclass", "auroc_intervals")),
        "scale": "probability",
        **entry,
        "number": number,
        "plots": {name: Markup(svg) for name, svg in plots_of(entry, f"d{number}").items()},
        "forests": subgroups_of(entry, number),
        "site_forests": sites_of(entry, number),
        "coverage": coverage_of(entry, number),
        "reader_section": reader_section(entry),
        "thumbnails": thumbnails,
    }
