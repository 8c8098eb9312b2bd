"""The evaluation written down: one HTML page, the same as Markdown, the figures as JSON and CSV."""

from medsharp.evaluation.report.document import make_document, plain
from medsharp.evaluation.report.formats import FORMATS, left_over, parse_formats, write_evaluation
from medsharp.evaluation.report.page import render_markdown, render_page
from medsharp.evaluation.report.readers import reader_section
from medsharp.evaluation.report.robustness import read_robustness
from medsharp.evaluation.report.rows import figure_rows

__all__ = [
    "FORMATS",
    "figure_rows",
    "left_over",
    "make_document",
    "parse_formats",
    "plain",
    "read_robustness",
    "reader_section",
    "render_markdown",
    "render_page",
    "write_evaluation",
]
