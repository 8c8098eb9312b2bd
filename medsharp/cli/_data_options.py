"""What every command that opens data sets is told of them: what a folder is, and what its labels are made from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from medsharp.cli._console import console, heading
from medsharp.errors import InputError
from medsharp.yaml_text import quoted

if TYPE_CHECKING:
    from medsharp.config import TrainConfig
    from medsharp.data.sources import LabelRule

SOURCE_HELP = (
    "What the folder is: auto (found out, and said), folder (a hospital's own, whatever it looks like), or a public "
    "data set such as busi (medsharp data list)."
)
LABEL_FROM_HELP = "Column that labels are made from, such as birads or histology, with --malignant and --benign."
CLASS_HELP = "Values of that column, joined by commas, that are {name}; '*' is every other one that is stated."


def sources_of(given: Sequence[str] | None, data: Sequence[str]) -> list[str | None]:
    """Return a source for each data set: one that is given holds for all, several are one each.

    Raises:
        InputError: Their number fits neither, or one is not known.
    """
    from medsharp.data.sources import check_source

    names: list[str | None] = [check_source(name) for name in given or ()] or [None]
    if len(names) == 1:
        return names * len(data)
    if len(names) != len(data):
        raise InputError(
            f"{len(names)} times --source for {len(data)} data sets; give one, or one each (auto to find out)"
        )
    return names


def data_overrides(data: Sequence[str] | None, source: Sequence[str] | None) -> list[str]:
    """Return `--data` and `--source` as assignments to `data.path` and `data.source`.

    Raises:
        InputError: The number of sources fits neither one for all nor one each, or one is not known.
    """
    if data and source:
        sources_of(source, data)
    given = {"data.path": data, "data.source": source}
    return [
        f"{key}={quoted(values[0])}" if len(values) == 1 else f"{key}=[{', '.join(map(quoted, values))}]"
        for key, values in given.items()
        if values
    ]


def announce_data(settings: TrainConfig) -> None:
    """Print what is opened now, and that it is simulated where it is."""
    paths = settings.data.paths
    if all(path.split(":")[0] == "phantom" for path in paths):
        console.print("[yellow]No --data given: training on simulated images, not on patients.[/]")
    heading(f"Data: {', '.join(paths)}")


def rule_of(column: str | None, malignant: str | None, benign: str | None) -> LabelRule | None:
    """Return how labels are made, or None where they stand in the data.

    Raises:
        InputError: Values are given without a column, or the rule is contradictory.
    """
    from medsharp.data.sources import LabelRule

    if column is None:
        if malignant is not None or benign is not None:
            raise InputError("--malignant and --benign say what values mean; say of which column with --label-from")
        return None
    values = {"benign": _values(benign), "malignant": _values(malignant)}
    return LabelRule(column, {label: found for label, found in values.items() if found})


def _values(text: str | None) -> tuple[str, ...]:
    return tuple(part.strip() for part in (text or "").split(",") if part.strip())
