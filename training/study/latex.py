"""The page of a study as LaTeX."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from medsharp.evaluation.report.blocks import Cell, Heading, Notice, Page, Picture, Table, Text, Value, plain_text


def as_latex(page: Page) -> str:
    """Return a page as a LaTeX document, without its drawings.

    It is UTF-8 and needs no package but `fontenc`, `inputenc`, `geometry` and `longtable`.
    """
    lines = [
        r"\documentclass{article}",
        r"\usepackage[T1]{fontenc}",
        r"\usepackage[utf8]{inputenc}",
        r"\usepackage[a4paper,landscape,margin=15mm]{geometry}",
        r"\usepackage{longtable}",
        r"\setlength{\tabcolsep}{4pt}",
        rf"\title{{{latex_text(page.heading)}}}",
        r"\date{}",
        r"\begin{document}",
        r"\sloppy",  # digests and names break nowhere
        r"\maketitle",
    ]
    for block in page.blocks:
        if isinstance(block, Heading):
            lines.append(rf"\section*{{{latex_text(block.text)}}}")
        elif isinstance(block, (Text, Notice)):
            lines += [latex_text(plain_text(block.line)), ""]
        elif isinstance(block, Table):
            lines += _latex_table(block)
    return "\n".join([*lines, r"\end{document}", ""])


def latex_text(text: str) -> str:
    """Return text as LaTeX prints it, whatever signs are in it.

    Latin letters stand as they are where the encoding T1 has them; others lose their accents; what is left is a
    question mark.
    """
    return "".join(_LATEX.get(sign) or _letter(sign) for sign in unicodedata.normalize("NFC", text))


def _letter(sign: str) -> str:
    if sign.isspace():
        return " "
    if (sign.isascii() and sign.isprintable()) or sign in _T1:
        return sign
    if unicodedata.combining(sign):
        return ""
    plain = unicodedata.normalize("NFKD", sign)[:1]
    return _LATEX.get(plain) or (plain if plain.isascii() and plain.isprintable() else "?")


_T1 = frozenset(
    "ÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏÐÑÒÓÔÕÖØÙÚÛÜÝÞßàáâãäåæçèéêëìíîïðñòóôõöøùúûüýþÿ"
    "ĂăĄąĆćČčĎďĐđĘęĚěĞğİıĹĺĽľŁłŃńŇňŊŋŐőŒœŔŕŘřŚśŞşŠšŢţŤťŮůŰűŸŹźŻżŽž"
)
"""Letters of LaTeX's encoding T1."""


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
    "\N{LESS-THAN OR EQUAL TO}": r"$\leq$",
    "\N{GREATER-THAN OR EQUAL TO}": r"$\geq$",
    "\N{EN DASH}": "--",
    "\N{EM DASH}": "---",
    "\N{LEFT SINGLE QUOTATION MARK}": "`",
    "\N{RIGHT SINGLE QUOTATION MARK}": "'",
    "\N{LEFT DOUBLE QUOTATION MARK}": "``",
    "\N{RIGHT DOUBLE QUOTATION MARK}": "''",
    "\N{NO-BREAK SPACE}": "~",
    "\N{NARROW NO-BREAK SPACE}": r"\,",
}


def _latex_table(table: Table) -> list[str]:
    def line(cells: Sequence[Cell]) -> str:
        return " & ".join(latex_text(_text(cell)) for cell in cells) + r" \\"

    columns = "l" + "r" * (len(table.header) - 1)
    return [
        r"\begin{footnotesize}",
        rf"\begin{{longtable}}{{{columns}}}",
        rf"\caption{{{latex_text(table.caption)}}}\\",
        r"\hline",
        line([f"{column.name} ({column.note})" if column.note else column.name for column in table.columns()]),
        r"\hline",
        r"\endhead",
        *(line(row.cells) for row in table.lines()),
        r"\hline",
        r"\end{longtable}",
        r"\end{footnotesize}",
    ]


def _text(cell: Cell) -> str:
    if cell is None or isinstance(cell, Picture):
        return ""
    if isinstance(cell, Value):
        return f"{cell.value} ({cell.limits})" if cell.limits else cell.value or "-"
    return plain_text(cell)
