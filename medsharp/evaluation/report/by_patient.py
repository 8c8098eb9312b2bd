"""The figures by patient and by lesion in words and as rows of a table, beside those by image."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from medsharp.evaluation.report.blocks import Cell
from medsharp.evaluation.report.wording import figure
from medsharp.evaluation.statistics.registry import figure_named
from medsharp.quantities import whole

SHOWN = ("auroc", "sensitivity", "specificity", "calibration_slope", "oe_ratio")
UNITS = {"by_patient": "patient", "by_lesion": "lesion"}

_RULES = {"mean": "mean of the images", "maximum": "highest of the images (called if any image is)"}


def by_patient_rows(entry: dict[str, Any]) -> tuple[tuple[str, ...], list[tuple[Cell, ...]]] | None:
    """Return header and rows of a table by image, by patient and by lesion; None where no one has several images.

    Args:
        entry: A data set of `evaluation.json`; older files have none.
    """
    blocks = _blocks(entry)
    if not blocks:
        return None
    counts = entry["counts"]
    header = ("Scored by", "n", "positive", *(figure_named(key).name for key in SHOWN))
    rows: list[tuple[Cell, ...]] = [
        ("image", whole(counts["images"]), whole(counts["positives"]), *_cells(entry["figures"]))
    ]
    for block in blocks:
        rows += [
            (f"{block['unit']}, {_RULES[rule]}", whole(block["units"]), whole(block["positives"]), *_cells(figures))
            for rule, figures in block["rules"].items()
            if rule in _RULES
        ]
    return header, rows


def by_patient_notes(entry: dict[str, Any]) -> list[str]:
    """Say what a patient's label is, who is left out, and whose label is one of several."""
    return [_note(block, entry["positive"]) for block in _blocks(entry)]


def unit_rows(entry: dict[str, Any]) -> Iterator[tuple[str, str, str, dict[str, Any]]]:
    """Give unit, rule, name and figure of each, for figures.csv."""
    for block in _blocks(entry):
        for rule, figures in block["rules"].items():
            yield from ((block["unit"], rule, name, figure) for name, figure in figures.items())


def _blocks(entry: dict[str, Any]) -> list[dict[str, Any]]:
    return [entry[key] for key in UNITS if entry.get(key)]


def _cells(figures: dict[str, Any]) -> list[Cell]:
    return [figure(figures.get(key), key) for key in SHOWN]


def _note(block: dict[str, Any], positive: str) -> str:
    unit = block["unit"]
    several, mixed, left = block["with_several_images"], block["of_several_labels"], block["images_left_out"]
    sentences = [
        f"A {unit} is {positive} if any image is; {whole(several)} of {whole(block['units'])} {unit}s have several "
        f"images, {whole(mixed)} of them of both kinds."
    ]
    if left:
        who = "image that names" if left == 1 else "images that name"
        sentences.append(f"Left out: {whole(left)} {who} no {unit}.")
    if unit == "patient":
        sentences.append(
            "The threshold is one for single images: the more images a patient has, the likelier one of them is called."
        )
    return " ".join(sentences)
