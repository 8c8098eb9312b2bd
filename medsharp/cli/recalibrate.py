"""`medsharp recalibrate`: a bundle updated on local data, as a new bundle with its lineage."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from medsharp.cli._console import DEVICE_HELP, LIMIT_HELP, RANGE_HELP, console, heading, note, progress_bar, warn
from medsharp.cli._data_options import CLASS_HELP, LABEL_FROM_HELP, SOURCE_HELP, rule_of, sources_of
from medsharp.quantities import counted, whole

if TYPE_CHECKING:
    from medsharp.bundle import BundleSpec, Update


class UpdateKind(StrEnum):
    """What is updated."""

    auto = "auto"
    none = "none"
    intercept = "intercept"
    slope = "slope"
    threshold = "threshold"


def recalibrate(
    bundle: Annotated[Path, typer.Argument(help="Bundle folder; it stays as it is.")],
    data: Annotated[str, typer.Option(help="Local data: a manifest or data set folder, with labels.")],
    out: Annotated[Path, typer.Option(help="Folder of the updated bundle, which must not exist.")],
    update: Annotated[
        UpdateKind,
        typer.Option(
            help="auto: a closed test chooses none, intercept, or slope (intercept and slope); threshold: that alone."
        ),
    ] = UpdateKind.auto,
    share: Annotated[
        float, typer.Option(help="Share of the images, by patients, that the update is estimated on.")
    ] = 0.5,
    seed: Annotated[int, typer.Option(min=0, help="Of the choice of patients and of the resamples.")] = 0,
    sensitivity: Annotated[
        float | None,
        typer.Option(help="What the new threshold reaches on the calibration part; default: as the bundle's rule."),
    ] = None,
    record: Annotated[
        Path | None,
        typer.Option(help="Folder for parts.csv, predictions and recalibration.json; default: OUT-record."),
    ] = None,
    source: Annotated[str | None, typer.Option(help=SOURCE_HELP)] = None,
    label_from: Annotated[str | None, typer.Option(metavar="COLUMN", help=LABEL_FROM_HELP)] = None,
    malignant: Annotated[str | None, typer.Option(metavar="VALUES", help=CLASS_HELP.format(name="malignant"))] = None,
    benign: Annotated[str | None, typer.Option(metavar="VALUES", help=CLASS_HELP.format(name="benign"))] = None,
    resamples: Annotated[int, typer.Option(min=100, max=100_000, help="Bootstrap resamples of patients.")] = 2000,
    device: Annotated[str, typer.Option(help=DEVICE_HELP)] = "auto",
    limit: Annotated[list[str] | None, typer.Option(help=LIMIT_HELP)] = None,
    value_range: Annotated[str | None, typer.Option("--range", metavar="LOW,HIGH", help=RANGE_HELP)] = None,
) -> None:
    """Update a bundle's intercept, slope or threshold on some local patients, and measure it on the others.

    Who is in which part is drawn, written and hashed before any image is predicted.
    """
    from medsharp.config import read_limits
    from medsharp.errors import InputError
    from medsharp.images import read_range
    from medsharp.inference import Predictor
    from medsharp.inference.external import open_external
    from medsharp.recalibration import check_parent, check_share, recalibrate_bundle

    # Before hashes of all images are computed.
    check_share(share)
    if out.exists():
        raise InputError(f"{out} exists already; an update is a new bundle: choose another --out")
    declared = None if value_range is None else read_range(value_range, "--range")
    predictor = Predictor.load(bundle, device=device, limits=read_limits(limit or ()), value_range=declared)
    check_parent(predictor.spec, update.value, sensitivity)
    rule = rule_of(label_from, malignant, benign)
    heading(f"Reading {data}")
    with progress_bar() as report:
        (chosen,) = sources_of([source] if source else None, [data])
        manifest = open_external(data, predictor, source=chosen, rule=rule, progress=report)
    for sentence in manifest.notes:
        note(sentence)
    heading(f"Updating {bundle}")
    with progress_bar() as report:
        result = recalibrate_bundle(
            predictor,
            manifest,
            out,
            record or out.with_name(f"{out.name}-record"),
            wish=update.value,
            share=share,
            seed=seed,
            sensitivity=sensitivity,
            resamples=resamples,
            progress=report,
        )
    for sentence in result.notes:
        warn(sentence)
    _tell(result.spec, result.update)
    console.print(f"bundle: [bold]{escape(str(out))}[/]", soft_wrap=True)


def _tell(spec: BundleSpec, update: Update) -> None:
    """Print the parts, the tests, what was changed, and the figures before and after."""
    from medsharp.evaluation.statistics.registry import names_of

    for name, part in (("calibration", update.calibration), ("evaluation", update.evaluation)):
        images = f"{counted(part.images, 'image')} ({whole(part.positives)} {spec.positive})"
        note(f"{name} part: {images} of {counted(part.patients, 'patient or group', 'patients or groups')}")
    note(f"parts.csv, written before any prediction: SHA-256 {update.parts}")
    for test in update.tests:
        note(test.sentence())
    console.print(escape(update.sentence()), soft_wrap=True)
    point = spec.operating_point
    strays = "" if point.interval is None else f" (95 % interval {point.interval[0]:.4f} to {point.interval[1]:.4f})"
    note(f"threshold {update.parent_point.threshold:.4f} before, {point.threshold:.4f}{strays} now")
    title = f"On the evaluation part of {update.dataset}, 95 % intervals. Not for diagnostic use"
    table = Table(title=title, title_justify="left", title_style="bold")
    for head in ("figure", "before", "after", "after minus before"):
        table.add_column(head)
    for key, label in names_of(update.before).items():
        table.add_row(label, *(str(figures[key]) for figures in (update.before, update.after, update.change)))
    console.print(table)
