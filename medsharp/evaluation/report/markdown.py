"""The report as Markdown: everything that the page says, without plots and pictures."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from medsharp.evaluation.report.excerpts import benefit_rows, known_columns
from medsharp.evaluation.wording import (
    LIMITS,
    alarming,
    column_name,
    group_name,
    hash_rows,
    interval,
    model_rows,
    number,
    percent,
    sections_of,
    turned,
    whole,
)

_SPECIAL = str.maketrans({mark: f"\\{mark}" for mark in "\\`*_[]|#~"} | {"<": "&lt;", ">": "&gt;", "&": "&amp;"})


def render_markdown(document: dict[str, Any]) -> str:
    """Return the report of an `evaluation.json` document as Markdown (GitHub's, for its tables)."""
    lines = [*_head(document), *_headline(document), *_model(document)]
    for entry in document["datasets"]:
        lines += _dataset(entry)
    lines += ["## How the figures were made", "", *_bullets(document["methods"].values()), ""]
    versions = "".join(f", {name} {number}" for name, number in document["versions"].items())
    lines += [_safe(f"medsharp {document['medsharp']}{versions}."), ""]
    hashes = hash_rows(document["bundle"])
    lines += _table(("File of the bundle", "SHA-256"), hashes) if hashes else []
    lines += ["## Limits", "", *_bullets(LIMITS), "", *_checklists(document)]
    return "\n".join(lines).rstrip() + "\n"


def _safe(text: Any) -> str:
    """Escape what Markdown or HTML would take for markup; a line stays a line."""
    return re.sub(r"\s*[\r\n\t]\s*", " ", str(text)).strip().translate(_SPECIAL)


def _table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> list[str]:
    lines = ["| " + " | ".join(map(_safe, header)) + " |", "|" + "---|" * len(header)]
    return [*lines, *("| " + " | ".join(map(_safe, row)) + " |" for row in rows), ""]


def _bullets(texts: Iterable[str]) -> list[str]:
    return [f"- {_safe(text)}" for text in texts]


def _head(document: dict[str, Any]) -> list[str]:
    name, entries = document["bundle"].get("name"), document["datasets"]
    lines = [f"# {_safe(name)}: evaluation" if name else "# Evaluation of predictions", ""]
    lines += ["**Not for diagnostic use.** Research software; no figure here approves a model for clinical use.", ""]
    simulated = [entry["name"] for entry in entries if entry["simulated"]]
    if simulated:
        names = _safe(", ".join(simulated))
        lines += [f"**Simulated images** ({names}): no patient was scanned; nothing here holds for a hospital.", ""]
    for entry in entries:
        lines += [f"**{_safe(entry['name'])}: {_safe(note)}.**\n" for note in entry["notes"] if alarming(note)]
    return [*lines, f"Written by medsharp {document['medsharp']}, {document['created']}.", ""]


def _headline(document: dict[str, Any]) -> list[str]:
    entries = document["datasets"]
    drops = {drop["name"]: drop["figures"] for drop in document["drops"]}
    rows: list[list[Any]] = [
        ["Images", *(whole(entry["counts"]["images"]) for entry in entries)],
        ["Patients or groups", *(whole(entry["counts"]["clusters"]) for entry in entries)],
        ["Positive images", *(whole(entry["counts"]["positives"]) for entry in entries)],
    ]
    for _, figures in sections_of(entries):
        for key, label, _ in figures:
            rows.append([label, *(_figure(entry["figures"].get(key), key) for entry in entries)])
            if any(key in figures for figures in drops.values()):
                rows.append([f"{label}, change from internal", *(_change(entry, drops, key) for entry in entries)])
    header = ["Figure [95 % interval]", *(f"{entry['name']} ({entry['role']})" for entry in entries)]
    return ["## Headline", "", *_table(header, rows)]


def _figure(part: dict[str, Any] | None, key: str) -> str:
    if part is None:
        return "-"
    return interval(part, key) if part["value"] is not None else f"- ({part.get('reason', '')})"


def _change(entry: dict[str, Any], drops: dict[str, dict[str, Any]], key: str) -> str:
    if entry["role"] == "internal" or entry["name"] not in drops:
        return "-"
    return _figure(turned(drops[entry["name"]][key]), key)


def _model(document: dict[str, Any]) -> list[str]:
    rows = model_rows(document["bundle"])
    return ["## The model", "", *_table(("", ""), rows)] if rows else []


def _dataset(entry: dict[str, Any]) -> list[str]:
    lines = [f"## {_safe(entry['name'])} ({entry['role']})", ""]
    for note in entry["notes"]:
        lines += [f"> {_safe(note)}", ""]
    lines += [*_flow(entry), *_facts(entry), "### Figures", ""]
    figures = [
        (label, _figure(part, key), whole(part["n"]), part.get("method", "-"))
        for _, section in sections_of([entry])
        for key, label, _ in section
        for part in (entry["figures"][key],)
    ]
    lines += _table(("Figure", "Value [95 % interval]", "Images", "Interval by"), figures)
    lines += [_safe(f"Intervals: {entry['intervals']['method']}, seed {entry['intervals']['seed']}."), ""]
    return [*lines, *_curves(entry), *_confusion(entry), *_subgroups(entry), *_failures(entry)]


def _flow(entry: dict[str, Any]) -> list[str]:
    counts, point, positive = entry["counts"], entry["operating_point"], entry["positive"]
    called = point["true_positives"] + point["false_positives"]
    lines = [f"{whole(counts['submitted'])} images in the data set"]
    lines += [f"left out, {reason}: {whole(count)}" for reason, count in counts["excluded"].items()]
    lines += [f"could not be predicted: {whole(counts['failed'])}"] if counts["failed"] else []
    lines.append(f"evaluated: {whole(counts['images'])} images of {whole(counts['clusters'])} patients or groups")
    lines += [f"labelled {name}: {whole(count)}" for name, count in counts["labels"].items()]
    lines.append(f"called {positive} (probability from {point['threshold']:.4f} on): {whole(called)}")
    lines.append(f"not called {positive}: {whole(counts['images'] - called)}")
    return ["### Images and patients", "", *_bullets(lines), ""]


def _facts(entry: dict[str, Any]) -> list[str]:
    rows = [(key, text) for key, text in entry["about"].items()]
    for column, counts in entry["counts"]["by"].items():
        named = ", ".join(f"{name} ({whole(count)})" for name, count in list(counts.items())[:12])
        rows.append((f"images by {column_name(column)}", named))
    return _table(("", ""), rows) if rows else []


def _curves(entry: dict[str, Any]) -> Iterator[str]:
    yield from ("### Calibration", "")
    bins = entry["curves"]["reliability"]["bins"]
    yield from _table(
        ("Predicted", "Observed", "95 % interval", "Images"),
        (
            (number(b["probability"]), number(b["observed"]), f"{number(b['low'])} to {number(b['high'])}", b["images"])
            for b in bins
        ),
    )
    yield from ("### Net benefit", "")
    yield from _table(
        ("Threshold probability", "Model", "95 % interval", "Every image"),
        (
            (
                percent(row["threshold"]),
                number(row["model"]),
                "-" if row["low"] is None else f"{number(row['low'])} to {number(row['high'])}",
                number(row["treat_all"]),
            )
            for row in benefit_rows(entry)
        ),
    )


def _confusion(entry: dict[str, Any]) -> list[str]:
    if not entry["confusion"]:
        return []
    rows = ([label, *(row[name] for name in entry["classes"])] for label, row in entry["confusion"].items())
    return ["### Most probable class", "", *_table(("Label", *entry["classes"]), rows)]


def _subgroups(entry: dict[str, Any]) -> list[str]:
    if not entry["subgroups"]:
        return []
    keys = ("auroc", "sensitivity", "specificity")
    rows = [
        [group_name(part), part["images"], part["positives"]]
        + ([_figure(part.get(key), key) for key in keys] if "auroc" in part else [part["reason"], "-", "-"])
        for part in entry["subgroups"]
    ]
    header = ("Group", "Images", "Positive", "AUROC", "Sensitivity", "Specificity")
    return ["### Subgroups", "", *_table(header, rows)]


def _failures(entry: dict[str, Any]) -> list[str]:
    failures = entry.get("failures")
    if not failures:
        return []
    lines = ["### Failures, the most confident first", ""]
    for kind, heading in (("missed", "Missed"), ("false_alarms", "False alarms")):
        part = failures[kind]
        lines += [f"{heading}: {whole(part['total'])}", ""]
        if part["images"]:
            known = known_columns(part["images"])
            header = ("Image", f"Probability of {entry['positive']}", *(column_name(column) for column in known))
            rows = (
                (image["image"], number(image["probability"]), *(image.get(column, "") for column in known))
                for image in part["images"]
            )
            lines += _table(header, rows)
    return lines


def _checklists(document: dict[str, Any]) -> list[str]:
    lines: list[str] = []
    for checklist in document.get("checklists") or ():
        lines += [f"## {_safe(checklist['guideline'])}", ""]
        lines += [_safe(f"{checklist['citation']}, doi {checklist['doi']}. In our own short words."), ""]
        rows = (
            (
                item["id"],
                item["item"],
                item["status"],
                "; ".join(answer["text"] for answer in item["answers"]) or "-",
                item["add"] or ("to be written" if item["status"] == "for a person" else ""),
            )
            for item in checklist["items"]
        )
        lines += _table(("Item", "Asks for", "Status", "Here", "To add"), rows)
    return lines
