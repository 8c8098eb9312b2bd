"""How the report words figures, so that a clinician and a statistician both read what is meant."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from markupsafe import Markup, escape

from medsharp.bundle import Update
from medsharp.evaluation.sites import LEAST_SITES
from medsharp.evaluation.statistics.registry import FIGURES, SECTIONS, figure_named


def filters() -> dict[str, Callable[..., Any]]:
    """Return the template's filters by name."""
    written = (figure, interval, change, change_text, is_percent, percent, number, whole, listed)
    names = (group_name, column_name, alarming, section_name, role_name)
    return {function.__name__: function for function in (*written, *names)}


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
    leaked = "leaked" if any(alarming(note) for note in entry.get("notes", ())) else ""
    return ", ".join(filter(None, (role, leaked)))


def titled(entry: dict[str, Any]) -> str:
    """Name a data set with its role, where that is known."""
    role = role_name(entry)
    return f"{entry['name']} ({role})" if role else str(entry["name"])


def alarming(note: str) -> bool:
    """Tell whether a note says that the figures do not mean what a reader takes them for."""
    return note.startswith("LEAK")


def number(value: float, digits: int = 3, scale: float = 1.0) -> str:
    """Write a number with a true minus sign, and without one before zero."""
    text = f"{value * scale:.{digits}f}"
    if float(text) == 0:
        text = text.lstrip("-")
    return text.replace("-", "\N{MINUS SIGN}")


def figure(part: dict[str, Any] | None, key: str = "auroc") -> Markup:
    """Write a figure and its interval, shares as percentages; a dash with the reason where it has no value."""
    if part is None:
        return Markup('<span class="none">&ndash;</span>')
    digits, scale, unit = _style(key)
    if part["value"] is None:
        return Markup('<span class="none">&ndash; <small>{}</small></span>').format(part.get("reason", ""))
    value = f"{number(part['value'], digits, scale)}{unit}"
    if part["low"] is None:
        reason = part.get("reason", "no interval")
        return Markup('<span class="value">{}</span> <small class="interval why">{}</small>').format(value, reason)
    limits = f"{number(part['low'], digits, scale)} to {number(part['high'], digits, scale)}"
    return Markup('<span class="value">{}</span> <small class="interval">{}</small>').format(value, limits)


def interval(part: dict[str, Any], key: str = "auroc") -> str:
    """Write a figure with its interval in running text."""
    if part["value"] is None:
        return "not defined"
    digits, scale, unit = _style(key)
    text = f"{number(part['value'], digits, scale)}{unit}"
    if part["low"] is None:
        return text
    return f"{text} [{number(part['low'], digits, scale)} to {number(part['high'], digits, scale)}]"


def change(part: dict[str, Any], key: str = "auroc") -> Markup:
    """Write a difference with its sign, its limits too; shares in percentage points."""
    if part["value"] is None:
        return figure(part)
    value = signed(part["value"], key)
    if part["low"] is None:
        return Markup('<span class="value">{}</span>').format(value)
    limits = f"{signed(part['low'], key)} to {signed(part['high'], key)}"
    return Markup('<span class="value">{}</span> <small class="interval">{}</small>').format(value, limits)


def change_text(part: dict[str, Any], key: str = "auroc") -> str:
    """Write a difference with its sign and interval in running text."""
    if part["value"] is None:
        return f"not defined ({part['reason']})"
    if part["low"] is None:
        return signed(part["value"], key)
    return f"{signed(part['value'], key)} [{signed(part['low'], key)} to {signed(part['high'], key)}]"


def signed(value: float, key: str = "auroc") -> str:
    """Write a difference of a figure with its sign; of a share in percentage points, without their unit."""
    digits, scale, _ = _style(key)
    text = number(value, digits, scale)
    return f"+{text}" if value > 0 and float(text) > 0 else text


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
    external = sum(entry["role"] == "external" for entry in document["datasets"])
    found = (document.get("site_summary") or {}).get("figures", {}).get(key) or {}
    sets = f"{external} external data set{'' if external == 1 else 's'}"
    reason = found.get("reason") or f"{sets}; a summary needs at least {LEAST_SITES}"
    return f"No summary over hospitals, and no range for the next one: {reason}."


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


def whole(count: int | None) -> str:
    """Write a count with narrow no-break spaces between thousands."""
    return "unknown" if count is None else f"{count:,}".replace(",", "\u202f")


def listed(counts: dict[str, int], most: int = 12) -> Markup:
    """Write counts by name as a list in running text, the first `most` of them."""
    parts = [f"{escape(name)} ({whole(count)})" for name, count in list(counts.items())[:most]]
    left = len(counts) - most
    return Markup(", ".join(parts) + (f" and {left} more" if left > 0 else ""))


def group_name(part: dict[str, Any]) -> str:
    """Name a subgroup as a reader would, such as `BI-RADS 4`."""
    if part["by"] == "flag":
        return str(part["group"]) if part["group"] == "no flag" else f"flagged {part['group']}"
    return f"{column_name(part['by'])} {part['group']}"


def column_name(column: str) -> str:
    """Name a column as a reader would."""
    return "BI-RADS" if column == "birads" else column


def section_name(anchor: str) -> str:
    """Name a section of the page by its `id`."""
    return "data" if anchor.startswith("data-") else anchor


def model_rows(bundle: dict[str, Any]) -> list[tuple[str, str]]:
    """Return what is known of the model, as label and text; what the bundle does not say is left out.

    Args:
        bundle: `BundleSpec.model_dump(mode="json")`, or part of it, or empty.
    """
    training = bundle.get("training") or {}
    rows: list[tuple[str, str]] = []

    def add(label: str, text: Any) -> None:
        if text not in (None, "", {}, []):
            rows.append((label, str(text)))

    add("Bundle", bundle.get("name"))
    add("Network", bundle.get("network") or training.get("network"))
    size = (bundle.get("preprocess") or {}).get("size")
    add("Input", size and f"{size} by {size} pixels, grey")
    add("Optimizer", _optimizer(bundle.get("optimizer") or training.get("optimizer")))
    images = ", ".join(f"{count} {split}" for split, count in (training.get("images") or {}).items())
    add("Trained on", training.get("dataset") and f"{training['dataset']}{f' ({images} images)' if images else ''}")
    add("Licence of the training data", training.get("licence"))
    add("Citation of the training data", training.get("citation"))
    point = bundle.get("operating_point") or {}
    if "threshold" in point:
        add(
            "Operating point",
            f"probability of {bundle.get('positive', 'the positive class')} ≥ {point['threshold']:.4f}",
        )
        add("Rule", point.get("rule"))
        if {"sensitivity", "specificity", "images", "positives"} <= point.keys():
            add(
                "Fixed on",
                f"{point['images']} {deciding_images(bundle)}, {point['positives']} of them positive; there, "
                f"sensitivity {percent(point['sensitivity'], 1)}, specificity {percent(point['specificity'], 1)}",
            )
    if "temperature" in bundle:
        slope = any(update["slope"] != 1 for update in bundle.get("updates") or ())
        fitted = "fitted at export" if bundle.get("updates") else "fitted on the same images"
        fitted += ", divided by the slope of the update" if slope else ""
        add("Temperature", f"{bundle['temperature']:.3f}, {fitted}")
    for update in bundle.get("updates") or ():
        add("Updated", Update.model_validate(update).sentence())
    add("Made", bundle.get("created") and f"{bundle['created']}, medsharp {bundle.get('medsharp', '')}".rstrip(", "))
    return rows


def deciding_images(bundle: dict[str, Any]) -> str:
    """Say which images the operating point was chosen on.

    Args:
        bundle: As in `evaluation.json`.
    """
    local = [update["dataset"] for update in bundle.get("updates") or () if update["method"] != "none"]
    return f"images of {local[-1]}, its calibration part" if local else "internal validation images"


def decided(bundle: dict[str, Any]) -> str:
    """Say what fixed threshold and temperature, and what decided nothing.

    Args:
        bundle: As in `evaluation.json`.
    """
    if not bundle.get("updates"):
        return (
            "Threshold and temperature were fixed on internal validation images before any external image was seen, "
            "and are frozen in the bundle. External data decided nothing."
        )
    return (
        f"The bundle was updated on local data before this evaluation: {updating(bundle)}. Nothing was chosen in this "
        "evaluation; a leak is reported where its images are among those that updated the bundle."
    )


def updating(bundle: dict[str, Any]) -> str:
    """Say how the model was updated before the evaluation, or that it was not.

    Args:
        bundle: As in `evaluation.json`.
    """
    updates = [Update.model_validate(update).sentence() for update in bundle.get("updates") or ()]
    return "; ".join(updates) or "none: threshold and temperature are as frozen in the bundle"


def leak_check(bundle: dict[str, Any]) -> str:
    """Say what it means that no leak was found, which depends on the hashes that the bundle carries; empty without one.

    Args:
        bundle: As in `evaluation.json`.
    """
    if not bundle:
        return ""
    files = bundle.get("files") or {}
    if "training_images.dhash" in files:
        return (
            "none of these images is a copy (SHA-256) or a near-duplicate (perceptual hash, also mirrored) of a "
            "training or validation image"
        )
    if "training_images.sha256" in files:
        return "none of these images is a copy (SHA-256) of a training image; near-duplicates were not looked for"
    return "not possible, as the bundle carries no hashes of its training images"


def hash_rows(bundle: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the bundle's files, each with its SHA-256."""
    return [(str(name), str(digest)) for name, digest in (bundle.get("files") or {}).items()]


def _optimizer(optimizer: Any) -> str:
    if not isinstance(optimizer, dict):
        return str(optimizer or "")
    given = {
        key: f"{value:g}" if isinstance(value, float) else value for key, value in optimizer.items() if key != "name"
    }
    settings = ", ".join(f"{key} {value}" for key, value in given.items())
    return f"{optimizer.get('name', '')}{f' ({settings})' if settings else ''}"
