"""The robustness section of the report: one part a data set and model."""

from __future__ import annotations

from functools import partial
from typing import Any

from medsharp.evaluation.plots import degradation
from medsharp.evaluation.report.blocks import (
    Block,
    Bullets,
    Column,
    Heading,
    Notice,
    Plot,
    Plots,
    Row,
    Section,
    Span,
    Table,
    Text,
)
from medsharp.evaluation.report.robustness import is_own, robustness_of
from medsharp.evaluation.report.wording import change, figure, interval
from medsharp.quantities import counted

_MOST = 5


def degradation_sections(document: dict[str, Any]) -> list[Section]:
    """Return the section of each data set and model; none without robustness figures.

    Where the summary has the report's own model, other models of the same file are left out.
    """
    robustness = document.get("robustness")
    if not robustness:
        return []
    shown = robustness_of(document)
    if not shown:
        return []
    blocks: list[Block] = [
        Text(
            (
                "What becomes of the decisions when images change as they do between scanners, operators and ways of "
                "storing them. Measured by ",
                Span("medsharp robustness", "code"),
                f" on {robustness['created']}; changes are from the clean images, paired. robustness.html has every "
                "corruption at every severity.",
            )
        )
    ]
    for place, (entry, model) in enumerate(shown, start=1):
        blocks += _part(entry, model, place, document["bundle"], several=len(shown) > 1)
    return [Section("robustness", "Robustness", blocks)]


def _part(
    entry: dict[str, Any], model: dict[str, Any], place: int, bundle: dict[str, Any], *, several: bool
) -> list[Block]:
    foreign, summary = not is_own(model, bundle), model["summary"]
    size = f"{counted(entry['images'], 'image')}, {counted(entry['corruptions'], 'corruption')}"
    of_model = f", model {model['name']}" if several or foreign else ""
    blocks: list[Block] = [Heading(f"{entry['name']}: {size}{of_model}", 3)]
    if foreign and bundle.get("name") is not None:
        blocks.append(Notice(f"These figures are of {_told_apart(model, bundle)}."))
    blocks += [Notice(note, alarm=True) for note in model.get("notes", ())]
    draw = partial(degradation, model["by_severity"], f"robustness-{place}", f"AUROC by severity on {entry['name']}")
    curves = Plot("Mean over the corruptions of a family.", draw, "AUROC by severity", "Dashed: guessing.")
    blocks += [Plots([curves, _means(model)]), Heading("Worst cases", 4), _worst(entry, summary)]
    return [*blocks, *_annotations(entry, model)]


def _told_apart(model: dict[str, Any], bundle: dict[str, Any]) -> str:
    """Name another model, and the report's own: by their digests too where both have one name."""
    if model["name"] != bundle["name"]:
        return f"{model['name']}, not of {bundle['name']}"
    other, own = (found["digest"][:12] for found in (model, bundle))
    return f"another bundle of the name {model['name']} (digest {other}), not of this one ({own})"


def _means(model: dict[str, Any]) -> Plot:
    summary, errors = model["summary"], model["medmnist_c"]
    parts = {"all": summary, **summary["families"]}
    rows = [(name, change(part["auroc_change"]), figure(part["flips"], "flips"))
            for name, part in parts.items()]  # fmt: skip
    header = ("Corruptions", "Change in AUROC", "Decisions flipped")
    caption = f"Clean: AUROC {interval(model['clean']['auroc'])}."
    if errors:
        caption += (
            f" MedMNIST-C: BE {interval(errors['be'])}, rBE {interval(errors['rbe'])}; they compare with published "
            "values only on BreastMNIST's own test images."
        )
    table = Table("Means over all severities", header, rows, "small", captioned=False, scrolls=False)
    return Plot(caption, None, "Means over all severities", blocks=[table])


def _worst(entry: dict[str, Any], summary: dict[str, Any]) -> Table:
    rows = [
        (
            case["corruption"].replace("_", " "),
            str(case["severity"]),
            figure(case["auroc"]),
            change(case["auroc_change"]),
            *(figure(case[key], key) for key in ("sensitivity", "specificity")),
        )
        for case in summary["worst"][:_MOST]
    ]
    header = ("Corruption", Column("Severity", number=True), "AUROC", "Change", "Sensitivity", "Specificity")
    return Table(f"Worst corruptions on {entry['name']}", header, rows, "small subgroups", captioned=False)


def _annotations(entry: dict[str, Any], model: dict[str, Any]) -> list[Block]:
    cases = model["annotations"]
    if not cases:
        return []
    rows = [Row((case["corruption"].replace("_", " "), *_flips(case))) for case in cases]
    difference = Column("Annotation minus control", "percentage points")
    header = ("Added to the image", "Decisions flipped", "Flipped by the control", difference)
    return [
        Heading("Does the model read what people wrote on the image?", 4),
        Bullets([case["sentence"] for case in cases]),
        Table(f"Annotations on {entry['name']}", header, rows, "small subgroups", captioned=False),
    ]


def _flips(case: dict[str, Any]) -> tuple[Any, ...]:
    flipped = figure(case["flips"]["all"], "flips")
    if not case["control"]:
        return (flipped, "\N{EN DASH}", "\N{EN DASH}")
    return (flipped, figure(case["control_flips"]["all"], "flips"), change(case["difference"]["all"], "flips"))
