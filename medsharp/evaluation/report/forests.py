"""The forest plots of a page: data sets, sites and subgroups, with what they come to together."""

from __future__ import annotations

from typing import Any, NamedTuple

from markupsafe import Markup

from medsharp.evaluation.plots import Diamond, forest
from medsharp.evaluation.report.excerpts import with_figures
from medsharp.evaluation.report.wording import group_name, interval, number, percent, unsummarised

COMPARED = (("auroc", "AUROC", 0.5), ("sensitivity", "Sensitivity", None), ("specificity", "Specificity", None))
"""Figures that have forest plots: key, name and where a line marks no information."""

_LABEL = 24
_MOST_DRAWN = 40


class Plot(NamedTuple):
    """A drawing with its name and caption."""

    name: str
    svg: Markup
    caption: str


def overview_of(document: dict[str, Any]) -> list[Plot]:
    """Return a forest plot of the data sets for each compared figure, where there are several."""
    entries = document["datasets"]
    if len(entries) < 2:
        return []
    plots = []
    for key, name, guide in COMPARED:
        rows = [(_data_set(entry), entry["figures"][key]) for entry in entries]
        summary = _summary(document.get("site_summary"), key)
        svg = forest(rows, f"overview-{key}", f"{name} on each data set", name, guide=guide, summary=_diamond(summary))
        plots.append(Plot(name, Markup(svg), _caption(summary, key, "external data sets", unsummarised(document, key))))
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
            svg = forest(rows, prefix, title, name, guide=guide, summary=_diamond(summary))
            caption = _caption(summary, key, "sites")
            if len(drawn) < len(summary["sites"]):
                caption += (
                    f" The summary is over all {len(summary['sites'])}, of which the {len(drawn)} largest are drawn."
                )
            plots.append(Plot(name, Markup(svg), caption))
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
        svg = forest(rows, f"d{number}-groups-{key}", title, name, guide=guide, whole=whole)
        caption = "Squares with 95 % intervals, number of images in brackets; the line marks all images."
        plots.append(Plot(name, Markup(svg), caption))
    return plots


def coverage_of(entry: dict[str, Any], number: int) -> Markup | None:
    """Return a forest plot of the coverage of prediction sets: over all images, by label and by site."""
    conformal = entry.get("conformal")
    if not conformal:
        return None
    part = conformal["marginal"]
    rows = [("all images", part["coverage"]), *part["coverage_by_label"].items()]
    rows += [(row["site"], row) for row in part["by_site"]]
    title = f"Coverage of prediction sets on {entry['name']}"
    return Markup(forest(rows, f"d{number}-coverage", title, "coverage", guide=1 - conformal["alpha"]))


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


def _caption(summary: dict[str, Any] | None, key: str, over: str, reason: str = "") -> str:
    guide = " Dashed: guessing." if key == "auroc" else ""
    if summary is None:
        return f"Squares with 95 % intervals.{guide} {reason}".rstrip()
    left_out = [row["name"] for row in summary["sites"] if row["weight"] is None]
    without = f" Not in the summary, as the figure or its variance does not exist there: {', '.join(left_out)}."
    spread = f"{percent(summary['i2'])}, \N{GREEK SMALL LETTER TAU}\N{SUPERSCRIPT TWO} = {number(summary['tau2'])}"
    return (
        f"Squares with 95 % intervals, as large as their weights.{guide} Diamond: random-effects summary over the "
        f"{over} ({summary['method'].removeprefix('random effects, ')}), the median one at {interval(summary, key)}"
        f"{_next_one(summary, key)}. Between them I\N{SUPERSCRIPT TWO} = {spread} ({summary['scale']})."
        f"{without if left_out else ''}"
    )


def _next_one(summary: dict[str, Any], key: str) -> str:
    if summary["prediction_low"] is None:
        return ""
    limits = interval({**summary, "low": summary["prediction_low"], "high": summary["prediction_high"]}, key)
    return (
        "; dashed line through it: where the true value of the next hospital may lie (95 % prediction interval), "
        f"{limits[limits.index('[') :]}"
    )


def _data_set(entry: dict[str, Any]) -> str:
    """Name a data set; all that are not marked as internal are external."""
    return f"{entry['name']} (internal)" if entry["role"] == "internal" else str(entry["name"])


def _label(group: dict[str, Any]) -> str:
    """Name a group so that its size stays visible however long the name is."""
    name = group["group"] if group["by"] in ("site", "device", "histology") else group_name(group)
    name = name if len(name) <= _LABEL else name[: _LABEL - 1] + "\N{HORIZONTAL ELLIPSIS}"
    return f"{name} ({group['images']})"
