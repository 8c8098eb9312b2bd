"""`robustness.json`, `robustness.csv`, `robustness.html` and `contact_sheet.png`."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd

from medsharp import __version__
from medsharp.evaluation.report import plain
from medsharp.files import atomic_path, json_text, write_text
from medsharp.robustness.contact_sheet import Example, contact_sheet, jpeg_of, strip
from medsharp.robustness.corruptions import Corruption
from medsharp.robustness.page import render

_LIBRARIES = ("numpy", "scipy", "Pillow")


def write_robustness(
    folder: str | Path,
    content: dict[str, Any],
    corruptions: Sequence[Corruption],
    example: Example,
    *,
    shown: str = "a simulated image",
    private: bool = False,
) -> dict[str, Any]:
    """Write a run's results; each file in one step.

    Args:
        folder: Made if missing.
        content: Settings, corruptions and datasets.
        corruptions: To show.
        example: The image to show them on.
        shown: What it is.
        private: It is a patient's: page and sheet are their owner's alone.

    Returns:
        What was written to `robustness.json`.

    Raises:
        InputError: The folder cannot be written.
    """
    folder = Path(folder)
    document: dict[str, Any] = plain(
        {
            "format": 2,
            "created": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
            "medsharp": __version__,
            "versions": {"python": platform.python_version()} | {name: version(name) for name in _LIBRARIES},
            **content,
        }
    )
    page = render(document, {entry.name: jpeg_of(strip(example, entry)) for entry in corruptions}, shown)
    write_text(folder / "robustness.json", json_text(document))
    with atomic_path(folder / "robustness.csv") as temporary:
        rows_of(document).to_csv(temporary, index=False, lineterminator="\n")
    with atomic_path(folder / "contact_sheet.png", private=private) as temporary:
        contact_sheet(example, corruptions).save(temporary, format="PNG", optimize=True)
    write_text(folder / "robustness.html", page, private=private)
    return document


def rows_of(document: dict[str, Any]) -> pd.DataFrame:
    """Return a row a data set, model, corruption and severity; severity 0 is the clean images."""
    families = {entry["name"]: entry["family"] for entry in document["corruptions"]}
    rows = []
    for entry in document["datasets"]:
        for model in entry["models"]:
            start = {"data": entry["name"], "model": model["name"]}
            rows.append({**start, "family": "", "corruption": "clean", "severity": 0} | _flat("", model["clean"]))
            rows += [
                {**start, "family": families[cell["corruption"]]}
                | {"corruption": cell["corruption"], "severity": cell["severity"]}
                | _flat("", cell["figures"])
                | _flat("change_", cell["changes"])
                | _flat("flips_", cell["flips"])
                | {"moved": cell["moved"]}
                for cell in model["cells"]
            ]
    return pd.DataFrame(rows)


def _flat(prefix: str, figures: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Lay figures out as `name`, `name_low`, `name_high`."""
    return {
        f"{prefix}{name}{end}": part[key]
        for name, part in figures.items()
        for key, end in (("value", ""), ("low", "_low"), ("high", "_high"))
    }
