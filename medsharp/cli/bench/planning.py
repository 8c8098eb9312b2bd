"""`medsharp bench planning`: whether evaluations of the planned size have intervals of the wished width."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from medsharp.cli._console import note, progress_bar
from medsharp.cli.bench._output import JsonFile, check_json, show_table, write_json

if TYPE_CHECKING:
    from medsharp.evaluation.planning.simulation import Kept

COLUMNS = ("figure", "patients", "width wished", "mean width", "ratio", "holds the truth")


def planning(
    evaluations: Annotated[int, typer.Option(min=10, max=100_000, help="Simulated, for each figure.")] = 400,
    resamples: Annotated[int, typer.Option(min=100, max=100_000, help="Of patients, in each.")] = 1000,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    json_: JsonFile = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the tables as Markdown.")] = False,
) -> None:
    """Simulate evaluations of as many patients as `medsharp plan` says, and measure their intervals."""
    from dataclasses import asdict

    from medsharp.evaluation.planning.simulation import SETTINGS, simulate

    check_json(json_)
    values = []
    for setting in SETTINGS:
        with progress_bar() as report:
            found = simulate(setting, evaluations=evaluations, resamples=resamples, seed=seed, progress=report)
        show_table(COLUMNS, [_cells(kept) for kept in found], title=str(setting), markdown=markdown)
        values += [asdict(kept) for kept in found]
    note(f"a share that holds the truth has a standard error of {(0.95 * 0.05 / evaluations) ** 0.5:.3f}")
    write_json(json_, values)


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
