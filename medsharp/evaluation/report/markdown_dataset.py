"""The part of the Markdown report that is about one data set."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from medsharp.evaluation.report.excerpts import benefit_rows, known_columns, not_computed, with_figures
from medsharp.evaluation.report.markdown_table import bullets, figure_cell, safe, table
from medsharp.evaluation.report.readers import reader_section
from medsharp.evaluation.report.wording import (
    alarming,
    column_name,
    group_name,
    number,
    percent,
    sections_of,
    titled,
    whole,
)


def dataset_lines(entry: dict[str, Any], checked: str = "") -> list[str]:
    """Return the lines of one data set of `evaluation.json`.

    Args:
        entry: The data set.
        checked: What it means that no leak was found; empty where none was looked for.
    """
    lines = [f"## {safe(titled(entry))}", ""]
    for note in entry["notes"]:
        lines += [f"> {safe(note)}", ""]
    if checked and entry["role"] == "external" and not any(alarming(note) for note in entry["notes"]):
        lines += [safe(f"Leakage check: {checked}."), ""]
    lines += [*_flow(entry), *_facts(entry), "### Figures", ""]
    figures = [
        (label, figure_cell(part, key), whole(part["n"]), part.get("method", "-"))
        for _, section in sections_of([entry])
        for key, label, _ in section
        for part in (entry["figures"][key],)
    ]
    lines += table(("Figure", "Value [95 % interval]", "Images", "Interval by"), figures)
    lines += [safe(f"Intervals: {entry['intervals']['method']}, seed {entry['intervals']['seed']}."), ""]
    parts = (_curves, _confusion, _classes, _sets, _subgroups, _readers, _failures)
    return [*lines, *(line for part in parts for line in part(entry))]


def _flow(entry: dict[str, Any]) -> list[str]:
    counts, point, positive = entry["counts"], entry["operating_point"], entry["positive"]
    called = point["true_positives"] + point["false_positives"]
    patients = counts.get("submitted_patients")
    lines = [
        f"{whole(counts['submitted'])} images in the data set{f', of {whole(patients)} patients' if patients else ''}"
    ]
    lines += [f"left out, {reason}: {whole(count)}" for reason, count in counts["excluded"].items()]
    lines += [f"could not be predicted: {whole(counts['failed'])}"] if counts["failed"] else []
    lines.append(f"evaluated: {whole(counts['images'])} images of {whole(counts['clusters'])} patients or groups")
    lines += [f"labelled {name}: {whole(count)}" for name, count in counts["labels"].items()]
    lines.append(
        f"called {positive} ({entry.get('scale', 'probability')} from {point['threshold']:.4f} on): {whole(called)}"
    )
    lines.append(f"not called {positive}: {whole(counts['images'] - called)}")
    return ["### Images and patients", "", *bullets(lines), ""]


def _facts(entry: dict[str, Any]) -> list[str]:
    rows = [(key, text) for key, text in entry["about"].items()]
    for column, counts in entry["counts"]["by"].items():
        named = ", ".join(f"{name} ({whole(count)})" for name, count in list(counts.items())[:12])
        rows.append((f"images by {column_name(column)}", named))
    return table(("", ""), rows) if rows else []


def _curves(entry: dict[str, Any]) -> Iterator[str]:
    if "reliability" not in entry["curves"]:
        return  # scores that are no probabilities
    yield from ("### Calibration", "")
    bins = entry["curves"]["reliability"]["bins"]
    yield from table(
        ("Predicted", "Observed", "95 % interval", "Images"),
        (
            (number(b["probability"]), number(b["observed"]), f"{number(b['low'])} to {number(b['high'])}", b["images"])
            for b in bins
        ),
    )
    yield from ("### Net benefit", "")
    yield from table(
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
    return ["### Most probable class", "", *table(("Label", *entry["classes"]), rows)]


def _classes(entry: dict[str, Any]) -> list[str]:
    """Return each class against the rest, and the averages, where there are more than two classes."""
    found = entry.get("multiclass")
    if not found:
        return []
    keys = ("auroc", "auprc", "sensitivity", "specificity", "ppv")
    rows = [
        # A class without images has a reason in place of figures.
        (name, *(figure_cell(part.get(key, {"value": None, **part}), key) for key in keys))
        for name, part in found["one_vs_rest"].items()
    ]
    overall = found["overall"]
    names = (
        ("hand_till", "Hand and Till's AUROC"),
        ("accuracy", "accuracy"),
        ("macro_sensitivity", "mean sensitivity"),
    )
    lines = table(("Class against the rest", "AUROC", "AUPRC", "Sensitivity", "Specificity", "PPV"), rows)
    averages = bullets(f"{name}: {figure_cell(overall[key], key)}" for key, name in names)
    return ["### All classes", "", *lines, *averages, ""]


def _sets(entry: dict[str, Any]) -> list[str]:
    """Return coverage and size of conformal prediction sets, where they were calibrated."""
    found = entry.get("conformal")
    if not found:
        return []
    kinds = ("marginal", "label_conditional")
    rows = [("coverage", *(figure_cell(found[kind]["coverage"], "coverage") for kind in kinds))]
    for name in entry["classes"]:
        cells = (figure_cell(found[kind]["coverage_by_label"][name], "coverage") for kind in kinds)
        rows.append((f"coverage of {name} images", *cells))
    rows.append(("classes in a set", *(figure_cell(found[kind]["set_size"], "set_size") for kind in kinds)))
    promised, like = percent(1 - found["alpha"]), found["calibration"]["name"]
    lines = [safe(f"Made to hold the true class in {promised} of images like those of {like}."), ""]
    return ["### Prediction sets", "", *lines, *table(("", "One quantile", "One for each class"), rows)]


def _subgroups(entry: dict[str, Any]) -> list[str]:
    if not entry["subgroups"]:
        return []
    keys = ("auroc", "sensitivity", "specificity")
    rows = [
        [group_name(part), part["images"], part["positives"]] + [figure_cell(part.get(key), key) for key in keys]
        for part in with_figures(entry)
    ]
    left = [f"without figures, {reason}: {by} {', '.join(groups)}" for by, reason, groups in not_computed(entry)]
    header = ("Group", "Images", "Positive", "AUROC", "Sensitivity", "Specificity")
    return ["### Subgroups", "", *(table(header, rows) if rows else []), *bullets(left), ""]


def _readers(entry: dict[str, Any]) -> list[str]:
    section = reader_section(entry)
    if section is None:
        return []
    lines = ["### Compared with the readers", "", safe(" ".join(section.caveats)), ""]
    for text in section.sentences:
        lines += [safe(text), ""]
    for part in section.tables:
        lines += [f"**{safe(part.caption)}**", "", *table(part.header, part.rows)]
    return [*lines, *bullets(section.notes), ""]


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
            scale = entry.get("scale", "probability")
            header = (
                "Image",
                f"{scale.capitalize()} of {entry['positive']}",
                *(column_name(column) for column in known),
            )
            rows = (
                (image["image"], number(image[scale]), *(image.get(column, "") for column in known))
                for image in part["images"]
            )
            lines += table(header, rows)
    return lines
