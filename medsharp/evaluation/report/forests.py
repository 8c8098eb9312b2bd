"""The forest plots of a page: data sets, sites and subgroups, with what they come to together."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from medsharp.evaluation.notes import is_leaked
from medsharp.evaluation.plots import Diamond, forest
from medsharp.evaluation.report.blocks import Plot
from medsharp.evaluation.report.excerpts import with_figures
from medsharp.evaluation.report.wording import group_name, interval, not_summarised, percent, unsummarised
from medsharp.keys import named
from medsharp.quantities import number

COMPARED = (("auroc", "AUROC", 0.5), ("sensitivity", "Sensitivity", None), ("specificity", "Specificity", None))
"""Figures that have forest plots: key, name and where a line marks no information."""

_LABEL = 60
_MOST_DRAWN = 40
_NO_SPREAD = ", which is too narrow if they differ by less than these numbers of patients can show"


def overview_of(document: dict[str, Any]) -> list[Plot]:
    """Return a forest plot of the data sets for each compared figure, where there are several."""
    entries = document["datasets"]
    if len(entries) < 2:
        return []
    plots = []
    for key, name, guide in COMPARED:
        summary = _summary(document.get("site_summary"), key)
        weights = {row["name"]: row["weight"] for row in summary["sites"]} if summary else {}
        rows = [
            (_data_set(entry), {**entry["figures"][key], "weight": weights.get(entry["name"])}) for entry in entries
        ]
        title = f"{name} on each data set"
        draw = partial(forest, rows, f"overview-{key}", title, name, guide=guide, summary=_diamond(summary))
        why = unsummarised(document, key)
        # What holds of AUROC is said above the plots.
        more = "" if summary or why == unsummarised(document, "auroc") else why
        more = not_summarised(document).strip() if summary else more
        plots.append(_plot(f"{name} by data set", draw, summary, key, "external data sets", more))
    return plots


def sites_of(entry: dict[str, Any], number: int) -> list[Plot]:
    """Return a forest plot of the sites of one data set for each figure that could be summarised over them."""
    plots = []
    for key, name, guide in COMPARED:
        summary = _summary(entry.get("site_summary"), key)
        if summary is not None:
            drawn = _largest(entry["site_summary"]["sites"])
            rows = [(row["name"], row) for row in summary["sites"] if row["name"] in drawn]
            title = f"{name} by site in {entry['name']}"
            prefix = f"d{number}-sites-{key}"
            draw = partial(forest, rows, prefix, title, name, guide=guide, summary=_diamond(summary))
            more = ""
            if len(drawn) < len(summary["sites"]):
                more = f"The summary is over all {len(summary['sites'])}, of which the {len(drawn)} largest are drawn."
            plots.append(_plot(f"{name} by site", draw, summary, key, "sites", more))
    return plots


def _largest(sites: list[dict[str, Any]]) -> set[str]:
    return {site["name"] for site in sorted(sites, key=lambda site: -site["images"])[:_MOST_DRAWN]}


def subgroups_of(entry: dict[str, Any], number: int) -> list[Plot]:
    """Return a forest plot of the subgroups for each compared figure, where there are any."""
    groups = with_figures(entry)
    if not groups:
        return []
    plots = []
    for key, name, guide in COMPARED:
        rows = [("all images", entry["figures"][key])]
        rows += [(_label(group), group[key]) for group in groups if key in group]
        title = f"{name} by subgroup on {entry['name']}"
        whole = entry["figures"][key]["value"]
        draw = partial(forest, rows, f"d{number}-groups-{key}", title, name, guide=guide, whole=whole)
        legend = "Squares with 95 % intervals, number of images in brackets; the line marks all images."
        plots.append(Plot("", draw, f"{name} by subgroup", legend))
    return plots


def coverage_of(entry: dict[str, Any], number: int) -> Callable[[], str]:
    """Return what draws a forest plot of the coverage of prediction sets: over all images, by label and by site."""
    conformal = entry["conformal"]
    part = conformal["marginal"]
    rows = [("all images", part["coverage"]), *part["coverage_by_label"].items()]
    rows += [(row["site"], row) for row in part["by_site"]]
    title = f"Coverage of prediction sets on {entry['name']}"
    return partial(forest, rows, f"d{number}-coverage", title, "coverage", guide=1 - conformal["alpha"])


def _summary(found: dict[str, Any] | None, key: str) -> dict[str, Any] | None:
    """Return the random-effects summary of a figure, or None where there is none with a value."""
    summary = (found or {}).get("figures", {}).get(key)
    return summary if summary and summary["value"] is not None else None


def _diamond(summary: dict[str, Any] | None) -> Diamond | None:
    if summary is None:
        return None
    prediction = summary["prediction_low"], summary["prediction_high"]
    label, known = "random-effects summary", prediction[0] is not None
    return Diamond(label, summary["value"], summary["low"], summary["high"], prediction if known else None)


def _plot(title: str, draw: Callable[[], str], summary: dict[str, Any] | None, key: str, over: str, more: str) -> Plot:
    """Return a forest plot whose caption tells the summary, or `more`: why there is none, or what is not drawn."""
    guide = " Dashed: guessing." if key == "auroc" else ""
    if summary is None:
        return Plot(more, draw, title, f"Squares with 95 % intervals.{guide}")
    left_out = [row["name"] for row in summary["sites"] if row["weight"] is None]
    without = f" Not in the summary, as the figure or its variance does not exist there: {named(left_out)}."
    spread = f"{percent(summary['i2'])}, \N{GREEK SMALL LETTER TAU}\N{SUPERSCRIPT TWO} = {number(summary['tau2'])}"
    caption = (
        f"Diamond: random-effects summary over the {over} ({summary['method'].removeprefix('random effects, ')}), the "
        f"median one at {interval(summary, key)}{_next_one(summary, key)}. "
        f"Between them I\N{SUPERSCRIPT TWO} = {spread} ({summary['scale']})."
    )
    caption += f"{without if left_out else ''}{_caution(summary)}"
    caption += f" {more}" if more else ""
    return Plot(caption, draw, title, f"Squares with 95 % intervals, as large as their weights.{guide}")


def _caution(summary: dict[str, Any]) -> str:
    text = summary.get("caution")
    return f" Caution: {text}." if text else ""


def _next_one(summary: dict[str, Any], key: str) -> str:
    if summary["prediction_low"] is None:
        return ""
    limits = interval({**summary, "low": summary["prediction_low"], "high": summary["prediction_high"]}, key)
    return (
        "; dashed line through it: where the true value of the next hospital may lie (95 % prediction interval), "
        f"{limits[limits.index('[') :]}{_NO_SPREAD if summary['tau2'] == 0 else ''}"
    )


def _data_set(entry: dict[str, Any]) -> str:
    """Name a data set; all that are not marked as internal are external."""
    said = [*(["internal"] if entry["role"] == "internal" else []), *(["leaked"] if is_leaked(entry) else [])]
    return f"{entry['name']} ({', '.join(said)})" if said else str(entry["name"])


def _label(group: dict[str, Any]) -> str:
    """Name a group so that its size stays visible however long the name is."""
    name = group["group"] if group["by"] in ("site", "device", "histology") else group_name(group)
    name = name if len(name) <= _LABEL else name[: _LABEL - 1] + "\N{HORIZONTAL ELLIPSIS}"
    return f"{name} ({group['images']})"
