"""The report as Markdown: everything that the page says, without plots and pictures."""

from __future__ import annotations

from typing import Any

from medsharp.evaluation.report.markdown_dataset import dataset_lines
from medsharp.evaluation.report.markdown_table import bullets, figure_cell, limits_cell, safe, table
from medsharp.evaluation.report.meanings import LIMITS
from medsharp.evaluation.report.wording import (
    alarming,
    change_text,
    changes_of,
    hash_rows,
    interval,
    leak_check,
    model_rows,
    percent,
    sections_of,
    titled,
    unsummarised,
    whole,
)
from medsharp.evaluation.statistics.registry import HEADLINE


def render_markdown(document: dict[str, Any]) -> str:
    """Return the report of an `evaluation.json` document as Markdown (GitHub's, for its tables)."""
    lines = [*_head(document), *_headline(document), *_model(document)]
    for entry in document["datasets"]:
        lines += dataset_lines(entry, leak_check(document["bundle"]))
    lines += _robustness(document)
    lines += ["## How the figures were made", "", *bullets(document["methods"].values()), ""]
    versions = "".join(f", {name} {number}" for name, number in document["versions"].items())
    lines += [safe(f"medsharp {document['medsharp']}{versions}."), ""]
    hashes = hash_rows(document["bundle"])
    lines += table(("File of the bundle", "SHA-256"), hashes) if hashes else []
    lines += ["## Limits", "", *bullets(LIMITS), "", *_checklists(document)]
    return "\n".join(lines).rstrip() + "\n"


def _head(document: dict[str, Any]) -> list[str]:
    name, entries = document["bundle"].get("name"), document["datasets"]
    lines = [f"# {safe(name)}: evaluation" if name else "# Evaluation of predictions", ""]
    lines += ["**Not for diagnostic use.** Research software; no figure here approves a model for clinical use.", ""]
    simulated = [entry["name"] for entry in entries if entry["simulated"]]
    if simulated:
        names = safe(", ".join(simulated))
        lines += [f"**Simulated images** ({names}): no patient was scanned; nothing here holds for a hospital.", ""]
    for entry in entries:
        lines += [f"**{safe(entry['name'])}: {safe(note)}.**\n" for note in entry["notes"] if alarming(note)]
    return [*lines, f"Written by medsharp {document['medsharp']}, {document['created']}.", ""]


def _headline(document: dict[str, Any]) -> list[str]:
    entries = document["datasets"]
    changes = changes_of(document)
    rows: list[list[Any]] = [
        ["Images", *(whole(entry["counts"]["images"]) for entry in entries)],
        ["Patients or groups", *(whole(entry["counts"]["clusters"]) for entry in entries)],
        ["Positive images", *(whole(entry["counts"]["positives"]) for entry in entries)],
    ]
    for _, figures in sections_of(entries, HEADLINE):
        for key, label, _ in figures:
            rows.append([label, *(figure_cell(entry["figures"].get(key), key) for entry in entries)])
            if any(key in figures for figures in changes.values()):
                rows.append([f"{label}, external minus internal", *(_change(entry, changes, key) for entry in entries)])
    header = ["Figure [95 % interval]", *(titled(entry) for entry in entries)]
    return ["## Headline", "", *table(header, rows), *_site_summary(document)]


def _site_summary(document: dict[str, Any]) -> list[str]:
    """Return the random-effects summary over the external data sets, where there is one."""
    figures = (document.get("site_summary") or {}).get("figures", {})
    rows = [
        (
            label,
            interval(found, key),
            limits_cell(found["prediction_low"], found["prediction_high"], key),
            percent(found["i2"]),
        )
        for _, section in sections_of(document["datasets"])
        for key, label, _ in section
        if (found := figures.get(key)) and found["value"] is not None
    ]
    header = ("Over the external data sets, random effects", "Summary [95 % interval]", "The next one may see", "I²")
    if rows:
        return table(header, rows)
    return [safe(unsummarised(document, "auroc")), ""] if len(document["datasets"]) > 1 else []


def _change(entry: dict[str, Any], changes: dict[str, dict[str, Any]], key: str) -> str:
    if entry["role"] == "internal" or entry["name"] not in changes:
        return "-"
    return change_text(changes[entry["name"]][key], key)


def _model(document: dict[str, Any]) -> list[str]:
    rows = model_rows(document["bundle"])
    return ["## The model", "", *table(("", ""), rows)] if rows else []


def _robustness(document: dict[str, Any]) -> list[str]:
    lines: list[str] = []
    for entry in (document.get("robustness") or {}).get("datasets", ()):
        for model in entry["models"]:
            lines += [f"## Robustness of {safe(model['name'])} on {safe(entry['name'])}", ""]
            parts = {"all corruptions": model["summary"], **model["summary"]["families"]}
            rows = [
                (name, figure_cell(part["auroc_change"], "auroc_change"), figure_cell(part["flips"], "flips"))
                for name, part in parts.items()
            ]
            lines += table(("Mean over severities", "Change in AUROC", "Decisions flipped"), rows)
            worst = [
                (case["corruption"], case["severity"], figure_cell(case["auroc"], "auroc"))
                for case in model["summary"]["worst"][:5]
            ]
            lines += table(("Worst cases", "Severity", "AUROC"), worst)
    return lines


def _checklists(document: dict[str, Any]) -> list[str]:
    lines: list[str] = []
    for checklist in document.get("checklists") or ():
        lines += [f"## {safe(checklist['guideline'])}", ""]
        lines += [safe(f"{checklist['citation']}, doi {checklist['doi']}. In our own short words."), ""]
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
        lines += table(("Item", "Asks for", "Status", "Here", "To add"), rows)
    return lines
