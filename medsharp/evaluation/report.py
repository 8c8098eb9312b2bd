"""`evaluation.json`, and one self-contained HTML page."""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup

from medsharp import __version__
from medsharp.evaluation.evaluate import Evaluation
from medsharp.files import write_text

FIGURES = (
    ("auroc", "AUROC", "chance that a positive ranks above a negative"),
    ("auprc", "AUPRC", "average precision; its baseline is the prevalence"),
    ("sensitivity", "Sensitivity", "share of positives at or above the threshold"),
    ("specificity", "Specificity", "share of negatives below the threshold"),
    ("ppv", "PPV", "share of positives among those at or above the threshold"),
    ("npv", "NPV", "share of negatives among those below the threshold"),
    ("balanced_accuracy", "Balanced accuracy", "mean of sensitivity and specificity"),
    ("brier", "Brier score", "mean squared error of the probability; 0 is perfect"),
    ("calibration_intercept", "Calibration intercept", "0 is perfect; below 0, risks are overestimated"),
    ("calibration_slope", "Calibration slope", "1 is perfect; below 1, probabilities are too extreme"),
)


def write_evaluation(folder: str | Path, evaluations: Sequence[Evaluation], bundle: dict[str, Any]) -> None:
    """Write `evaluation.json` and `report.html`.

    Args:
        folder: Made if missing.
        evaluations: In the order of the report; an internal one first.
        bundle: `BundleSpec.model_dump(mode="json")`, or empty for predictions of another model.
    """
    folder = Path(folder)
    kept = {key: value for key, value in bundle.items() if key != "input_check"}
    document = {
        "format": 1,
        "created": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "medsharp": __version__,
        "python": platform.python_version(),
        "bundle": kept,
        "datasets": [evaluation.as_dict() for evaluation in evaluations],
        "drops": drops(evaluations),
    }
    document = _plain(document)
    write_text(folder / "evaluation.json", json.dumps(document, indent=1, allow_nan=False, ensure_ascii=False) + "\n")
    write_text(folder / "report.html", render(document))


def drops(evaluations: Sequence[Evaluation]) -> list[dict[str, Any]]:
    """Return how much lower AUROC is on each external data set than on the internal one, with 95 % intervals.

    The data sets share no patients, so that their bootstrap values are independent.
    """
    internal = next((e for e in evaluations if e.as_dict()["role"] == "internal"), None)
    if internal is None:
        return []
    found = []
    for other in evaluations:
        if other is internal:
            continue
        here, there = internal.replicates["auroc"], other.replicates["auroc"]
        count = min(len(here), len(there))
        if not count:
            continue
        # Another order: both were drawn with the same seed.
        low, high = np.nanpercentile(here[:count] - there[:count][::-1], [2.5, 97.5])
        value = internal.as_dict()["figures"]["auroc"]["value"] - other.as_dict()["figures"]["auroc"]["value"]
        found.append({"name": other.as_dict()["name"], "value": value, "low": float(low), "high": float(high)})
    return found


def render(document: dict[str, Any]) -> str:
    """Return the report of an `evaluation.json` document as one HTML page without outside references."""
    from medsharp.evaluation.plots import plots_of

    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["interval"] = _interval
    template = (files("medsharp.evaluation") / "report.html.j2").read_text(encoding="utf-8")
    datasets = [
        {**entry, "plots": {name: Markup(svg) for name, svg in plots_of(entry).items()}}
        for entry in document["datasets"]
    ]
    simulated = any("simulated" in f"{e['name']} {e['about']}".lower() for e in document["datasets"])
    return environment.from_string(template).render(
        document=document, datasets=datasets, figures=FIGURES, simulated=simulated
    )


def _interval(figure: dict[str, Any] | None, digits: int = 3) -> str:
    if not figure or figure.get("value") is None:
        return "-"
    text = f"{figure['value']:.{digits}f}"
    if figure.get("low") is None:
        return text
    return f"{text} ({figure['low']:.{digits}f} to {figure['high']:.{digits}f})"


def _plain(value: Any) -> Any:
    """Turn numpy scalars into numbers and what is not finite into null."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
