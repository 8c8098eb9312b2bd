"""What a model does, in a few lines: its internal figures beside those of each hospital left out."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medsharp.bundle import METADATA, BundleSpec, Figure
from medsharp.quantities import counted

FIGURES = {
    "auroc": "AUROC",
    "sensitivity": "Sensitivity",
    "specificity": "Specificity",
    "calibration_slope": "Calibration slope",
}
"""What is shown, and how it is called."""

NOT_MEASURED = "Not measured on a hospital left out: its figures at a hospital that it never saw are not known."


@dataclass(frozen=True)
class Glance:
    """The figures of one set of images.

    Attributes:
        name: The images, such as `BUSI, test split`.
        left_out: Whether they are of a hospital that the measured models never saw.
        figures: By the names of `FIGURES`; what does not exist is left out.
        size: How many images of how many patients, in words; empty where that is not recorded.
    """

    name: str
    left_out: bool
    figures: Mapping[str, Figure]
    size: str = ""


def glances(spec: BundleSpec, internal: Mapping[str, Any], internal_name: str = "") -> list[Glance]:
    """Return the internal figures, where there are any, and those of each hospital left out.

    Args:
        spec: Of the bundle.
        internal: Figures by name, each with `value` and perhaps `low` and `high`, as `evaluation.json` has them.
        internal_name: What the internal images are.
    """
    rows = []
    figures = {name: figure for name in FIGURES if (figure := _figure(internal.get(name))) is not None}
    if figures:
        rows.append(Glance(internal_name or spec.internal_data, False, figures))
    for site in spec.held_out:
        patients = counted(site.patients, "patient or group", "patients or groups")
        size = f"{counted(site.images, 'image')}, {patients}, {site.positives} {spec.positive}"
        rows.append(Glance(site.site, True, site.figures, size))
    return rows


def recorded_glances(spec: BundleSpec, bundle: str | Path) -> list[Glance]:
    """Return the same from what export recorded in the bundle, without computing anything."""
    path = Path(bundle) / METADATA
    metadata = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    metrics = metadata.get("eval_metrics")
    internal = {name: (metrics or {}).get(f"internal_{name}") for name in FIGURES}
    return glances(spec, internal, str(metadata.get("eval_data") or ""))


def glance_table(rows: Sequence[Glance]) -> str:
    """Write them as a Markdown table, with the sentence on what was not measured."""
    lines = []
    if rows:
        lines += [f"| | {' | '.join(FIGURES.values())} |", "|---|" + "---|" * len(FIGURES)]
    for row in rows:
        name = f"**{row.name}, left out** ({row.size})" if row.left_out else f"{row.name} (internal)"
        lines.append(f"| {name} | {' | '.join(str(row.figures.get(key, '-')) for key in FIGURES)} |")
    if not any(row.left_out for row in rows):
        lines += ["", NOT_MEASURED]
    return "\n".join(lines).strip()


def _figure(values: Any) -> Figure | None:
    if not isinstance(values, dict) or values.get("value") is None:
        return None
    return Figure(value=values["value"], low=values.get("low"), high=values.get("high"))
