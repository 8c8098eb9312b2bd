"""A table of measured figures."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Section:
    """What was measured together.

    Attributes:
        name: A key for programs, such as `duplicates`.
        title: A sentence.
        columns: Headings.
        rows: A cell a heading, each.
        notes: How to read the figures.
    """

    name: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON, a row an object."""
        about = dataclasses.asdict(self)
        about["rows"] = [dict(zip(self.columns, row, strict=True)) for row in self.rows]
        del about["columns"]
        return about
