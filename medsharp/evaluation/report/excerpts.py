"""Excerpts of a data set's numbers, short enough for a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

_CUTS = (0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5)
_COLUMNS = ("most_probable", "site", "device", "birads", "histology", "flags")


def benefit_rows(entry: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the decision curve at a few threshold probabilities: threshold, model, low, high, treat_all."""
    curve = entry["curves"]["net_benefit"]
    rows = []
    for place, threshold in enumerate(curve["threshold"]):
        if any(abs(threshold - cut) < 1e-9 for cut in _CUTS):
            limits = {key: curve[key][place] if curve[key] else None for key in ("low", "high")}
            rows.append(
                {"threshold": threshold, **limits, **{key: curve[key][place] for key in ("model", "treat_all")}}
            )
    return rows


def known_columns(images: Sequence[dict[str, Any]]) -> list[str]:
    """Return what is known of at least one of the listed failures, in the order of a table."""
    return [column for column in _COLUMNS if any(column in image for image in images)]
