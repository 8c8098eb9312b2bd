"""What benchmarks do with what they found: a table on the console or as Markdown, and a file of all figures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from medsharp.cli._console import console, note
from medsharp.errors import InputError
from medsharp.files import write_text

if TYPE_CHECKING:
    from medsharp.data.benchmark import Section

JsonFile = Annotated[Path | None, typer.Option("--json", help="File for all figures.")]


def check_json(path: Path | None) -> None:
    """Refuse a folder, before anything is measured.

    Raises:
        InputError: It is one.
    """
    if path is not None and path.is_dir():
        raise InputError(f"--json {path} is a folder; give a file")


def write_json(path: Path | None, values: Any) -> None:
    """Write all figures, if a file was named for them."""
    if path is not None:
        write_text(path, json.dumps(values, indent=1) + "\n")


def show_table(
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    title: str = "",
    markdown: bool = False,
    numbers: bool = False,
) -> None:
    """Print a table.

    Args:
        columns: Its header.
        rows: Cells.
        title: Stands above.
        markdown: Print it as Markdown.
        numbers: Whether columns are set to the right; on the console alone.
    """
    if markdown:
        if title:
            typer.echo(f"\n{title}\n")
        for line in (columns, ["---"] * len(columns), *rows):
            typer.echo(f"| {' | '.join(line)} |")
        return
    table = Table(title=escape(title) or None, title_justify="left", title_style="bold")
    for column in columns:
        table.add_column(column, justify="right" if numbers else "left")
    for row in rows:
        table.add_row(*map(escape, row))
    console.print(table)


def show_section(section: Section) -> None:
    """Print a section of a benchmark of data as a table with its notes below."""
    show_table(section.columns, section.rows, title=section.title, numbers=True)
    for sentence in section.notes:
        note(sentence)
