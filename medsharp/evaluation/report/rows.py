"""The figures as rows of a table: one a figure, a data set and a group."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

COLUMNS = (
    "dataset",
    "role",
    "simulated",
    "by",
    "group",
    "figure",
    "value",
    "low",
    "high",
    "images",
    "method",
    "reason",
)


def figure_rows(document: dict[str, Any]) -> list[dict[str, Any]]:
    """Return every figure of an `evaluation.json` document as a row; numbers are as there, empty where there is none.

    `by` and `group` are empty for a whole data set. A row `drop_<figure>` is the internal figure less the external one.
    """
    return [row for entry in document["datasets"] for row in _rows_of(entry, document)]


def _rows_of(entry: dict[str, Any], document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    where = {"dataset": entry["name"], "role": entry["role"], "simulated": str(entry["simulated"]).lower()}
    for name, figure in entry["figures"].items():
        yield _row(where, name, figure)
    if entry["role"] != "internal":
        for drop in document["drops"]:
            if drop["name"] == entry["name"]:
                for name, figure in drop["figures"].items():
                    yield _row(where, f"drop_{name}", figure)
    for group in entry["subgroups"]:
        place = where | {"by": group["by"], "group": group["group"]}
        for name, figure in group.items():
            if isinstance(figure, dict) and "value" in figure:
                yield _row(place, name, figure)


def _row(where: dict[str, Any], name: str, figure: dict[str, Any]) -> dict[str, Any]:
    given = {"figure": name, "images": figure.get("n")}
    given |= {key: figure.get(key) for key in ("value", "low", "high", "method", "reason")}
    row = {**dict.fromkeys(COLUMNS, ""), **where, **given}
    return {key: "" if value is None else value for key, value in row.items()}
