"""`evaluation.json`, and one self-contained HTML page."""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup

from medsharp import __version__
from medsharp.evaluation.difference import drops
from medsharp.evaluation.evaluate import Evaluation
from medsharp.evaluation.wording import METHODS, SECTIONS, filters, group_name, model_rows
from medsharp.files import write_text

_LIBRARIES = ("numpy", "scipy", "pandas")


def write_evaluation(folder: str | Path, evaluations: Sequence[Evaluation], bundle: dict[str, Any]) -> None:
    """Write `evaluation.json` and `report.html`.

    Args:
        folder: Made if missing.
        evaluations: In the order of the report; an internal one first.
        bundle: `BundleSpec.model_dump(mode="json")`, or empty for predictions of another model.

    Raises:
        InputError: The folder cannot be written.
    """
    folder = Path(folder)
    document = plain(
        {
            "format": 1,
            "created": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
            "medsharp": __version__,
            "versions": {"python": platform.python_version()} | {name: version(name) for name in _LIBRARIES},
            # The input check's statistics are long, and no person reads them here.
            "bundle": {key: value for key, value in bundle.items() if key != "input_check"},
            "datasets": [evaluation.as_dict() for evaluation in evaluations],
            "drops": drops(evaluations),
            "methods": METHODS,
        }
    )
    page = render(document)
    write_text(folder / "evaluation.json", json.dumps(document, indent=1, allow_nan=False, ensure_ascii=False) + "\n")
    write_text(folder / "report.html", page)


def render(document: dict[str, Any]) -> str:
    """Return the report of an `evaluation.json` document as one HTML page without outside references."""
    from medsharp.evaluation.plots import forest, plots_of

    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(filters())
    here = files("medsharp.evaluation")
    datasets = []
    for number, entry in enumerate(document["datasets"], start=1):
        plots = {name: Markup(svg) for name, svg in plots_of(entry, f"d{number}").items()}
        groups = [(f"{group_name(g)} (n = {g['images']})", g["auroc"]) for g in entry["subgroups"] if "auroc" in g]
        if groups:
            rows = [("all images", entry["figures"]["auroc"]), *groups]
            plots["subgroups"] = Markup(forest(rows, f"d{number}-subgroups", f"AUROC by subgroup on {entry['name']}"))
        datasets.append({**entry, "number": number, "plots": plots})
    overview = None
    if len(datasets) > 1:
        rows = [(f"{e['name']} ({e['role']})", e["figures"]["auroc"]) for e in datasets]
        overview = Markup(forest(rows, "overview", "AUROC on each data set"))
    bundle = document["bundle"]
    return environment.from_string((here / "report.html.j2").read_text(encoding="utf-8")).render(
        document=document,
        datasets=datasets,
        overview=overview,
        drops={drop["name"]: drop for drop in document["drops"]},
        model=model_rows(bundle),
        sections=SECTIONS,
        simulated=[entry["name"] for entry in datasets if entry["simulated"]],
        style=Markup((here / "report.css").read_text(encoding="utf-8")),
    )


def plain(value: Any) -> Any:
    """Turn numpy values into plain ones, tuples into lists, and what is not finite into null."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
