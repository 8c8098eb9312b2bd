"""A plan in words: cells of its table, its page, its file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medsharp import __version__
from medsharp.evaluation.planning.plan import Criterion, Plan
from medsharp.evaluation.report.document import plain
from medsharp.evaluation.report.markdown import bullets, table
from medsharp.files import json_text, write_text


def header(plan: Plan) -> tuple[str, ...]:
    """Return the columns of the table, without those that are too much for a terminal."""
    return ("figure", "value", "width wished", "patients", f"with {_positive(plan)}", "images")


def _positive(plan: Plan) -> str:
    positive = str(plan.assumptions["positive"])
    return "cancer" if positive == "malignant" else positive


def cells(criterion: Criterion) -> list[str]:
    """Return a row under `header`."""
    return [
        criterion.name,
        f"{round(criterion.anticipated, 2) + 0.0:.2f}",  # no minus before a zero
        f"{criterion.width:.3g}",
        f"{criterion.patients:,}",
        f"{criterion.with_positive:,}",
        f"{criterion.images:,}",
    ]


def answer(plan: Plan) -> str:
    """Return the plan in one sentence."""
    largest = plan.largest
    return (
        f"{largest.patients:,} patients, {largest.with_positive:,} of them with {_positive(plan)}, "
        f"{largest.images:,} images: what the {largest.name} needs"
    )


def assumption_lines(plan: Plan) -> list[str]:
    """Return what was taken for granted, a sentence each."""
    given = plan.assumptions
    lines = _of_binormal(given) if given["origin"] == "binormal" else _of_table(given, _positive(plan))
    if given["decided"] is not None:
        lines.append(f"Decided {given['decided']}.")
    return lines


def _of_binormal(given: Mapping[str, Any]) -> list[str]:
    images = f"{given['images_per_patient']:g} images a patient"
    if given["images_per_patient"] == 1:
        several = "One image a patient."
    elif given["design_effect"] is not None:
        several = f"{images}, with a stated design effect of {given['design_effect']:g}."
    else:
        several = (
            f"{images}, all with the patient's label; within a class, log odds of two of them are correlated by "
            f"{given['icc']:g}."
        )
    model = (
        f"A calibrated model of AUROC {given['auroc']:g} at a prevalence of {given['prevalence']:g}; log odds are "
        f"normal in each class, with standard deviation {given['log_odds_deviation']:.3f}."
    )
    return [model, several]


def _of_table(given: Mapping[str, Any], positive: str) -> list[str]:
    icc = given["icc"]
    named = ""
    if not given["table_images_without_patient"] and given["table_names_of_patients"] != given["table_patients"]:
        named = f" ({given['table_names_of_patients']:,} by name; those of one group count as one)"
    alike = "" if icc is None else f"; log odds of two images of a patient and label are correlated by {icc:.2f}"
    return [
        f"Patients and answers as in {given['origin']}: {given['table_images']:,} images of "
        f"{given['table_patients']:,} patients{named}, "
        f"{given['table_patients_with_positive']:,} of them with {positive}.",
        f"Prevalence among images {given['prevalence']:.3f}; "
        f"{given['images_per_patient']:.3g} images a patient{alike}.",
    ]


def closed_forms(plan: Plan) -> str:
    """Return what the published formulas say, in one sentence."""
    numbers = [
        f"{criterion.name} {criterion.independent_images:,}"
        for criterion in plan.criteria
        if criterion.independent_images is not None
    ]
    return f"Closed forms of Riley et al. (2021), images of independent patients: {', '.join(numbers) or 'none'}."


def plan_markdown(plan: Plan) -> str:
    """Return the page."""
    columns = [*header(plan), "design effect", "independent images, closed form"]
    if plan.available is not None:
        columns.append(f"width with {plan.available:,} patients")
    rows = []
    for criterion in plan.criteria:
        closed = criterion.independent_images
        row = [*cells(criterion), f"{criterion.design_effect:.2f}", "-" if closed is None else f"{closed:,}"]
        if criterion.width_available is not None:
            row.append(f"{criterion.width_available:.3g}")
        rows.append(row)
    lines = [
        "# How many patients the evaluation needs",
        "",
        f"**{answer(plan)}.**",
        "",
        *table(columns, rows),
        "Widths are of 95 % intervals of resampled patients. O:E's is made on the logarithmic scale; net benefit is "
        "standardized, which is to say divided by the prevalence. The design effect is how many times the images of "
        "independent patients are needed.",
        "The closed forms are those of Riley et al. (Statistics in Medicine 40, 2021; BMJ 384, 2024, e074821) for one "
        "image a patient. O:E's takes what is expected as known, and AUROC's variance is Newcombe's; both are larger.",
        "",
        "## What this takes for granted",
        "",
        *bullets([*assumption_lines(plan), *plan.warnings]),
        "",
        f"medsharp {__version__}. Not for diagnostic use.",
    ]
    return "\n".join(lines) + "\n"


def write_plan(folder: str | Path, plan: Plan) -> tuple[Path, ...]:
    """Write `plan.json` and `plan.md`.

    Args:
        folder: Made if missing.
        plan: What to write.

    Returns:
        The files.

    Raises:
        InputError: The folder cannot be written.
    """
    document = plain(plan.as_dict() | {"medsharp": __version__})
    texts = {
        "plan.json": json_text(document),
        "plan.md": plan_markdown(plan),
    }
    for name, text in texts.items():
        write_text(Path(folder) / name, text)
    return tuple(Path(folder) / name for name in texts)
