"""Tables of a study's report, and how their cells are written."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from medsharp.evaluation.report.blocks import Column, Table
from medsharp.quantities import signed
from training.study.reading import CORRUPTED

BUDGETS = {"epochs": "equal epochs", "gradients": "equal gradient computations, to whole epochs"}
LONGEST = 160
"""Signs of a reason why a cell failed; the whole lies under `errors/`."""


def number_columns(names: Sequence[str]) -> list[Column]:
    """Return columns that are aligned as numbers."""
    return [Column(name, number=True) for name in names]


def number_table(caption: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """Return a table whose columns but the first are numbers."""
    first, *others = header
    return Table(caption, [first, *number_columns(others)], rows)


def grid(
    caption: str,
    optimizers: Sequence[str],
    columns: Sequence[tuple[str, str]],
    entries: Sequence[dict[str, Any]],
    cell: Any,
) -> Table:
    """Lay entries out with a row an optimizer and a column a network and part."""
    found = {(entry["optimizer"], entry["network"], entry["part"]): entry for entry in entries}
    rows = [
        [name, *(cell(found.get((name, *column))) for column in columns)]
        for name in optimizers
        if any((name, *column) in found for column in columns)
    ]
    header = ["Optimizer", *(f"{network}, {part.removeprefix(CORRUPTED)}" for network, part in columns)]
    return number_table(caption, header, rows)


def in_order(values: Iterable[Any]) -> list[Any]:
    """Return each value once, in the order of its first."""
    return list(dict.fromkeys(values))


def interval(found: dict[str, Any] | None, sign: bool = True) -> str:
    """Write a value with its interval, as far as they exist."""
    if not found or found.get("value") is None:
        return "-"
    write = signed if sign else "{:.3f}".format
    text = write(found["value"])
    return text if found.get("low") is None else f"{text} ({write(found['low'])} to {write(found['high'])})"


def interval_of_share(found: dict[str, Any] | None) -> str:
    """Write a share with its interval."""
    return interval(found, sign=False)


def plain_value(found: dict[str, Any] | None) -> str:
    """Write the value of an entry alone."""
    return number(found["value"]) if found else "-"


def number(value: float | None, digits: int = 3) -> str:
    """Write a number that may not exist."""
    return "-" if value is None else f"{value:.{digits}f}"


def shares(masses: dict[str, float] | None) -> str:
    """Write the probabilities of worse, equivalent and better."""
    if masses is None:
        return "-"
    return " / ".join(f"{masses[side]:.2f}" for side in ("worse", "equivalent", "better"))
