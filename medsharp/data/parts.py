"""Data sets that one manifest joins: each has a name, under which its images are called, and a folder of its own.

An image is called `<name>/<path in the data set's folder>`, wherever that folder lies: names that collide between
hospitals stay apart, and neither a split nor a table of predictions depends on the machine's paths.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medsharp.data.paths import DataFolder
from medsharp.errors import InputError
from medsharp.images import ValueRange, read_range

_KEYS = {"name", "root", "range"}


@dataclass(frozen=True)
class Part:
    """One of the data sets that a manifest joins.

    Attributes:
        name: What its images' names begin with; no slash is in it.
        root: Its folder.
        range: The stored values that are black and white in its images of more than 8 bits.
    """

    name: str
    root: Path
    range: ValueRange | None = None


class PartFolders:
    """The folders of parts, as one `DataFolder` that finds files by their names with the part in front."""

    def __init__(self, parts: Sequence[Part]) -> None:
        self._folders = {part.name: DataFolder(part.root) for part in parts}

    @property
    def root(self) -> str:
        """Where the files are, for a sentence."""
        return ", ".join(f"{folder.root} ({name})" for name, folder in self._folders.items())

    def find(self, name: str) -> str | None:
        """Return the name as it is spelled on disk; None where there is no such file.

        Raises:
            InputError: It names no part, or leaves the part's folder.
        """
        head, _, below = name.partition("/")
        if head not in self._folders:
            raise InputError(f"'{name}' is of none of the data sets {', '.join(self._folders)}")
        found = self._folders[head].find(below)
        return None if found is None else f"{head}/{found}"

    def notes(self, name: str) -> list[str]:
        """Say how names were found by another spelling, in the table of that name."""
        return [note for folder in self._folders.values() for note in folder.notes(name)]


def part_name(text: str) -> str:
    """Return a data set's name as the first part of a path."""
    return " ".join("".join(sign if sign.isprintable() and sign not in "/\\;" else " " for sign in text).split())


def written_parts(parts: Sequence[Part]) -> list[dict[str, Any]]:
    """Return parts as `manifest.yaml` has them."""
    return [
        {"name": part.name, "root": str(part.root.resolve())}
        | ({} if part.range is None else {"range": list(part.range)})
        for part in parts
    ]


def read_parts(given: Any, path: Path) -> tuple[Part, ...]:
    """Read the parts of a `manifest.yaml`, as `written_parts` gives them.

    Args:
        given: What stands under `parts`; None is none. A root that is not absolute is meant from the file's folder on.
        path: The file.

    Raises:
        InputError: It is no list of names and roots.
    """
    parts = []
    for entry in given if isinstance(given, list) else [given] if given is not None else []:
        if not isinstance(entry, Mapping) or not {"name", "root"} <= entry.keys() <= _KEYS:
            raise InputError(f"{path}: parts must be a list, each with name, root and perhaps range")
        declared = None if entry.get("range") is None else read_range(entry["range"], f"{path}: range")
        parts.append(Part(str(entry["name"]), path.parent / str(entry["root"]), declared))
    return tuple(parts)
