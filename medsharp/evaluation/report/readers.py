"""The section "Compared with the readers": sentences and tables that HTML and Markdown show alike."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from medsharp.evaluation.report.blocks import Cell, Table
from medsharp.evaluation.report.wording import OWN_THRESHOLDS, change, change_text, figure, has_own_thresholds, interval
from medsharp.quantities import counted, number, p_equals, p_value, whole

_PRIMARY = ("4", "4A")
"""BI-RADS categories from which on a biopsy is advised."""

_MOST_IN_WORDS = 2
"""Of more readers the tables tell, and a sentence on their mean."""

_RATES = ("sensitivity", "specificity")


class Section(NamedTuple):
    """What is said of the readers of one data set."""

    caveats: list[str]
    sentences: list[str]
    tables: list[Table]
    notes: list[str]


def reader_section(entry: dict[str, Any]) -> Section | None:
    """Lay out the readers of a data set of `evaluation.json`; None where there are none."""
    found = entry.get("readers")
    if not found:
        return None
    compared = [reader for reader in found["readers"] if "auroc" in reader]
    sentences = [_ranked(reader) for reader in compared] if len(compared) == 1 else []
    if (study := found["mrmc"]) and "auroc_difference" in study:
        sentences.append(_against_mean(study))
    if len(compared) <= _MOST_IN_WORDS:
        sentences += [text for reader in compared if (text := _at_biopsy(reader, entry["positive"]))]
    tables = [_areas(compared, study)] if compared else []
    where = OWN_THRESHOLDS if has_own_thresholds(entry) else f"at {entry['threshold']:.4g}"
    tables += [_cutoffs(reader, where) for reader in compared if reader["cutoffs"]]
    return Section(found["caveats"], sentences, tables, _notes(found))


def reader_rows(entry: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Give group, name and figure of everything that is compared, for the table of figures."""
    found = entry.get("readers") or {"readers": (), "mrmc": None}
    for reader in found["readers"]:
        for key in ("auroc", "model_auroc", "auroc_difference"):
            if key in reader:
                yield reader["name"], key, reader[key]
        for cutoff in reader.get("cutoffs", ()):
            for key, rate in cutoff.items():
                if key != "from":
                    yield f"{reader['name']} from {cutoff['from']}", key, rate
    study = found["mrmc"] or {}
    for key in ("mean_auroc", "model_auroc", "auroc_difference", "auroc_difference_these_readers"):
        if study.get(key):
            yield f"mean of {len(study['readers'])} readers", key, study[key]


def _ranked(reader: dict[str, Any]) -> str:
    return (
        f"AUROC on the {counted(reader['images'], 'image')} that {reader['name']} judged: model "
        f"{interval(reader['model_auroc'])}, reader {interval(reader['auroc'])}; model minus reader "
        f"{change_text(reader['auroc_difference'])}{_p(reader['auroc_difference'])}."
    )


def _at_biopsy(reader: dict[str, Any], positive: str) -> str:
    """Say what the model gives up or gains at the reader's own sensitivity, where the reader advises a biopsy."""
    cutoff = next((row for row in reader["cutoffs"] if row["from"] in _PRIMARY), None)
    if reader["scale"] != "birads" or cutoff is None or cutoff["sensitivity"]["value"] is None:
        return ""
    points = cutoff["specificity_difference_at_same_sensitivity"]
    return (
        f"Called {positive} from category {cutoff['from']} on, {reader['name']} has a sensitivity of "
        f"{interval(cutoff['sensitivity'], 'sensitivity')} and a specificity of "
        f"{interval(cutoff['specificity'], 'specificity')}. With a threshold chosen on these images to find "
        "as many, the model has a specificity of "
        f"{interval(cutoff['model_specificity_at_same_sensitivity'], 'specificity')}; "
        f"model minus reader, in percentage points: {change_text(points, 'specificity')}."
    )


def _against_mean(study: dict[str, Any]) -> str:
    difference = study["auroc_difference"]
    freedom = study["components"] and study["components"]["degrees_of_freedom"]
    degrees = f", {number(freedom, 1)} degrees of freedom" if freedom else ""
    text = (
        f"Against the mean of {len(study['readers'])} readers, on the {counted(study['images'], 'image')} that all of "
        f"them judged: model {interval(study['model_auroc'])}, readers {interval(study['mean_auroc'])}; "
        f"model minus readers {change_text(difference)}{_p(difference, degrees)}, for readers and patients like these."
    )
    these = study["auroc_difference_these_readers"]
    return f"{text} For these readers alone: {change_text(these)}{_p(these)}." if these else text


def _areas(readers: list[dict[str, Any]], study: dict[str, Any] | None) -> Table:
    rows = [
        (
            reader["name"],
            whole(reader["images"]),
            figure(reader["auroc"]),
            figure(reader["model_auroc"]),
            change(reader["auroc_difference"]),
            p_value(reader["auroc_difference"]["p"]),
        )
        for reader in readers
    ]
    if study and "auroc_difference" in study:
        rows.append((
            f"mean of {len(study['readers'])} readers",
            whole(study["images"]),
            figure(study["mean_auroc"]),
            figure(study["model_auroc"]),
            change(study["auroc_difference"]),
            p_value(study["auroc_difference"]["p"]),
        ))  # fmt: skip
    header = ("Reader", "Images", "AUROC of the reader", "AUROC of the model", "Model minus reader", "p")
    return Table("AUROC on the same images", header, rows, "small", captioned=False)


def _cutoffs(reader: dict[str, Any], where: str) -> Table:
    rows: list[Sequence[Cell]] = [
        (
            f"from {row['from']}",
            *(
                cell
                for key in _RATES
                for cell in (figure(row[key], key), change(row[f"{key}_difference"], key))
            ),
            figure(row["model_specificity_at_same_sensitivity"], "specificity"),
            change(row["specificity_difference_at_same_sensitivity"], "specificity"),
        )
        for row in reader["cutoffs"]
    ]  # fmt: skip
    header = (
        "Called positive",
        "Sensitivity of the reader",
        f"of the model {where}, less the reader's",
        "Specificity of the reader",
        f"of the model {where}, less the reader's",
        "Specificity of the model at the reader's sensitivity",
        "less the reader's",
    )
    caption = f"{reader['name']}: sensitivity and specificity, differences in percentage points"
    return Table(caption, header, rows, "small", captioned=False)


def _notes(found: dict[str, Any]) -> list[str]:
    notes = list(found["notes"])
    for reader in found["readers"]:
        left = ", ".join(f"{reason} ({whole(count)})" for reason, count in reader["left_out"].items())
        if left:
            notes.append(f"{reader['name']}, images left out: {left}.")
        if "reason" in reader:
            notes.append(f"{reader['name']} is not compared: {reader['reason']}.")
    study = found["mrmc"]
    if study and "reason" in study:
        notes.append(f"No comparison with the mean of the readers: {study['reason']}.")
    if any(reader["scale"] == "birads" and len(reader.get("cutoffs", ())) > 1 for reader in found["readers"]):
        notes.append("Several cut points are looked at, without adjustment: some differ by chance.")
    return notes


def _p(part: dict[str, Any], more: str = "") -> str:
    return "" if part["p"] is None else f" ({p_equals(part['p'])}{more})"
