"""Which files an evaluation is written to."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from medsharp.errors import InputError, nearest
from medsharp.evaluation.evaluate import Evaluation
from medsharp.evaluation.report.document import make_document
from medsharp.evaluation.report.page import render_markdown, render_page
from medsharp.evaluation.report.rows import COLUMNS, figure_rows
from medsharp.files import json_text, write_text

FORMATS = {"html": "report.html", "md": "report.md", "json": "evaluation.json", "csv": "figures.csv"}
"""Names of the files by format."""

DEFAULT_FORMATS = ("html", "json")


def parse_formats(given: Sequence[str] | None) -> tuple[str, ...]:
    """Read the formats that were asked for: each value one of `FORMATS`, or several joined by commas.

    Raises:
        InputError: One is not known.
    """
    names = [name.strip().lower() for value in given or () for name in value.split(",") if name.strip()]
    for name in names:
        if name not in FORMATS:
            raise InputError(f"format '{name}' is not one of {', '.join(FORMATS)}{nearest(name, FORMATS)}")
    return tuple(dict.fromkeys(names)) or DEFAULT_FORMATS


def left_over(folder: str | Path, written: Sequence[Path]) -> list[Path]:
    """Return reports in other formats that an earlier run left in the folder; they stay, but tell of that run.

    Args:
        folder: Where the report was written.
        written: What `write_evaluation` returned.
    """
    known = (Path(folder) / name for name in FORMATS.values())
    return [path for path in known if path not in written and path.is_file()]


def write_evaluation(
    folder: str | Path,
    evaluations: Sequence[Evaluation],
    bundle: dict[str, Any],
    *,
    formats: Sequence[str] = DEFAULT_FORMATS,
    robustness: dict[str, Any] | None = None,
) -> tuple[Path, ...]:
    """Write an evaluation in each format; nothing is written where one of them cannot be made.

    Args:
        folder: Made if missing.
        evaluations: In the order of the report; an internal one first.
        bundle: `BundleSpec.model_dump(mode="json")`, or empty for predictions of another model.
        formats: Of `FORMATS`.
        robustness: The content of `robustness.json` for the same model.

    Returns:
        The files, in the order of `formats`.

    Raises:
        InputError: The folder cannot be written.
    """
    document = make_document(evaluations, bundle, robustness=robustness)
    thumbnails = [evaluation.thumbnails for evaluation in evaluations]
    make: dict[str, Callable[[], str]] = {
        "html": lambda: render_page(document, thumbnails),
        "md": lambda: render_markdown(document),
        "json": lambda: json_text(document),
        "csv": lambda: _csv_text(document),
    }
    texts = {Path(folder) / FORMATS[name]: make[name]() for name in formats}
    for path, text in texts.items():
        # Thumbnails of failures are images of patients.
        write_text(path, text, private=path.suffix == ".html" and any(thumbnails))
    return tuple(texts)


def _csv_text(document: dict[str, Any]) -> str:
    stream = io.StringIO()
    writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(figure_rows(document))
    return stream.getvalue()
