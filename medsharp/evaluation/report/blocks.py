"""What a page is made of; `html` and `markdown` show the same blocks, so that neither says what the other does not."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

Style = Literal["strong", "soft", "emphasis", "code"]


@dataclass(frozen=True)
class Span:
    """A part of a line that looks otherwise, or leads to a section.

    Attributes:
        text: What is said.
        style: How it looks.
        target: The `id` of the section of this page that it leads to.
    """

    text: str
    style: Style | None = None
    target: str = ""


Line = str | tuple[str | Span, ...]
"""Running text."""


def strong(text: str) -> Span:
    """Return text that stands out."""
    return Span(text, "strong")


def soft(text: str) -> Span:
    """Return text that stands back."""
    return Span(text, "soft")


def plain_text(line: Line) -> str:
    """Return the words of a line."""
    return line if isinstance(line, str) else "".join(part if isinstance(part, str) else part.text for part in line)


def joined(lines: Iterable[Line], between: str = " ") -> Line:
    """Return several lines as one, with something between them."""
    parts: list[str | Span] = []
    for line in lines:
        parts += [between] if parts else []
        parts += [line] if isinstance(line, str) else list(line)
    return tuple(parts)


@dataclass(frozen=True)
class Value:
    """A figure in a cell.

    Attributes:
        value: As it is written; empty where there is none.
        limits: Of its interval.
        reason: Why there is no value, or no interval.
    """

    value: str
    limits: str = ""
    reason: str = ""


@dataclass(frozen=True)
class Picture:
    """An image in a cell, as a data URI; on the HTML page alone."""

    source: str


Cell = Line | Value | Picture | None
"""None is an empty cell."""


@dataclass(frozen=True)
class Column:
    """The head of a column.

    Attributes:
        name: What it holds.
        note: Smaller, below it.
        number: Its cells are numbers, and stand at the right.
        pictures: Its cells are pictures; Markdown leaves it out.
    """

    name: str
    note: str = ""
    number: bool = False
    pictures: bool = False


@dataclass(frozen=True)
class Row:
    """A row of a table; the last cell of a short one reaches to the end.

    Attributes:
        cells: The first says what the row is of.
        note: What that means; below it, or in a column of its own.
        kind: `head` for a row that names those below it, `change` for one that belongs to the row above, `open` for
            one that stands back.
    """

    cells: Sequence[Cell]
    note: str = ""
    kind: Literal["", "head", "change", "open"] = ""


@dataclass(frozen=True)
class Heading:
    """A heading; a section has one already."""

    text: str
    level: int = 2


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    line: Line
    kind: Literal["", "soft", "lead", "role", "verdict"] = ""


@dataclass(frozen=True)
class Notice:
    """What must not be overlooked; an alarm says that the figures do not mean what they seem to.

    Attributes:
        line: What is said.
        alarm: Whether the figures do not mean what a reader takes them for.
        role: For those who hear the page: `note`, or `alert` to be told at once.
    """

    line: Line
    alarm: bool = False
    role: Literal["", "note", "alert"] = ""


@dataclass(frozen=True)
class Bullets:
    """A list."""

    lines: Sequence[Line]
    soft: bool = False


@dataclass(frozen=True)
class Facts:
    """Names, and what is known of each."""

    rows: Sequence[tuple[str, Line]]
    small: bool = False


@dataclass(frozen=True)
class Table:
    """A table; its first column says what each row is of.

    Attributes:
        caption: What it shows.
        header: Of each column.
        rows: As many cells as the header has, or fewer.
        kind: Classes of the style sheet.
        captioned: Whether the caption is seen, or only told to those who cannot see the table.
        scrolls: Whether a narrow screen may move it sideways.
    """

    caption: str
    header: Sequence[str | Column]
    rows: Sequence[Row | Sequence[Cell]]
    kind: str = ""
    captioned: bool = True
    scrolls: bool = True

    def columns(self) -> list[Column]:
        """Return the header's columns."""
        return [Column(name) if isinstance(name, str) else name for name in self.header]

    def lines(self) -> list[Row]:
        """Return the rows."""
        return [row if isinstance(row, Row) else Row(row) for row in self.rows]


@dataclass(frozen=True)
class Plot:
    """A drawing, or what stands in the place of one.

    Attributes:
        caption: What it tells.
        draw: Makes the SVG, where a format shows it; None where blocks alone stand there.
        title: Above it.
        legend: How to read the drawing; with the drawing only.
        blocks: Below the drawing.
        numbers: Behind the drawing: folded away beside it, shown where there is no drawing.
    """

    caption: Line
    draw: Callable[[], str] | None = None
    title: str = ""
    legend: str = ""
    blocks: Sequence[Block] = ()
    numbers: Table | None = None


@dataclass(frozen=True)
class Plots:
    """Drawings beside each other; wide ones need more room."""

    plots: Sequence[Plot]
    wide: bool = False


@dataclass(frozen=True)
class Step:
    """A box of a flow diagram.

    Attributes:
        line: What it holds.
        notes: Smaller, below it.
        kind: `out` for what leaves here, `kept` for what all figures are of.
    """

    line: Line
    notes: Sequence[Line] = ()
    kind: Literal["", "out", "kept"] = ""


@dataclass(frozen=True)
class Flow:
    """A flow diagram: boxes under each other, at the end some side by side."""

    label: str
    steps: Sequence[Step]
    split: Sequence[Step] = ()


@dataclass(frozen=True)
class Fold:
    """What is read by who wants to: closed on a screen."""

    title: str
    summary: str
    blocks: Sequence[Block]
    kind: str = ""


@dataclass(frozen=True)
class Section:
    """A part of the page that the contents name.

    Attributes:
        name: Its `id`; letters, digits and dashes.
        title: Its heading.
        blocks: What it holds.
        above: A word above the heading.
        listed: Its name in the contents; the title without it.
        kind: A class of the style sheet.
    """

    name: str
    title: str
    blocks: Sequence[Block]
    above: str = ""
    listed: str = ""
    kind: str = ""


Block = Heading | Text | Notice | Bullets | Facts | Table | Plot | Plots | Flow | Fold | Section

NOT_DIAGNOSTIC = Notice(
    (strong("Not for diagnostic use."), " Research software; no figure here approves a model for clinical decisions."),
    role="note",
)
"""At the top of every page."""


@dataclass(frozen=True)
class Page:
    """A whole page.

    Attributes:
        heading: At its top.
        blocks: What it holds.
        title: Of the browser's window; the heading without it.
        notices: Above the heading.
        about: Who wrote it and how to read it, below the heading.
    """

    heading: str
    blocks: Sequence[Block]
    title: str = ""
    notices: Sequence[Notice] = field(default=(NOT_DIAGNOSTIC,))
    about: str = ""

    def sections(self) -> list[Section]:
        """Return the parts that the contents name."""
        return [block for block in self.blocks if isinstance(block, Section)]
