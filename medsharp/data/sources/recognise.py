"""Whether a folder is a public data set: by its layout and by more than its layout, and in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from medsharp.data.manifest import Manifest
from medsharp.data.sources.source import TOLERANCE, Source
from medsharp.errors import InputError
from medsharp.files import sha256_file

FOLDER, AUTOMATIC = "folder", "auto"


@dataclass(frozen=True)
class Recognition:
    """What a folder is taken for.

    Attributes:
        source: The data set; None where it is none that is known.
        sentence: By what it was recognised, or which one it looks like and what is missing; empty where nothing is
            to be said.
    """

    source: Source | None
    sentence: str = ""


def recognise(path: Path, sources: Sequence[Source]) -> Recognition:
    """Say which data set a folder or file is.

    A layout alone is never enough, as hospitals' own folders have it too. What is asked for besides is one of:
    a file whose hash is known, the particular columns of the data set's table, or numbers of images a class within
    10 % of those published.
    """
    alike = [source for source in sources if source.matches(path)]
    for source in alike:
        reason = _by_hash(source, path) or source.evidence(path) or _by_counts(source, path)
        if reason:
            return Recognition(source, f"recognised as {source.name} by its layout and {reason}")
    if not alike:
        return Recognition(None)
    source = alike[0]
    return Recognition(
        None,
        f"laid out as {source.name} is, but not taken for it: {_difference(source, path)}; site and licence are not "
        f"known. If it is {source.name}, say --source {source.key}",
    )


def insisted(name: str, path: Path, sources: Sequence[Source]) -> Source:
    """Return the data set that a person says a folder is, by its key.

    Raises:
        InputError: The folder is not laid out like it.
    """
    source = next(source for source in sources if source.key == name)
    if not source.matches(path):
        raise InputError(f"{path} is not laid out as {source.name} is; leave --source out, or say --source {FOLDER}")
    return source


def near_published(source: Source, found: dict[str, int]) -> bool:
    """Whether numbers of images are close to the published ones; classes that are missing altogether are not counted.

    At least two classes must be there, where the data set has labels.
    """
    if not source.images:
        return abs(found.get("", 0) - source.total) <= TOLERANCE * source.total
    counts = {label: count for label, count in found.items() if label}
    if not counts.keys() <= source.images.keys() or len(counts) < 2:
        return False
    return all(abs(count - source.images[label]) <= TOLERANCE * source.images[label] for label, count in counts.items())


def _by_hash(source: Source, path: Path) -> str:
    for name, digest in source.hashes.items():
        file = path / name
        if file.is_file() and sha256_file(file) == digest:
            return f"the known content of {name}"
    return ""


def _by_counts(source: Source, path: Path) -> str:
    counts = _counts(source, path)
    if not near_published(source, counts):
        return ""
    return f"its {sum(counts.values()):,} images ({source.total:,} were published)"


def _difference(source: Source, path: Path) -> str:
    counts = _counts(source, path)
    if not counts:
        return "its table or its images are not those of the data set"
    return f"it has {sum(counts.values()):,} images and none of the marks of the {source.total:,} that were published"


def _counts(source: Source, path: Path) -> dict[str, int]:
    try:
        manifest: Manifest = source.read(path)
    except InputError:
        return {}  # it has the layout and not the content
    return {str(label): int(count) for label, count in manifest.table["label"].value_counts().items()}
