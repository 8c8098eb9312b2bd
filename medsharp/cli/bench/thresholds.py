"""`medsharp bench thresholds`: which way of choosing an operating point carries over to a hospital left out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from medsharp.cli._console import console, heading, note
from medsharp.cli.bench._output import JsonFile, check_json, write_json

if TYPE_CHECKING:
    from training.crossvalidation.carrying_over import Carried


def thresholds(
    folder: Annotated[Path, typer.Argument(help="Of medsharp crossvalidate --by site, finished.")],
    sensitivity: Annotated[float, typer.Option(min=0.5, max=1, help="That is aimed for.")] = 0.95,
    seed: Annotated[int, typer.Option(min=0, help="Of the resampling of patients.")] = 0,
    json_: JsonFile = None,
) -> None:
    """Choose thresholds in seven ways on out-of-fold predictions, and apply each to the hospital that was left out."""
    from training.crossvalidation.carrying_over import carry_over
    from training.crossvalidation.thresholds import read_scores

    check_json(json_)
    heading(f"Operating points for a sensitivity of {sensitivity:g}, carried over to hospitals left out")
    found = {
        site: carry_over(deciding, left_out, sensitivity, seed=seed)
        for site, (deciding, left_out) in read_scores(folder).items()
    }
    for site, rows in found.items():
        console.print(_table(site, rows))
    note("* looks at the hospital's images, without their labels; one image by itself cannot be decided so")
    write_json(json_, {site: [row.as_dict() for row in rows] for site, rows in found.items()})


def _table(site: str, rows: list[Carried]) -> Table:
    table = Table(title=escape(f"{site} left out"), title_justify="left", title_style="bold")
    for column in ("rule", "threshold", "sensitivity (95 % interval)", "specificity (95 % interval)"):
        table.add_column(column)
    for row in rows:
        table.add_row(
            row.rule + (" *" if row.unlabelled else ""),
            "" if row.threshold is None else f"{row.threshold:.3f}",
            *("{:.3f} ({:.3f} to {:.3f})".format(*rate) for rate in (row.sensitivity, row.specificity)),
        )
    return table
