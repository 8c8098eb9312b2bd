"""Excerpts of a data set's numbers, short enough for a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

_CUTS = (0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5)
_BESIDE = {"gain": "gain", "interventions_avoided": "avoided"}
_SHARES = ("sensitivity", "specificity")
_COLUMNS = ("most_probable", "site", "device", "birads", "histology", "flags")


def benefit_rows(entry: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the decision curve at a few threshold probabilities: threshold, model, low, high, treat_all.

    Where they are known also the gain over the better of acting on every image and on none, and the interventions
    avoided per 100 against acting on every image (`avoided`), each with its limits.
    """
    curve = entry["curves"]["net_benefit"]
    rows = []
    for place, threshold in enumerate(curve["threshold"]):
        if any(abs(threshold - cut) < 1e-9 for cut in _CUTS):
            row = {"threshold": threshold, "model": curve["model"][place], "treat_all": curve["treat_all"][place]}
            row |= {key: curve[key][place] if curve[key] else None for key in ("low", "high")}
            for key, name in _BESIDE.items():
                if key in curve:
                    part = curve[key]
                    limits = {f"{name}_{end}": part[end][place] if part[end] else None for end in ("low", "high")}
                    row |= {name: part["value"][place], **limits}
            rows.append(row)
    return rows


def known_columns(images: Sequence[dict[str, Any]]) -> list[str]:
    """Return what is known of at least one of the listed failures, in the order of a table."""
    return [column for column in _COLUMNS if any(column in image for image in images)]


def with_figures(entry: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the subgroups that have figures; those of one class have no AUROC."""
    return [group for group in entry["subgroups"] if any(key in group for key in ("auroc", *_SHARES))]


def not_computed(entry: dict[str, Any]) -> list[tuple[str, str, list[str]]]:
    """Return column, reason and groups with their sizes, of those subgroups that have no figures."""
    found: dict[tuple[str, str], list[str]] = {}
    for group in entry["subgroups"]:
        if not any(key in group for key in ("auroc", *_SHARES)):
            found.setdefault((group["by"], group["reason"]), []).append(f"{group['group']} ({group['images']})")
    return [(by, reason, groups) for (by, reason), groups in found.items()]
