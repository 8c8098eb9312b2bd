"""`medsharp bench images`: damaged image files, each of which must end in an image or in one error, soon."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from medsharp.cli._console import console, errors, note, progress_bar
from medsharp.cli.bench._output import JsonFile, check_json, write_json
from medsharp.errors import InputError, nearest
from medsharp.files import atomic_path
from medsharp.progress import rate_text

if TYPE_CHECKING:
    from medsharp.images.fuzz import Outcome


def images(
    kind: Annotated[
        list[str] | None, typer.Option("--format", help="Such as png or dicom-jpeg-ls; may be repeated. Default: all.")
    ] = None,
    files: Annotated[int, typer.Option(min=1, max=10_000_000, help="Mutated files of each format.")] = 10_000,
    seconds: Annotated[float, typer.Option(min=0.01, help="That one file may take.")] = 2.0,
    megabytes: Annotated[int, typer.Option(min=256, help="MiB of address space that the reading process has.")] = 1024,
    seed: Annotated[int, typer.Option(min=0, help="Of the mutations.")] = 0,
    keep: Annotated[Path | None, typer.Option(help="Folder for the files that ended otherwise.")] = None,
    json_: JsonFile = None,
) -> None:
    """Read mutated image files in a child process whose time and memory the system limits.

    Each must end in an image or in one named error. Exit code 0: all did; 1: some did not, and are listed.
    """
    from medsharp.images.fuzz import FORMATS, run_campaign

    kinds = kind or list(FORMATS)
    for name in kinds:
        if name not in FORMATS:
            raise InputError(f"--format {name}{nearest(name, FORMATS)}")
    check_json(json_)
    table = Table()
    table.add_column("format", no_wrap=True)
    for title in ("files", "images", "errors", "other", "slowest, ms", "peak, MiB", "files/s"):
        table.add_column(title, justify="right")
    outcomes: list[Outcome] = []
    with progress_bar() as report:
        for name in dict.fromkeys(kinds):
            start = time.perf_counter()
            outcome = run_campaign(name, files, seed=seed, seconds=seconds, memory=megabytes * 2**20, progress=report)
            outcomes.append(outcome)
            table.add_row(*_cells(outcome), rate_text(files / (time.perf_counter() - start)))
    console.print(table)
    note(
        f"limits: {seconds:g} s a file, {megabytes} MiB of address space, enforced on the reading process; seed {seed}"
    )
    write_json(json_, [outcome.as_dict() for outcome in outcomes])
    _report_trouble(outcomes, seed, keep)


def _cells(outcome: Outcome) -> list[str]:
    otherwise = len(outcome.trouble)
    return [
        outcome.kind,
        f"{outcome.files:,}",
        f"{outcome.images:,}",
        f"{outcome.files - outcome.images - otherwise:,}",
        f"{otherwise:,}",
        f"{1000 * outcome.slowest:.0f}",
        f"{outcome.peak / 2**20:.0f}",
    ]


def _report_trouble(outcomes: list[Outcome], seed: int, keep: Path | None) -> None:
    from medsharp.images.fuzz import case_file

    found = [(outcome.kind, trouble) for outcome in outcomes for trouble in outcome.trouble]
    for kind, trouble in found:
        errors.print(f"[bold red]{kind}, file {trouble.case}:[/] {trouble.what}", soft_wrap=True)
        if keep is not None:
            with atomic_path(keep / f"{kind}-{seed}-{trouble.case}") as temporary:
                temporary.write_bytes(case_file(kind, seed, trouble.case))
    if found:
        raise typer.Exit(1)
