"""`comparison.json`, and the same as one self-contained page and as Markdown."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from medsharp import __version__
from medsharp.evaluation.comparison.compare import Comparison
from medsharp.evaluation.comparison.words import p_value, signed
from medsharp.evaluation.report.document import plain
from medsharp.evaluation.statistics.registry import COMPARED, names_of
from medsharp.files import write_text


def write_comparison(folder: str | Path, comparison: Comparison) -> tuple[Path, ...]:
    """Write `comparison.json`, `comparison.html` and `comparison.md`.

    Args:
        folder: Made if missing.
        comparison: What to write.

    Returns:
        The files.

    Raises:
        InputError: The folder cannot be written.
    """
    document = plain(comparison.as_dict() | {"medsharp": __version__})
    texts = {
        "comparison.json": json.dumps(document, indent=1, allow_nan=False, ensure_ascii=False) + "\n",
        "comparison.html": _rendered("page.html.j2", document, escaped=True),
        "comparison.md": _rendered("page.md.j2", document, escaped=False),
    }
    written = tuple(Path(folder) / name for name in texts)
    for path, text in zip(written, texts.values(), strict=True):
        write_text(path, text)
    return written


def difference_text(figure: dict[str, Any]) -> str:
    """Write a difference as `+0.012 (-0.003 to +0.027)`, or the reason why there is none."""
    if figure["value"] is None:
        return str(figure["reason"])
    if figure["low"] is None:
        return f"{signed(figure['value'])} ({figure['reason']})"
    return f"{signed(figure['value'])} ({signed(figure['low'])} to {signed(figure['high'])})"


def p_text(figure: dict[str, Any]) -> str:
    """Write the adjusted p value of a test and which test it is, or why one is withheld; nothing where none is made."""
    if "p_holm" not in figure:
        return ""
    if figure["p_holm"] is not None:
        return f"p {p_value(figure['p_holm'])}, {figure['p_method']}"
    return f"no test: {figure['p_reason']}" if "p_reason" in figure else ""


def _rendered(template: str, document: dict[str, Any], *, escaped: bool) -> str:
    environment = jinja2.Environment(
        autoescape=escaped, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update({"difference": difference_text, "test": p_text, "cell": _cell})
    here = files("medsharp.evaluation.comparison")
    style = (files("medsharp.evaluation.report") / "report.css").read_text(encoding="utf-8")
    return environment.from_string((here / template).read_text(encoding="utf-8")).render(
        document=document, names=names_of(COMPARED), style=Markup(style)
    )


def _cell(text: str) -> str:
    """Keep a name from ending a cell of a Markdown table."""
    return str(text).replace("|", "\\|").replace("\n", " ")
