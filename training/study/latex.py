"""The page of a study as LaTeX."""

from __future__ import annotations

from collections.abc import Sequence

from medsharp.evaluation.report.blocks import Cell, Heading, Page, Picture, Table, Text, Value, plain_text


def as_latex(page: Page) -> str:
    """Return a page as a LaTeX document that needs no package but `geometry` and `longtable`, without its drawings."""
    lines = [
        r"\documentclass{article}",
        r"\usepackage[T1]{fontenc}",
        r"\usepackage[a4paper,landscape,margin=15mm]{geometry}",
        r"\usepackage{longtable}",
        rf"\title{{{latex_text(page.heading)}}}",
        r"\date{}",
        r"\begin{document}",
        r"\maketitle",
    ]
    for block in page.blocks:
        if isinstance(block, Heading):
            lines.append(rf"\section*{{{latex_text(block.text)}}}")
        elif isinstance(block, Text):
            lines += [latex_text(plain_text(block.line)), ""]
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
    def line(cells: Sequence[Cell]) -> str:
        return " & ".join(latex_text(_text(cell)) for cell in cells) + r" \\"

    columns = "l" + "r" * (len(table.header) - 1)
    return [
        r"\begin{small}",
        rf"\begin{{longtable}}{{{columns}}}",
        rf"\caption{{{latex_text(table.caption)}}}\\",
        r"\hline",
        line([column.name for column in table.columns()]),
        r"\hline",
        r"\endhead",
        *(line(row.cells) for row in table.lines()),
        r"\hline",
        r"\end{longtable}",
        r"\end{small}",
    ]


def _text(cell: Cell) -> str:
    if cell is None or isinstance(cell, Picture):
        return ""
    if isinstance(cell, Value):
        return f"{cell.value} ({cell.limits})" if cell.limits else cell.value or "-"
    return plain_text(cell)
