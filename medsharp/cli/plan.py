"""`medsharp plan`: how many patients and cancers an evaluation needs."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from medsharp.cli._console import console, heading, note, warn
from medsharp.errors import InputError

if TYPE_CHECKING:
    from medsharp.evaluation.planning import Anticipated, Plan


def plan(
    auroc: Annotated[float | None, typer.Option(help="AUROC that is anticipated, in (0.5, 1).")] = None,
    prevalence: Annotated[
        float | None, typer.Option(help="Share of positive images that is anticipated, in (0, 1).")
    ] = None,
    from_: Annotated[
        Path | None,
        typer.Option("--from", help="Instead of --auroc: a table of predictions like those that will be evaluated."),
    ] = None,
    sensitivity: Annotated[float | None, typer.Option(help="Sensitivity that is anticipated.")] = None,
    specificity: Annotated[
        float | None, typer.Option(help="Specificity that is anticipated; else it follows from AUROC and sensitivity.")
    ] = None,
    threshold: Annotated[
        float | None, typer.Option(help="The probability that the model decides from, for decisions and net benefit.")
    ] = None,
    auroc_width: Annotated[float | None, typer.Option(help="Width wished of AUROC's 95 % interval.")] = None,
    sensitivity_width: Annotated[float | None, typer.Option(help="Of sensitivity's.")] = None,
    specificity_width: Annotated[float | None, typer.Option(help="Of specificity's.")] = None,
    oe_width: Annotated[float | None, typer.Option(help="Of that of observed to expected cancers (O:E).")] = None,
    intercept_width: Annotated[float | None, typer.Option(help="Of the calibration intercept's.")] = None,
    slope_width: Annotated[float | None, typer.Option(help="Of the calibration slope's.")] = None,
    net_benefit_width: Annotated[
        float | None, typer.Option(help="Of that of net benefit divided by the prevalence.")
    ] = None,
    net_benefit_gain_width: Annotated[
        float | None, typer.Option(help="Of that of net benefit over the better of treating all and none.")
    ] = None,
    images_per_patient: Annotated[
        float | None, typer.Option(help="Mean number of images of a patient; 1, or as in the table.")
    ] = None,
    icc: Annotated[
        float | None, typer.Option(help="How log odds of two images of a patient are correlated, within a class.")
    ] = None,
    design_effect: Annotated[
        float | None, typer.Option(help="Instead of --icc: how many times the images of independent patients.")
    ] = None,
    patients: Annotated[
        int | None, typer.Option(min=1, help="That are available: how wide intervals will be with them.")
    ] = None,
    positive: Annotated[str, typer.Option(help="The positive class of the table.")] = "malignant",
    out: Annotated[Path | None, typer.Option(help="Folder for plan.json and plan.md.")] = None,
) -> None:
    """Say how many patients and cancers an evaluation needs until its 95 % intervals are as narrow as wished.

    Without a width, the usual ones are planned: 0.1 for AUROC, sensitivity and specificity, 0.2 for O:E, calibration
    slope and standardized net benefit. A figure of decisions needs --threshold, --sensitivity or --specificity.
    """
    from medsharp.evaluation.planning import make_plan, write_plan

    shares = {"prevalence": prevalence, "sensitivity": sensitivity, "specificity": specificity, "threshold": threshold}
    for name, value in shares.items():
        if value is not None and not 0 < value < 1:
            raise InputError(f"--{name} must lie between 0 and 1, without either, not {value:g}")
    if images_per_patient is not None and not 1 <= images_per_patient <= 10_000:
        raise InputError(f"--images-per-patient must be at least 1, not {images_per_patient:g}")
    if from_ is not None:
        stated = {
            "--auroc": auroc, "--sensitivity": sensitivity, "--specificity": specificity, "--icc": icc,
            "--design-effect": design_effect,
        }  # fmt: skip
        for option, value in stated.items():
            if value is not None:
                raise InputError(f"{option} and --from both say what is anticipated; give one of them")
        anticipated = _of_table(from_, positive, threshold, prevalence, images_per_patient)
    else:
        anticipated = _stated(
            auroc, prevalence, sensitivity, specificity, threshold, images_per_patient, icc, design_effect
        )
    wished = {
        "auroc": auroc_width,
        "sensitivity": sensitivity_width,
        "specificity": specificity_width,
        "oe": oe_width,
        "intercept": intercept_width,
        "slope": slope_width,
        "net_benefit": net_benefit_width,
        "net_benefit_gain": net_benefit_gain_width,
    }
    widths = {key: width for key, width in wished.items() if width is not None}
    made = make_plan(anticipated, widths, available=patients)
    _show(made, usual=not widths)
    if out is not None:
        for path in write_plan(out, made):
            note(f"written: {path}")


def _of_table(
    path: Path, positive: str, threshold: float | None, prevalence: float | None, images: float | None
) -> Anticipated:
    from medsharp.evaluation import read_predictions
    from medsharp.evaluation.frozen import stated_threshold
    from medsharp.evaluation.planning import from_predictions

    table = read_predictions(path, positive=positive)
    frozen = stated_threshold(table, path, positive, threshold)
    return from_predictions(table, path.name, positive=positive, frozen=frozen, prevalence=prevalence, images=images)


def _stated(
    auroc: float | None,
    prevalence: float | None,
    sensitivity: float | None,
    specificity: float | None,
    threshold: float | None,
    images: float | None,
    icc: float | None,
    design_effect: float | None,
) -> Anticipated:
    from medsharp.evaluation.planning import binormal

    if auroc is None or prevalence is None:
        raise InputError("a plan needs --auroc and --prevalence, or --from with a table of predictions")
    if not 0.5 < auroc < 1:
        raise InputError(
            f"--auroc must lie between 0.5 and 1, without either, not {auroc:g}: a model that ranks at chance has no "
            "calibration slope, and one that ranks perfectly no interval"
        )
    if icc is not None and design_effect is not None:
        raise InputError("--icc and --design-effect both say how alike a patient's images are; give one of them")
    several = images is not None and images > 1
    if several and icc is None and design_effect is None:
        raise InputError(
            f"--images-per-patient {images:g} needs --icc: 0 where images of a patient are as different as those of "
            "two, 1 where they are the same; medsharp plan --from estimates it from a table"
        )
    if (icc is not None or design_effect is not None) and not several:
        raise InputError("--icc and --design-effect are of several images a patient; give --images-per-patient above 1")
    if icc is not None and not 0 <= icc <= 1:
        raise InputError(f"--icc must lie in 0 to 1, not {icc:g}")
    if design_effect is not None and not (design_effect >= 1 and math.isfinite(design_effect)):
        raise InputError(f"--design-effect must be at least 1, not {design_effect:g}")
    return binormal(
        auroc,
        prevalence,
        sensitivity=sensitivity,
        specificity=specificity,
        threshold=threshold,
        images=images or 1.0,
        icc=icc or 0.0,
        design_effect=design_effect,
    )


def _show(made: Plan, usual: bool) -> None:
    from medsharp.evaluation.planning import answer, assumption_lines, cells, closed_forms, header

    table = Table(title="What each wish needs", title_justify="left", title_style="bold")
    for column in header(made):
        table.add_column(column, justify="left" if column == "figure" else "right")
    if made.available is not None:
        table.add_column(f"width with {made.available:,} patients", justify="right")
    for criterion in made.criteria:
        available = [] if criterion.width_available is None else [f"{criterion.width_available:.3g}"]
        table.add_row(*map(escape, [*cells(criterion), *available]), style="bold" if criterion == made.largest else "")
    console.print(table)
    heading(answer(made))
    for sentence in [*assumption_lines(made), closed_forms(made)]:
        note(sentence)
    if usual:
        note(
            "no width was given: these are the usual ones, or what fits; --auroc-width, --slope-width, ... plan others"
        )
    for sentence in made.warnings:
        warn(sentence)
