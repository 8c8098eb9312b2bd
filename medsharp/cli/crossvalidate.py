"""`medsharp crossvalidate`: every fold trained, one evaluation with each hospital or fold left out once."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from medsharp.cli._console import (
    CPUS_HELP,
    GPUS_HELP,
    RAY_HELP,
    console,
    errors,
    heading,
    interval,
    note,
    progress_bar,
)
from medsharp.cli._data_options import SOURCE_HELP, announce_data, data_overrides

if TYPE_CHECKING:
    from medsharp.data.manifest import Manifest
    from training.crossvalidation import Crossvalidation


class LeaveOut(StrEnum):
    """What is left out once: `training.crossvalidation.By`."""

    site = "site"
    fold = "fold"
    patient = "patient"


def crossvalidate(
    config: Annotated[Path, typer.Argument(help="YAML file of what all members share; docs/configuration.md.")],
    by: Annotated[
        LeaveOut,
        typer.Option(
            help="site: each hospital is left out once, by as many members as there are folds; fold: each of K folds; "
            "patient: the same, where every patient is known."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder of the runs and results; a second start goes on there.")],
    data: Annotated[
        list[str] | None, typer.Option(help="As of medsharp train; once for each hospital. Without it: data.path.")
    ] = None,
    source: Annotated[
        list[str] | None, typer.Option(help=SOURCE_HELP + " Once for all, or once for each --data.")
    ] = None,
    folds: Annotated[int | None, typer.Option(min=2, max=20, help="In place of data.folds.")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Such as optimizer.lr=3e-4; may be repeated.")
    ] = None,
    devices: Annotated[
        str, typer.Option(help="One in place of run.device, or several, a process each: cuda:0,cuda:1.")
    ] = "",
    sensitivity: Annotated[
        float, typer.Option(min=0.5, max=1.0, help="That operating points reach on the images that they are chosen on.")
    ] = 0.95,
    ray: Annotated[str | None, typer.Option(metavar="[ADDRESS]", help=RAY_HELP)] = None,
    gpus_each: Annotated[float | None, typer.Option(min=0, help=GPUS_HELP)] = None,
    cpus_each: Annotated[int | None, typer.Option(min=1, help=CPUS_HELP)] = None,
) -> None:
    """Train every fold as a run of its own, pool what each leaves out, and evaluate it.

    Temperature and threshold of each hospital left out come from the others alone. A fold that fails does not stop the
    rest; it is listed at the end, and tried again by the same command.
    """
    from medsharp.cli._crossvalidation_progress import CrossvalidationProgress
    from medsharp.cli._pieces import pieces_on
    from medsharp.config import load_config
    from training.crossvalidation import crossvalidate as run

    settings = load_config(config, [*(set_ or []), *data_overrides(data, source)])
    chosen = [device.strip() for device in devices.split(",") if device.strip()]
    announce_data(settings)

    pieces = pieces_on(ray, gpus_each, cpus_each, devices)
    with ExitStack() as opening, pieces as hand_out, CrossvalidationProgress() as training:
        report = opening.enter_context(progress_bar())

        def events(event: dict[str, Any]) -> None:
            if event["kind"] == "crossvalidation":
                opening.close()  # one bar at a time
                heading(f"Training {settings.network.name} with {settings.optimizer.name}, into {out}")
            training(event)

        result = run(
            settings,
            out=out,
            by=by.value,
            folds=folds,
            sensitivity=sensitivity,
            devices=chosen,
            hand_out=hand_out,
            events=events,
            progress=report,
            opened=_tell_notes,
        )
    if result.failures:
        _tell_failures(result)
        raise typer.Exit(2)
    console.print(_table(result))
    for path in result.written:
        note(str(path))


def _tell_notes(manifest: Manifest) -> None:
    for sentence in manifest.notes:
        note(sentence)


def _tell_failures(result: Crossvalidation) -> None:
    count = len(result.failures)
    errors.print(f"[bold red]error:[/] {count} of {len(result.members)} members failed; nothing is pooled yet:")
    for failure in result.failures:
        errors.print(f"  {escape(failure.name)}: {escape(failure.sentence)}", soft_wrap=True)


def _table(result: Crossvalidation) -> Table:
    """Lay out the figures of each hospital and of all, with the mean of single members beside them."""
    from medsharp.evaluation.statistics.registry import names_of

    table = Table(title="Each left out once", title_justify="left", title_style="bold")
    table.add_column("figure (95 % interval)")
    contents = [evaluation.as_dict() for evaluation in result.evaluations]
    for content in contents:
        table.add_column(escape(content["name"]))
    areas = {unit.left_out: unit.members_auroc for unit in result.units if unit.left_out}
    areas[contents[-1]["name"]] = tuple(area for unit in result.units for area in unit.members_auroc)
    rows = {
        "images": [str(content["counts"]["images"]) for content in contents],
        "AUROC": [interval(content["figures"].get("auroc")) for content in contents],
        "mean AUROC of single members": [_mean(areas.get(content["name"], ())) for content in contents],
    }
    for key, label in names_of(("calibration_slope", "calibration_intercept", "sensitivity", "specificity")).items():
        rows[label.lower()] = [interval(content["figures"].get(key)) for content in contents]
    for label, cells in rows.items():
        table.add_row(label, *cells)
    return table


def _mean(areas: Sequence[float]) -> str:
    return f"{sum(areas) / len(areas):.3f} ({min(areas):.3f} to {max(areas):.3f})" if areas else "-"
