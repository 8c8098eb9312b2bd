"""Blocks as one self-contained HTML page: no script, nothing from elsewhere."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any

import jinja2
from markupsafe import Markup, escape

from medsharp.evaluation.report.blocks import Cell, Line, Page, Picture, Span, Value

_TAGS = {"strong": "strong", "soft": "small", "emphasis": "em", "code": "code"}


def as_html(page: Page, style: str = "") -> str:
    """Return a page as one HTML file.

    Args:
        page: What it shows.
        style: Rules of its own, after those of `report.css`.
    """
    return _environment().get_template("blocks.html.j2").render(page=page, style=Markup(style_sheet() + style))


def style_sheet() -> str:
    """Return the style sheet of every page, for screens in light and dark, phones and A4."""
    return (files("medsharp.evaluation.report") / "report.css").read_text(encoding="utf-8")


def line_markup(line: Line) -> Markup:
    """Return running text as HTML."""
    return escape(line) if isinstance(line, str) else Markup("").join(_span(part) for part in line)


def cell_markup(cell: Cell) -> Markup:
    """Return what a cell holds as HTML."""
    if cell is None:
        return Markup("")
    if isinstance(cell, Picture):
        return Markup('<img src="{}" alt="" loading="lazy">').format(cell.source)
    return value_markup(cell) if isinstance(cell, Value) else line_markup(cell)


def value_markup(cell: Value) -> Markup:
    """Return a figure as HTML: a dash with the reason where it has no value."""
    if not cell.value:
        why = Markup(" <small>{}</small>").format(cell.reason) if cell.reason else ""
        return Markup('<span class="none">&ndash;{}</span>').format(why)
    value = Markup('<span class="value">{}</span>').format(cell.value)
    if cell.limits:
        return Markup('{} <small class="interval">{}</small>').format(value, cell.limits)
    return Markup('{} <small class="interval why">{}</small>').format(value, cell.reason) if cell.reason else value


def _span(part: str | Span) -> Markup:
    if isinstance(part, str):
        return escape(part)
    text = escape(part.text)
    if part.style is not None:
        text = Markup("<{0}>{1}</{0}>").format(Markup(_TAGS[part.style]), text)
    return Markup('<a href="#{}">{}</a>').format(part.target, text) if part.target else text


@cache
def _environment() -> jinja2.Environment:
    here = files("medsharp.evaluation.report")
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(lambda name: (here / name).read_text(encoding="utf-8")),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(line=line_markup, cell=cell_markup, drawn=_drawn, kind=_kind)
    return environment


def _kind(block: Any) -> str:
    return type(block).__name__


def _drawn(plot: Any) -> Markup:
    return Markup(plot.draw()) if plot.draw is not None else Markup("")
