"""What a page is made of, and the same page as HTML, Markdown and LaTeX."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files

import jinja2
from markupsafe import Markup


@dataclass(frozen=True)
class Heading:
    """A heading of a section."""

    text: str


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    text: str


@dataclass(frozen=True)
class Table:
    """A table; its first column says what each row is of.

    Attributes:
        caption: What it shows.
        header: Of each column.
        rows: Cells as text, as many as the header has.
    """

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Plot:
    """A drawing, on the HTML page alone: an SVG of `medsharp.evaluation.plots`."""

    caption: str
    svg: str


Block = Heading | Text | Table | Plot


def as_markdown(title: str, blocks: Sequence[Block]) -> str:
    """Return a page as Markdown, without its drawings."""
    lines = [f"# {title}", ""]
    for block in blocks:
        if isinstance(block, Heading):
            lines += [f"## {block.text}", ""]
        elif isinstance(block, Text):
            lines += [block.text, ""]
        elif isinstance(block, Table):
            cells = [[cell.replace("|", "\\|") for cell in row] for row in (block.header, *block.rows)]
            head, *body = ["| " + " | ".join(row) + " |" for row in cells]
            lines += [f"**{block.caption}**", "", head, "|---" * len(block.header) + "|", *body, ""]
    return "\n".join(lines)


def as_html(title: str, blocks: Sequence[Block]) -> str:
    """Return a page as one HTML file."""
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    style = (files("medsharp.evaluation.report") / "report.css").read_text(encoding="utf-8")
    template = (files("training.study") / "page.html.j2").read_text(encoding="utf-8")
    kinds = [(type(block).__name__, block) for block in blocks]
    return environment.from_string(template).render(title=title, blocks=kinds, style=Markup(style), markup=Markup)


def as_latex(title: str, blocks: Sequence[Block]) -> str:
    """Return a page as a LaTeX document that needs no package but `geometry` and `longtable`, without its drawings."""
    lines = [
        r"\documentclass{article}",
        r"\usepackage[T1]{fontenc}",
        r"\usepackage[a4paper,landscape,margin=15mm]{geometry}",
        r"\usepackage{longtable}",
        rf"\title{{{latex_text(title)}}}",
        r"\date{}",
        r"\begin{document}",
        r"\maketitle",
    ]
    for block in blocks:
        if isinstance(block, Heading):
            lines.append(rf"\section*{{{latex_text(block.text)}}}")
        elif isinstance(block, Text):
            lines += [latex_text(block.text), ""]
        elif isinstance(block, Table):
            lines += _latex_table(block)
    return "\n".join([*lines, r"\end{document}", ""])


def latex_text(text: str) -> str:
    """Return text as LaTeX prints it, whatever signs are in it."""
    return "".join(_LATEX.get(sign, sign if sign.isascii() else "?") for sign in text)


_LATEX = {
    **{sign: "\\" + sign for sign in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "\\": r"\textbackslash{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "\N{MINUS SIGN}": "$-$",
    "\N{PLUS-MINUS SIGN}": r"$\pm$",
    "\N{MULTIPLICATION SIGN}": r"$\times$",
}


def _latex_table(table: Table) -> list[str]:
    def line(cells: Sequence[str]) -> str:
        return " & ".join(latex_text(cell) for cell in cells) + r" \\"

    columns = "l" + "r" * (len(table.header) - 1)
    return [
        r"\begin{small}",
        rf"\begin{{longtable}}{{{columns}}}",
        rf"\caption{{{latex_text(table.caption)}}}\\",
        r"\hline",
        line(table.header),
        r"\hline",
        r"\endhead",
        *(line(row) for row in table.rows),
        r"\hline",
        r"\end{longtable}",
        r"\end{small}",
    ]


def slug(text: str) -> str:
    """Return text as the name of a file."""
    return re.sub(r"[\W_]+", "-", text.lower()).strip("-")
