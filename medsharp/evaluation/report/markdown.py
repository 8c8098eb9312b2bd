"""Blocks as Markdown (GitHub's, for its tables), without drawings and pictures, with every name escaped."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import zip_longest
from typing import Any

from medsharp.evaluation.report.blocks import (
    Block,
    Bullets,
    Cell,
    Facts,
    Flow,
    Fold,
    Heading,
    Line,
    Notice,
    Page,
    Picture,
    Plot,
    Plots,
    Section,
    Span,
    Step,
    Table,
    Text,
    Value,
    plain_text,
)

_SPECIAL = str.maketrans({mark: f"\\{mark}" for mark in "\\`*_[]|#~"} | {"<": "&lt;", ">": "&gt;", "&": "&amp;"})
_MARKS = {"strong": "**", "emphasis": "*", "soft": "", "code": ""}


def as_markdown(page: Page) -> str:
    """Return a page as Markdown."""
    lines = [f"# {safe(page.heading)}", ""]
    for notice in page.notices:
        lines += [text_of(notice.line), ""]
    lines += [safe(page.about), ""] if page.about else []
    for block in page.blocks:
        lines += _lines(block, 1)
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).rstrip() + "\n"


def safe(text: Any) -> str:
    """Escape what Markdown or HTML would take for markup; a line stays a line."""
    return re.sub(r"\s*[\r\n\t]\s*", " ", str(text)).strip(" ").translate(_SPECIAL)


def text_of(line: Line) -> str:
    """Return running text as Markdown."""
    if isinstance(line, str):
        return safe(line)
    return "".join(_span(part) for part in line).strip()


def table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> list[str]:
    """Return the lines of a table of text and an empty one."""
    lines = ["| " + " | ".join(map(safe, header)) + " |", "|" + "---|" * len(header)]
    return [*lines, *("| " + " | ".join(map(safe, row)) + " |" for row in rows), ""]


def bullets(texts: Iterable[Line]) -> list[str]:
    """Return the lines of a list."""
    return [f"- {text_of(text)}" for text in texts]


def _span(part: str | Span) -> str:
    # Blanks at the ends are kept: those of a part that stands between two others tell words apart.
    text = re.sub(r"\s*[\r\n\t]\s*", " ", part if isinstance(part, str) else part.text).translate(_SPECIAL)
    mark = _MARKS[part.style] if isinstance(part, Span) and part.style else ""
    return f"{mark}{text}{mark}" if text.strip() else text


def _cell(cell: Cell) -> str:
    if cell is None or isinstance(cell, Picture):
        return ""
    if not isinstance(cell, Value):
        return text_of(cell)
    if not cell.value:
        return safe(f"- ({cell.reason})" if cell.reason else "-")
    more = f" [{cell.limits}]" if cell.limits else f" ({cell.reason})" if cell.reason else ""
    return safe(cell.value + more)


def _lines(block: Block, level: int) -> list[str]:
    """Return the lines of a block; `level` is that of the heading it stands below."""
    match block:
        case Heading():
            return [f"{'#' * block.level} {safe(block.text)}", ""]
        case Text():
            return [text_of(block.line), ""]
        case Notice():
            return [f"> {text_of(block.line)}", ""]
        case Bullets():
            return [*bullets(block.lines), ""]
        case Facts():
            return ["| | |", "|---|---|", *(f"| {safe(name)} | {text_of(text)} |" for name, text in block.rows), ""]
        case Table():
            return _table(block)
        case Plot():
            return _plot(block, level)
        case Plots():
            return [line for plot in block.plots for line in _plot(plot, level)]
        case Flow():
            return [*(line for step in (*block.steps, *block.split) for line in _step(step)), ""]
        case Fold():
            return _titled(block.title, safe(block.title + block.summary), block.blocks, level + 1)
        case Section():
            above = safe(f"{block.title} ({block.above})" if block.above else block.title)
            return _titled(block.title, above, block.blocks, 2)


def _titled(title: str, said: str, blocks: Sequence[Block], level: int) -> list[str]:
    lines = [f"{'#' * level} {said}", ""]
    for block in blocks:
        lines += _lines(block, level)
        level = block.level if isinstance(block, Heading) else level
    return lines


def _table(block: Table) -> list[str]:
    columns = block.columns()
    shown = [place for place, column in enumerate(columns) if not column.pictures]
    noted = any(row.note for row in block.lines())
    header = [f"{columns[place].name} ({columns[place].note})" if columns[place].note else columns[place].name
              for place in shown]  # fmt: skip
    lines = [f"**{safe(block.caption)}**", ""] if block.captioned and block.caption else []
    head = [safe(name) for name in header] + (["Meaning"] if noted else [])
    lines += ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for row in block.lines():
        filled = list(zip_longest(columns, row.cells))
        cells = [_cell(filled[place][1]) for place in shown]
        if row.kind == "head":
            cells[0] = f"**{cells[0]}**"
        lines.append("| " + " | ".join(cells + ([safe(row.note)] if noted else [])) + " |")
    return [*lines, ""]


def _plot(plot: Plot, level: int) -> list[str]:
    if not (plot.blocks or plot.numbers or plain_text(plot.caption)):
        return []  # a drawing alone
    lines = [f"{'#' * (level + 1)} {safe(plot.title)}", ""] if plot.title else []
    for block in plot.blocks:
        lines += _lines(block, level + 1)
    lines += [text_of(plot.caption), ""] if plain_text(plot.caption) else []
    return lines + (_table(plot.numbers) if plot.numbers else [])


def _step(step: Step) -> list[str]:
    return [f"- {safe(plain_text(step.line))}", *(f"  - {text_of(note)}" for note in step.notes)]
