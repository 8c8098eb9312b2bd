"""Parts of a data set's section that stand there where there are data for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from medsharp.evaluation.report.blocks import (
    Block,
    Bullets,
    Cell,
    Column,
    Heading,
    Picture,
    Plot,
    Plots,
    Row,
    Table,
    Text,
)
from medsharp.evaluation.report.by_patient import by_patient_notes, by_patient_rows
from medsharp.evaluation.report.excerpts import known_columns, not_computed, with_figures
from medsharp.evaluation.report.forests import coverage_of, sites_of, subgroups_of
from medsharp.evaluation.report.interactions import interaction_sentences
from medsharp.evaluation.report.readers import reader_section
from medsharp.evaluation.report.wording import column_name, figure, group_name, interval, percent
from medsharp.quantities import counted, number, whole

_BY_CLASS = ("auroc", "auprc", "sensitivity", "specificity", "ppv")
_BY_GROUP = ("auroc", "sensitivity", "specificity")
_KINDS = ("marginal", "label_conditional")
_CLASS_COLUMNS = ("Class", "AUROC", "AUPRC", "Sensitivity", "Specificity", "PPV")


def classes(entry: dict[str, Any]) -> list[Block]:
    """Return each class against the rest, and the averages, where there are more than two classes."""
    found = entry.get("multiclass")
    if not found:
        return []
    overall = found["overall"]
    text = (
        "Each class against the rest, deciding for the most probable class. Over all classes: Hand and Till's AUROC "
        f"{interval(overall['hand_till'])}, accuracy {interval(overall['accuracy'], 'accuracy')}, mean sensitivity "
        f"{interval(overall['macro_sensitivity'], 'macro_sensitivity')}, macro F1 {interval(overall['macro_f1'])}."
    )
    rows = [
        Row((name, *(figure(part[key], key) for key in _BY_CLASS)))
        if "auroc" in part
        # A class without images has a reason in place of figures.
        else Row((name, f"not computed: {part['reason']}"), kind="open")
        for name, part in found["one_vs_rest"].items()
    ]
    caption = f"Each class against the rest on {entry['name']}"
    table = Table(caption, _CLASS_COLUMNS, rows, "subgroups", captioned=False)
    return [Heading("All classes", 3), Text(text), table]


def prediction_sets(entry: dict[str, Any], number_of: int) -> list[Block]:
    """Return coverage and size of conformal prediction sets, where they were calibrated."""
    found = entry.get("conformal")
    if not found:
        return []
    calibrated = found["calibration"]
    text = (
        f"Conformal sets, made to hold the true class in at least {percent(1 - found['alpha'])} of images like those "
        f"of {calibrated['name']} ({counted(calibrated['images'], 'image')}), on which they were calibrated. On other "
        "images nothing guarantees that; below is what they reach here."
    )

    def row(name: str, key: str, shown: str) -> tuple[Cell, ...]:
        return (name, *(figure(found[kind][key], shown) for kind in _KINDS))

    by_label: list[Sequence[Cell]] = [
        (f"of {name} images", *(figure(found[kind]["coverage_by_label"][name], "coverage") for kind in _KINDS))
        for name in entry["classes"]
    ]
    rows: list[Sequence[Cell]] = [
        row("Coverage", "coverage", "coverage"),
        *by_label,
        row("Classes in a set", "set_size", "set_size"),
        row("Sets of one class", "single", "coverage"),
        row("of which right", "right_when_single", "coverage"),
    ]
    header = ("", "One quantile", "One for each class")
    table = Table("Coverage and size", header, rows, "small", captioned=False, scrolls=False)
    legend = "Share of images whose set holds the true class, one quantile for all classes. Dashed: what was promised."
    plots = [
        Plot("", coverage_of(entry, number_of), "Coverage", legend),
        Plot("", None, "Coverage and size", blocks=[table]),
    ]
    return [Heading("Prediction sets", 3), Text(text), Plots(plots, wide=True)]


def sites(entry: dict[str, Any], number_of: int) -> list[Block]:
    """Return the forest plots of the sites, where they could be summarised."""
    plots = sites_of(entry, number_of)
    return [Heading("Sites", 3), Plots(plots, wide=True)] if plots else []


def by_patient(entry: dict[str, Any]) -> list[Block]:
    """Return the figures by patient, and by lesion, where one has several images."""
    found = by_patient_rows(entry)
    if found is None:
        return []
    names, rows = found
    header: list[str | Column] = [names[0], *(Column(name, number=True) for name in names[1:3]), *names[3:]]
    table = Table(f"Figures by patient on {entry['name']}", header, rows, "subgroups", captioned=False)
    return [Heading("By patient", 3), *(Text(note, "soft") for note in by_patient_notes(entry)), table]


def subgroups(entry: dict[str, Any], number_of: int) -> list[Block]:
    """Return the subgroups, where there are any."""
    if not entry["subgroups"]:
        return []
    text = (
        "Many groups are looked at: some differ by chance. A group of one class cannot be ranked. More figures of each "
        "are in evaluation.json and figures.csv."
    )
    blocks: list[Block] = [Heading("Subgroups", 3), Text(text, "soft"), *map(Text, interaction_sentences(entry))]
    plots, shown = subgroups_of(entry, number_of), with_figures(entry)
    if plots:
        rows: list[Sequence[Cell]] = [
            (group_name(part), whole(part["images"]), whole(part["positives"]),
             *(figure(part.get(key), key) for key in _BY_GROUP))
            for part in shown
        ]  # fmt: skip
        counts = Column("Images", number=True), Column("Positive", number=True)
        header = ("Group", *counts, "AUROC", "Sensitivity", "Specificity")
        table = Table(f"Subgroups of {entry['name']}", header, rows, "subgroups", captioned=False)
        blocks += [Plots(plots, wide=True), table]
    left = [(column_name(by), reason, ", ".join(groups)) for by, reason, groups in not_computed(entry)]
    if left:
        why = ("Column", "Why", "Groups (images)")
        blocks.append(Table("Groups without figures", why, left, "small left-out", scrolls=False))
    return blocks


def readers(entry: dict[str, Any]) -> list[Block]:
    """Return the comparison with the readers, where there are any."""
    section = reader_section(entry)
    if section is None:
        return []
    blocks: list[Block] = [Heading("Compared with the readers", 3), Text(" ".join(section.caveats))]
    blocks += [Text(text) for text in section.sentences]
    for table in section.tables:
        blocks += [Heading(table.caption, 4), table]
    return [*blocks, Bullets(section.notes, soft=True)] if section.notes else blocks


def failures(entry: dict[str, Any], thumbnails: Mapping[str, str]) -> list[Block]:
    """Return the listed failures, where the file has them."""
    found = entry.get("failures")
    if not found:
        return []
    positive = entry["positive"]
    rest = " or ".join(name for name in entry["classes"] if name != positive)
    text = (
        "Images are named as your data name them; patients are not named. Look at them: what they have in common is "
        "often worth more than a figure."
    )
    blocks: list[Block] = [Heading("Failures, the most confident first", 3), Text(text, "soft")]
    headings = {
        "missed": f"Missed: {positive}, not called so",
        "false_alarms": f"False alarms: {rest}, called {positive}",
    }
    for kind, heading in headings.items():
        part = found[kind]
        blocks.append(Heading(f"{heading} ({whole(part['total'])})", 4))
        if not part["images"]:
            blocks.append(Text("None."))
            continue
        blocks.append(_listed(entry, part["images"], heading, thumbnails))
        if part["total"] > len(part["images"]):
            first = f"The first {len(part['images'])} of {whole(part['total'])}; the table of predictions has all."
            blocks.append(Text(first, "soft"))
    return blocks


def _listed(
    entry: dict[str, Any], images: Sequence[dict[str, Any]], heading: str, thumbnails: Mapping[str, str]
) -> Table:
    scale = entry.get("scale", "probability")
    of = "Score" if scale == "score" else f"Probability of {entry['positive']}"
    known = known_columns(images)
    pictures = [Column("Picture", pictures=True)] if thumbnails else []
    names = [column_name(column) for column in known]
    named = [name if name.isupper() else name.capitalize() for name in names]
    header: list[str | Column] = [*pictures, "Image", Column(of, number=True), *named]
    rows = [
        (
            *((_picture(image["image"], thumbnails),) if pictures else ()),
            image["image"],
            number(image[scale]),
            *(str(image.get(column, "")) for column in known),
        )
        for image in images
    ]
    return Table(f"{heading} on {entry['name']}", header, rows, "small failures", captioned=False)


def _picture(name: str, thumbnails: Mapping[str, str]) -> Picture | None:
    return Picture(thumbnails[name]) if name in thumbnails else None
