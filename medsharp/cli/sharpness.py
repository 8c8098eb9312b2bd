"""`medsharp sharpness`: how sharp the minima of runs are."""

from __future__ import annotations

import math
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from medsharp.cli._console import console, heading, note, progress_bar
from medsharp.errors import InputError, nearest


class Split(StrEnum):
    """Of a run's manifest."""

    train = "train"
    val = "val"
    test = "test"


class Precision(StrEnum):
    """In which sharpness is computed."""

    fp32 = "fp32"
    fp64 = "fp64"


def sharpness(
    runs: Annotated[list[Path], typer.Argument(help="Run folders that are trained to their end.")],
    out: Annotated[Path, typer.Option(help="Folder of the page, the figures and sharpness.json.")],
    split: Annotated[
        list[Split] | None, typer.Option(help="Images of the run; may be repeated. By default train and val.")
    ] = None,
    images: Annotated[
        int | None,
        typer.Option(min=2, help="How many of each split, each class in its share; at most 128 by default."),
    ] = None,
    m: Annotated[
        int | None, typer.Option("--m", min=1, help="Of m-sharpness; by default the run's batch size.")
    ] = None,
    rho: Annotated[
        list[str] | None,
        typer.Option(
            metavar="BALL=RADIUS", help="l2, adaptive-l2, filter-l2, linf or adaptive-linf, such as l2=0.1; repeated."
        ),
    ] = None,
    eigenvalues: Annotated[int, typer.Option(min=0, max=100, help="Largest of the Hessian; 0: none.")] = 3,
    tolerance: Annotated[float, typer.Option(min=1e-12, max=0.5, help="Relative, of the eigenvalues.")] = 1e-3,
    max_products: Annotated[int, typer.Option(min=1, help="With the Hessian, for the eigenvalues of a scale.")] = 40,
    draws: Annotated[int, typer.Option(min=0, help="For the trace, and pairs for the average case; 0: none.")] = 5,
    density: Annotated[int, typer.Option(min=0, help="Random vectors for the spectral density; 0: none.")] = 1,
    density_steps: Annotated[int, typer.Option(min=2, help="Products for each of them.")] = 20,
    steps: Annotated[int, typer.Option(min=0, help="Of the ascent to the worst case; 0: none.")] = 10,
    rescale: Annotated[
        float | None,
        typer.Option(help="Measure the same function with layers multiplied and divided by this factor, too."),
    ] = None,
    landscape: Annotated[
        int | None,
        typer.Option(
            metavar="POINTS",
            min=3,
            max=201,
            help="Draw the loss along random and top Hessian directions and on their planes, so many points a side.",
        ),
    ] = None,
    span: Annotated[float, typer.Option(min=1e-6, help="How far a landscape reaches to either side.")] = 1.0,
    between: Annotated[
        bool,
        typer.Option(
            "--between", help="Draw the lines between runs (with their barriers) and the plane through the first three."
        ),
    ] = False,
    batch: Annotated[int, typer.Option(min=1, help="Images at a time; changes no figure.")] = 32,
    precision: Annotated[Precision, typer.Option(help="In which to compute.")] = Precision.fp32,
    seed: Annotated[int, typer.Option(min=0, help="Of the choice of images and of random vectors.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or one GPU such as cuda:1.")] = "auto",
) -> None:
    """Measure the sharpness of the minima that runs came to: Hessian, worst and average rise of the loss nearby.

    By the run's own loss without augmentation, on images of its own manifest, with batch norm in evaluation mode.
    Docs: docs/sharpness.md.
    """
    from training.reproducibility import deterministic_on_cpu
    from training.sharpness import Measures, measure_runs, write_sharpness

    if rescale is not None and not (0 < rescale < math.inf and rescale != 1):
        raise InputError(f"--rescale {rescale}: must be more than 0, and not 1")
    how = Measures(
        largest=eigenvalues,
        smallest=min(1, eigenvalues),
        tolerance=tolerance,
        max_products=max_products,
        trace_draws=draws,
        average_draws=draws,
        density_vectors=density,
        density_steps=density_steps,
        ascent_steps=steps,
        radii=_radii(rho or []),
        seed=seed,
    )
    chosen = _device(device)
    heading(f"Sharpness of {len(runs)} run{'s' * (len(runs) != 1)}, one of {chosen}")
    with progress_bar() as report, deterministic_on_cpu(chosen):
        document = measure_runs(
            runs,
            splits=[each.value for each in dict.fromkeys(split or [Split.train, Split.val])],
            images=images,
            batch=batch,
            measures=how,
            micro_batch=m,
            rescale=rescale,
            landscape=landscape,
            span=span,
            between=between,
            precision=precision.value,
            device=chosen,
            progress=lambda name: lambda done, total, what: report(done, total, f"{name}: {what}"),
        )
    written = write_sharpness(out, document)
    _show(document)
    console.print(f"page: [bold]{escape(str(written[-1]))}[/]", soft_wrap=True)


def _radii(given: list[str]) -> dict[str, float]:
    from training.sharpness import BALLS

    radii = {}
    for pair in given:
        ball, _, text = pair.partition("=")
        if ball not in BALLS:
            raise InputError(f"--rho {pair}: unknown ball '{ball}'{nearest(ball, BALLS)}")
        try:
            radii[ball] = float(text)
        except ValueError:
            raise InputError(f"--rho {pair}: '{text}' is not a number") from None
        if not 0 < radii[ball] < math.inf:
            raise InputError(f"--rho {pair}: must be more than 0 and finite")
    return radii


def _device(name: str) -> Any:
    from medsharp.config import check_device
    from training.reproducibility import select_device

    try:
        check_device(name)
        return select_device(name)
    except ValueError as error:
        raise InputError(str(error).replace("run.device = ", "--device ")) from error


def _show(document: dict[str, Any]) -> None:
    from training.sharpness.page import cautions

    for place in range(len(document["runs"][0]["splits"])):
        entries = [(run["name"], run["splits"][place]) for run in document["runs"]]
        console.print(_table(entries))
        for name, entry in entries:
            cost = entry["measures"]["cost"]
            units = "-" if cost["units"] is None else f"{cost['units']:.0f}"
            note(f"{name}: {units} forward and backward passes over {entry['images']} images, {cost['seconds']:.0f} s")
            for sentence in cautions(entry["measures"]):
                note(f"{name}: {sentence}")
    for run in document["runs"]:
        rescaled = run["splits"][0].get("rescaled")
        if rescaled is not None:
            _show_rescaled(run["name"], rescaled)
    for path in (document["between"] or {"paths": []})["paths"]:
        note(f"{path['first']} to {path['second']}: barrier {path['barrier']:.4g} on the line between them")


def _table(entries: list[tuple[str, dict[str, Any]]]) -> Table:
    from training.sharpness.page import rows_of

    first = entries[0][1]
    smoothing = first["loss"]["label_smoothing"]
    table = Table(
        title=f"split {first['split']}: {first['loss']['name']}, label smoothing {smoothing:g}, no augmentation",
        title_justify="left",
    )
    table.add_column("measure")
    for name, entry in entries:
        table.add_column(escape(f"{name} ({entry['images']} of {entry['available']} images)"))
    columns = [dict(rows_of(entry["measures"])) for _, entry in entries]
    for label in dict.fromkeys(label for column in columns for label in column):
        table.add_row(label, *(column.get(label, "-") for column in columns))
    return table


def _show_rescaled(name: str, rescaled: dict[str, Any]) -> None:
    from training.sharpness.page import number

    factor, pairs = rescaled["factor"], rescaled["pairs"]
    if not pairs:
        note(f"{name}: no two layers can be rescaled without a change of the function; that takes a ReLU between them")
        return
    title = f"{name}: the same function, layers multiplied and divided by {factor:g}: measures change by a factor of"
    table = Table(title=title, title_justify="left")
    table.add_column("measure")
    table.add_column("factor", justify="right")
    for key, ratio in rescaled["ratios"].items():
        table.add_row(key, number(ratio))
    console.print(table)
