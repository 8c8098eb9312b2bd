"""`medsharp bench planning`: whether evaluations of the planned size have intervals of the wished width."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from medsharp.cli._console import console, note, progress_bar
from medsharp.errors import InputError
from medsharp.files import write_text

if TYPE_CHECKING:
    from medsharp.evaluation.planning.simulation import Kept

COLUMNS = ("figure", "patients", "width wished", "mean width", "ratio", "holds the truth")


def planning(
    evaluations: Annotated[int, typer.Option(min=10, max=100_000, help="Simulated, for each figure.")] = 400,
    resamples: Annotated[int, typer.Option(min=100, max=100_000, help="Of patients, in each.")] = 1000,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    json_: Annotated[Path | None, typer.Option("--json", help="File for all figures.")] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the tables as Markdown.")] = False,
) -> None:
    """Simulate evaluations of as many patients as `medsharp plan` says, and measure their intervals."""
    from dataclasses import asdict

    from medsharp.evaluation.planning.simulation import SETTINGS, simulate

    if json_ is not None and json_.is_dir():
        raise InputError(f"--json {json_} is a folder; give a file")
    values = []
    for setting in SETTINGS:
        with progress_bar() as report:
            found = simulate(setting, evaluations=evaluations, resamples=resamples, seed=seed, progress=report)
        _show(str(setting), [_cells(kept) for kept in found], markdown)
        values += [asdict(kept) for kept in found]
    note(f"a share that holds the truth has a standard error of {(0.95 * 0.05 / evaluations) ** 0.5:.3f}")
    if json_ is not None:
        write_text(json_, json.dumps(values, indent=1) + "\n")


def _cells(kept: Kept) -> tuple[str, ...]:
    wished = kept.criterion.width
    return (
        kept.criterion.name,
        f"{kept.criterion.patients:,}",
        f"{wished:g}",
        f"{kept.width:.4f}",
        f"{kept.width / wished:.3f} ± {kept.error / wished:.3f}",
        f"{kept.covered:.3f}",
    )


def _show(title: str, rows: list[tuple[str, ...]], markdown: bool) -> None:
    if markdown:
        typer.echo(f"\n{title}\n")
        for line in (COLUMNS, ["---"] * len(COLUMNS), *rows):
            typer.echo(f"| {' | '.join(line)} |")
        return
    table = Table(title=escape(title), title_justify="left", title_style="bold")
    for column in COLUMNS:
        table.add_column(column)
    for row in rows:
        table.add_row(*map(escape, row))
    console.print(table)
