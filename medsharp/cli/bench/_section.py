"""Showing what a benchmark of data found."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

from medsharp.cli._console import console, note

if TYPE_CHECKING:
    from medsharp.data.benchmark import Section


def show_section(section: Section) -> None:
    """Print a section as a table with its notes below."""
    table = Table(title=escape(section.title), title_justify="left", title_style="bold")
    for column in section.columns:
        table.add_column(column, justify="right")
    for row in section.rows:
        table.add_row(*map(escape, row))
    console.print(table)
    for sentence in section.notes:
        note(sentence)
