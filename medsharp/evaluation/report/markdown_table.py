"""Markdown's tables and lists, with every name escaped."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from medsharp.evaluation.report.wording import interval

_SPECIAL = str.maketrans({mark: f"\\{mark}" for mark in "\\`*_[]|#~"} | {"<": "&lt;", ">": "&gt;", "&": "&amp;"})


def safe(text: Any) -> str:
    """Escape what Markdown or HTML would take for markup; a line stays a line."""
    return re.sub(r"\s*[\r\n\t]\s*", " ", str(text)).strip().translate(_SPECIAL)


def table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> list[str]:
    """Return the lines of a table and an empty one."""
    lines = ["| " + " | ".join(map(safe, header)) + " |", "|" + "---|" * len(header)]
    return [*lines, *("| " + " | ".join(map(safe, row)) + " |" for row in rows), ""]


def bullets(texts: Iterable[str]) -> list[str]:
    """Return the lines of a list."""
    return [f"- {safe(text)}" for text in texts]


def figure_cell(part: dict[str, Any] | None, key: str) -> str:
    """Write a figure with its interval, or a dash with the reason why there is none."""
    if part is None:
        return "-"
    return interval(part, key) if part["value"] is not None else f"- ({part.get('reason', '')})"


def limits_cell(low: float | None, high: float | None, key: str) -> str:
    """Write two limits as a figure of this name is written, or a dash where there are none."""
    if low is None or high is None:
        return "-"
    return f"{interval({'value': low, 'low': None}, key)} to {interval({'value': high, 'low': None}, key)}"
