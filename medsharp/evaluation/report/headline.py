"""The first figures: what each data set shows in words, and all of them side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from medsharp.evaluation.plots import roc_of_several, told_apart
from medsharp.evaluation.report.blocks import (
    Block,
    Cell,
    Column,
    Line,
    Plot,
    Plots,
    Row,
    Section,
    Span,
    Table,
    Text,
    strong,
)
from medsharp.evaluation.report.flow import patients_text
from medsharp.evaluation.report.forests import overview_of
from medsharp.evaluation.report.wording import (
    OWN_THRESHOLDS,
    change,
    change_text,
    changes_of,
    figure,
    has_own_thresholds,
    interval,
    is_percent,
    limits,
    not_summarised,
    percent,
    role_name,
    sections_of,
    thresholds_text,
    unsummarised,
)
from medsharp.evaluation.sites import apart
from medsharp.evaluation.statistics.registry import HEADLINE
from medsharp.keys import named
from medsharp.quantities import counted, whole

_MOST_SAID = 6
"""Of more data sets only the worst and the best are told of."""


def headline_section(document: dict[str, Any]) -> Section:
    """Return the section of the first figures."""
    entries = document["datasets"]
    blocks: list[Block] = [*_in_words(document), _figures(document)]
    text = "All figures of each data set, with the way each interval was made, stand with the data set below."
    blocks += [Text(text, "soft"), *_summary(document)]
    overview = overview_of(document)
    if overview:
        curves = Plot(
            "",
            lambda: roc_of_several(entries, "overview-roc"),
            "ROC curves",
            f"Each data set with a line of its own; dots: the operating point.{_not_drawn(entries)}",
        )
        blocks.append(Plots([*overview, curves], wide=True))
    return Section("headline", "Headline", blocks)


def _not_drawn(entries: Sequence[dict[str, Any]]) -> str:
    """Say which data sets have no ROC curve here, as no more can be told apart; empty where all have one."""
    drawn = {id(entry) for entry in told_apart(entries)}
    left_out = [entry["name"] for entry in entries if id(entry) not in drawn]
    if not left_out:
        return ""
    internal = any(entry["role"] == "internal" for entry in entries)
    which = "the internal one and the largest others" if internal else "the largest"
    return f" Drawn are {len(drawn)} of {len(entries)}, {which}; not drawn: {named(left_out, len(left_out))}."


def _in_words(document: dict[str, Any]) -> list[Block]:
    entries = document["datasets"]
    ranked = [
        entry
        for entry in entries
        if entry["role"] != "internal" and entry["figures"]["auroc"]["value"] is not None and not apart(entry)
    ]
    ranked = sorted(ranked, key=lambda entry: entry["figures"]["auroc"]["value"])
    many = len(entries) > _MOST_SAID
    said = [entry for entry in entries if not many or entry["role"] == "internal"]
    blocks: list[Block] = [Text(_extremes(ranked), "lead")] if many and ranked else []
    if len(said) == 1:
        blocks.append(Text(_sentence(document, said[0]), "lead"))
    elif said:
        blocks.append(_decisions(document, said))
    return blocks


def _extremes(ranked: Sequence[dict[str, Any]]) -> Line:
    worst, best = ranked[0], ranked[-1]
    shares = [entry["figures"]["sensitivity"]["value"] for entry in ranked]
    return (
        f"On {len(ranked)} external data sets, AUROC lies between {interval(worst['figures']['auroc'])} (",
        strong(worst["name"]),
        f") and {interval(best['figures']['auroc'])} (",
        strong(best["name"]),
        f"); sensitivity at the operating point between {percent(min(shares), 1)} and {percent(max(shares), 1)}.",
    )


def _where(document: dict[str, Any], entry: dict[str, Any]) -> str:
    if has_own_thresholds(entry):
        return f"With all images decided, {OWN_THRESHOLDS}"
    if "operating_point" in document["bundle"]:
        return "At the frozen operating point"
    return f"At the threshold of {entry['threshold']:.4f}"


def _sentence(document: dict[str, Any], entry: dict[str, Any]) -> Line:
    """Say in words what the only data set shows."""
    figures, positive, role = entry["figures"], entry["positive"], role_name(entry)
    others = [name for name in entry["classes"] if name != positive]
    area = figures["auroc"]
    if area["value"] is None:
        ranks = f"the model does not rank the images: {area['reason']}."
    else:
        other = others[0] if len(others) == 1 else "different"
        ranks = (
            f"the model ranks a {positive} image above a {other} one in {percent(area['value'])} of pairs "
            f"(AUROC {interval(area)})."
        )
    found, flagged = _found(entry), _flagged(entry)
    comma = "," if has_own_thresholds(entry) else ""
    decided = f"{_where(document, entry)}{comma} it finds {found} and wrongly flags {flagged}."
    return ("On ", strong(entry["name"]), f"{f' ({role})' if role else ''}, {ranks} {decided}")


def _found(entry: dict[str, Any]) -> str:
    point = entry["operating_point"]
    images = point["true_positives"] + point["false_negatives"]
    share = percent(entry["figures"]["sensitivity"]["value"], 1)
    positives = counted(images, f"{entry['positive']} image")
    return f"{whole(point['true_positives'])} of {positives} ({share})"


def _flagged(entry: dict[str, Any]) -> str:
    point = entry["operating_point"]
    images = point["false_positives"] + point["true_negatives"]
    share = percent(1 - entry["figures"]["specificity"]["value"], 1)
    return f"{whole(point['false_positives'])} of {counted(images, 'other')} ({share})"


def _decisions(document: dict[str, Any], entries: Sequence[dict[str, Any]]) -> Table:
    """Say the same of several data sets in a table, whose caption is the sentence."""
    changes, positive = changes_of(document), entries[0]["positive"]
    thresholds = {thresholds_text(entry) for entry in entries}
    where = "At each one's own threshold" if len(thresholds) > 1 else _where(document, entries[0])
    rows = [
        (
            _named(entry),
            percent(area["value"]) if area["value"] is not None else f"does not rank them: {area['reason']}",
            figure(area),
            _found(entry),
            _flagged(entry),
            *((_auroc_change(changes, entry),) if changes else ()),
        )
        for entry in entries
        for area in (entry["figures"]["auroc"],)
    ]
    header = ["Data set", f"Ranks {positive} higher in, of pairs", "AUROC", "Finds", "Wrongly flags"]
    header += ["Change in AUROC, external minus internal"] if changes else []
    caption = f"How often the model ranks a {positive} image above another. {where}, how many it finds and flags."
    return Table(caption, header, rows, "small decisions")


def _auroc_change(changes: dict[str, dict[str, Any]], entry: dict[str, Any]) -> str:
    if entry["role"] == "internal" or entry["name"] not in changes:
        return "\N{EN DASH}"
    found = changes[entry["name"]]["auroc"]
    if found["low"] is None:
        return change_text(found)
    if found["high"] < 0 or found["low"] > 0:
        return f"{'lower' if found['high'] < 0 else 'higher'}: {change_text(found)}"
    return f"not shown, nor that there is none: {change_text(found)}"


def _named(entry: dict[str, Any]) -> Line:
    role = role_name(entry)
    return (strong(entry["name"]), f" ({role})") if role else (strong(entry["name"]),)


def _figures(document: dict[str, Any]) -> Table:
    entries, changes = document["datasets"], changes_of(document)
    rows = [
        Row(("Images", *(whole(entry["counts"]["images"]) for entry in entries))),
        Row(("Patients", *(patients_text(entry["counts"]) for entry in entries))),
        Row(("Groups that intervals resample", *(whole(entry["counts"]["clusters"]) for entry in entries))),
        Row(("Positive images", *(_positives(entry["counts"]) for entry in entries))),
    ]
    refused = [entry["counts"].get("refused") or 0 for entry in entries]
    if any(refused):
        rows.insert(1, Row(("Refused by the input checks, beside these", *map(whole, refused))))
    for title, figures in sections_of(entries, HEADLINE):
        rows.append(Row((title,), kind="head"))
        for key, label, meaning in figures:
            values = [figure(entry["figures"].get(key), key) for entry in entries]
            rows.append(Row((label, *values), note=meaning))
            if any(key in found for found in changes.values()):
                points = ", percentage points" if is_percent(key) else ""
                cells = [_change(entry, changes, key) for entry in entries]
                rows.append(Row((f"{label}: external minus internal{points}", *cells), kind="change"))
    header: list[str | Column] = ["Figure", *(Column(entry["name"], _role(entry)) for entry in entries)]
    return Table("Headline figures, with 95 % intervals", header, rows, "headline", captioned=False)


def _role(entry: dict[str, Any]) -> str:
    return ", ".join(filter(None, (role_name(entry), "simulated" if entry["simulated"] else "")))


def _positives(counts: dict[str, Any]) -> Line:
    share = percent(counts["positives"] / counts["images"])
    return (f"{whole(counts['positives'])} ", Span(f"({share})", "soft"))


def _change(entry: dict[str, Any], changes: dict[str, dict[str, Any]], key: str) -> Cell:
    if entry["role"] == "internal" or key not in changes.get(entry["name"], {}):
        return "\N{EN DASH}"
    return change(changes[entry["name"]][key], key)


def _summary(document: dict[str, Any]) -> list[Block]:
    """Return the random-effects summary over the external data sets, or why there is none."""
    if len(document["datasets"]) < 2:
        return []
    figures = (document.get("site_summary") or {}).get("figures", {})
    rows = [
        (
            label,
            figure(found, key),
            limits(found["prediction_low"], found["prediction_high"], key),
            percent(found["i2"]) if found["i2"] is not None else "\N{EN DASH}",
        )
        for _, section in sections_of(document["datasets"])
        for key, label, _ in section
        if (found := figures.get(key)) and found["value"] is not None
    ]
    if not rows:
        return [Text(unsummarised(document, "auroc"), "soft")]
    header = ("Figure", "Summary, 95 % interval", "The next one may see", "I²")
    table = Table("Over the external data sets, random effects", header, rows, "small")
    left_out = not_summarised(document).strip()
    return [table, *([Text(left_out, "soft")] if left_out else [])]
