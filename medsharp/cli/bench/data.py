"""`medsharp bench data`: what reading, checking and feeding images costs on this machine."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from medsharp.cli._console import console, heading, note, progress_bar
from medsharp.errors import InputError
from medsharp.files import write_text

if TYPE_CHECKING:
    from medsharp.data.benchmark import Section


def data(
    images: Annotated[
        list[int] | None,
        typer.Option(min=2, max=5_000_000, help="Numbers of hashes to search for near-duplicates; may be repeated."),
    ] = None,
    crops: Annotated[
        list[str] | None,
        typer.Option(help="Data set whose images are cropped, and their crops looked for; may be repeated."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of what is made up to be measured.")] = 0,
    json_: Annotated[Path | None, typer.Option("--json", help="File for all figures.")] = None,
) -> None:
    """Measure the search for near-duplicates as the number of images grows."""
    from medsharp.data.benchmark import measure_crops, measure_duplicates
    from medsharp.data.sources import open_dataset

    if json_ is not None and json_.is_dir():
        raise InputError(f"--json {json_} is a folder; give a file")
    heading(f"Data on {os.cpu_count()} cores")
    with progress_bar() as report:
        sections = [measure_duplicates(images or (2_655, 26_550, 265_500), seed=seed, progress=report)]
        if crops:
            sections.append(measure_crops([open_dataset(name) for name in crops], seed=seed, progress=report))
    for section in sections:
        _show(section)
    if json_ is not None:
        write_text(json_, json.dumps([section.as_dict() for section in sections], indent=1) + "\n")


def _show(section: Section) -> None:
    table = Table(title=escape(section.title), title_justify="left", title_style="bold")
    for column in section.columns:
        table.add_column(column, justify="right")
    for row in section.rows:
        table.add_row(*map(escape, row))
    console.print(table)
    for sentence in section.notes:
        note(sentence)
