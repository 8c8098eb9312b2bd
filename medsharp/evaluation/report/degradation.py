"""The robustness section of the page: one part a data set and model."""

from __future__ import annotations

from typing import Any

from markupsafe import Markup

from medsharp.evaluation.plots import degradation


def degradation_of(document: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what the section shows of each data set and model, with its plot; empty without robustness figures.

    Where the summary has the report's own model, other models of the same file are left out.
    """
    robustness = document.get("robustness")
    if not robustness:
        return []
    name = document["bundle"].get("name")
    pairs = [(entry, model) for entry in robustness["datasets"] for model in entry["models"]]
    own = [pair for pair in pairs if pair[1]["name"] == name]
    return [
        {
            "dataset": entry,
            "model": model,
            "foreign": model["name"] != name,
            "annotations": model["annotations"],
            "plot": Markup(
                degradation(model["by_severity"], f"robustness-{number}", f"AUROC by severity on {entry['name']}")
            ),
        }
        for number, (entry, model) in enumerate(own or pairs, start=1)
    ]
