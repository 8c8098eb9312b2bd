"""How the report words figures, so that a clinician and a statistician both read what is meant."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from medsharp.evaluation.notes import is_leaked
from medsharp.evaluation.report.blocks import Value
from medsharp.evaluation.sites import LEAST_SITES, apart
from medsharp.evaluation.statistics.registry import FIGURES, SECTIONS, figure_named
from medsharp.quantities import counted, number, signed, whole

OWN_THRESHOLDS = "each at the threshold of its own model"
"""How images are decided that several models predicted."""


def sections_of(
    datasets: Sequence[dict[str, Any]], only: Sequence[str] | None = None
) -> list[tuple[str, list[tuple[str, str, str]]]]:
    """Return the sections with the figures that at least one data set has; older files have fewer.

    Args:
        datasets: Of `evaluation.json`.
        only: Leave all other figures out.
    """
    known = {key for entry in datasets for key in entry["figures"] if only is None or key in only}
    stated = next((entry["stated_prevalence"] for entry in datasets if entry.get("stated_prevalence")), None)
    prevalence = "a stated prevalence" if stated is None else f"a prevalence of {number(stated, 1, 100)}\u00a0%"
    kept = [
        (
            title,
            [
                (key, entry.name.format(prevalence=prevalence), entry.meaning)
                for key, entry in FIGURES.items()
                if entry.section == title and key in known
            ],
        )
        for title in SECTIONS
    ]
    return [(title, parts) for title, parts in kept if parts]


def role_name(entry: dict[str, Any]) -> str:
    """Return `internal` or `external`, and that the model knows images of it; nothing where it is not known which."""
    role = "" if entry["role"] == "unstated" else str(entry["role"])
    leaked = "leaked" if is_leaked(entry) else ""
    return ", ".join(filter(None, (role, leaked)))


def titled(entry: dict[str, Any]) -> str:
    """Name a data set with its role, where that is known."""
    role = role_name(entry)
    return f"{entry['name']} ({role})" if role else str(entry["name"])


def has_own_thresholds(entry: dict[str, Any]) -> bool:
    """Whether images of a data set are decided at several thresholds, each at that of the model that predicted it."""
    return bool((entry.get("thresholds") or {}).get("count", 1) > 1)


def thresholds_text(entry: dict[str, Any]) -> str:
    """Say at what the images of a data set are decided: `0.1026`, or at how many thresholds."""
    if not has_own_thresholds(entry):
        return f"{entry['threshold']:.4f}"
    found = entry["thresholds"]
    return f"{OWN_THRESHOLDS} ({found['count']} from {found['least']:.4f} to {found['greatest']:.4f})"


def figure(part: dict[str, Any] | None, key: str = "auroc") -> Value:
    """Return a figure and its interval as a cell, shares as percentages, with the reason for what is missing."""
    if part is None:
        return Value("")
    digits, scale, unit = _style(key)
    if part["value"] is None:
        return Value("", reason=str(part.get("reason", "")))
    value = f"{number(part['value'], digits, scale)}{unit}"
    if part["low"] is None:
        return Value(value, reason=str(part.get("reason", "no interval")))
    return Value(value, _limits(part, digits, scale))


def _limits(part: dict[str, Any], digits: int, scale: float, write: Callable[..., str] = number) -> str:
    """Write the limits of an interval, whose upper one may not exist."""
    low = write(part["low"], digits, scale)
    return f"at least {low}" if part["high"] is None else f"{low} to {write(part['high'], digits, scale)}"


def limits(low: float | None, high: float | None, key: str) -> str:
    """Write two limits of a figure, or a dash where there are none."""
    if low is None or high is None:
        return "\N{EN DASH}"
    digits, scale, unit = _style(key)
    return f"{number(low, digits, scale)} to {number(high, digits, scale)}{unit}"


def interval(part: dict[str, Any], key: str = "auroc") -> str:
    """Write a figure with its interval in running text."""
    if part["value"] is None:
        return "not defined"
    digits, scale, unit = _style(key)
    text = f"{number(part['value'], digits, scale)}{unit}"
    if part["low"] is None:
        return text
    return f"{text} [{_limits(part, digits, scale)}]"


def change(part: dict[str, Any], key: str = "auroc") -> Value:
    """Return a difference as a cell, with its sign, its limits too; shares in percentage points."""
    if part["value"] is None:
        return figure(part)
    digits, scale, _ = _style(key)
    value = signed(part["value"], digits, scale)
    if part["low"] is None:
        return Value(value, reason=str(part.get("reason", "no interval")))
    return Value(value, _limits(part, digits, scale, signed))


def change_text(part: dict[str, Any], key: str = "auroc") -> str:
    """Write a difference as `change` does, in running text."""
    if part["value"] is None:
        return f"not defined ({part['reason']})"
    cell = change(part, key)
    return f"{cell.value} [{cell.limits}]" if cell.limits else f"{cell.value} ({cell.reason})"


def changes_of(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the changes from internal to external, external minus internal, by data set and figure.

    Files of earlier versions hold `drops`, internal minus external.
    """
    if "changes" in document:
        return {entry["name"]: entry["figures"] for entry in document["changes"]}
    return {
        drop["name"]: {key: _turned(part) for key, part in drop.get("figures", {"auroc": drop}).items()}
        for drop in document.get("drops", ())
    }


def _turned(part: dict[str, Any]) -> dict[str, Any]:
    turned = {**part}
    if part["value"] is not None:
        turned["value"] = -part["value"]
    if part["low"] is not None:
        turned["low"], turned["high"] = -part["high"], -part["low"]
    return turned


def unsummarised(document: dict[str, Any], key: str) -> str:
    """Say why the data sets have no summary: how few of them are external, or have this figure."""
    external = sum(apart(entry) == "" for entry in document["datasets"] if entry["role"] == "external")
    found = (document.get("site_summary") or {}).get("figures", {}).get(key) or {}
    sets = counted(external, "external data set")
    reason = found.get("reason") or f"{sets}; a summary needs at least {LEAST_SITES}"
    return f"No summary over hospitals, and no range for the next one: {reason}.{not_summarised(document)}"


def not_summarised(document: dict[str, Any]) -> str:
    """Say which external data sets are not in the summary over hospitals, and why; nothing where all are."""
    out = (document.get("site_summary") or {}).get("left_out", ())
    said = "; ".join(f"{entry['name']} ({entry['reason']})" for entry in out)
    return f" Not in it: {said}." if said else ""


def _style(key: str) -> tuple[int, float, str]:
    """Return decimals, factor and unit of a figure."""
    entry = figure_named(key)
    return (entry.digits, 100.0, "\u00a0%") if entry.percent else (entry.digits, 1.0, "")


def is_percent(key: str) -> bool:
    """Tell whether a figure is shown as a percentage."""
    return figure_named(key).percent


def percent(share: float, digits: int = 0) -> str:
    """Write a share as a percentage."""
    return f"{number(share, digits, 100.0)}\u00a0%"


def listed(counts: dict[str, int], most: int = 12) -> str:
    """Write counts by name as a list in running text, the first `most` of them."""
    parts = [f"{name} ({whole(count)})" for name, count in list(counts.items())[:most]]
    left = len(counts) - most
    return ", ".join(parts) + (f" and {left} more" if left > 0 else "")


def group_name(part: dict[str, Any]) -> str:
    """Name a subgroup as a reader would, such as `BI-RADS 4`."""
    if part["by"] == "flag":
        return str(part["group"]) if part["group"] == "no flag" else f"flagged {part['group']}"
    if part["by"] == "caution":
        return str(part["group"]) if part["group"] == "no caution" else f"caution: {part['group']}"
    return f"{column_name(part['by'])} {part['group']}"


def column_name(column: str) -> str:
    """Name a column as a reader would."""
    return "BI-RADS" if column == "birads" else column


def section_name(anchor: str) -> str:
    """Name a section of the page by its `id`."""
    return "data" if anchor.startswith("data-") else anchor
