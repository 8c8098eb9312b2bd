"""Several data sets as one manifest: names kept apart, hospitals kept, what they say of themselves joined."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from medsharp.data.manifest import AUDITED, DatasetInfo, Manifest, complete
from medsharp.data.parts import Part, part_name
from medsharp.errors import InputError
from medsharp.keys import group_key

BETWEEN = " + "
"""Between the names of data sets in the name of what joins them."""


def pool_manifests(manifests: Sequence[Manifest]) -> Manifest:
    """Join data sets to one manifest.

    Images and masks are called by their data set and their path in it. Where a data set names no site at all, its name
    is the site. A `group` ties within its data set only; near-duplicates between data sets are for `tie_duplicates` to
    find, which looks at all of them.

    Args:
        manifests: One is returned as it is. One that joins data sets itself keeps their names.

    Raises:
        InputError: Two data sets have one name, or one image file is in two of them.
    """
    if len(manifests) == 1:
        return manifests[0]
    parts = tuple(part for manifest in manifests for part in _parts(manifest))
    names = [part.name for part in parts]
    repeated = next((name for name in names if names.count(name) > 1), None)
    if repeated is not None:
        raise InputError(
            f"two data sets are called {repeated}; give each once, or give one another name: medsharp data prepare "
            "FOLDER --name NAME --out MANIFEST, or name in its manifest.yaml"
        )
    table = complete(pd.concat([_table(manifest) for manifest in manifests], ignore_index=True))
    pooled = Manifest(table, _info([manifest.info for manifest in manifests]), Path(), parts=parts)
    _refuse_same_files(pooled)
    return pooled.replace(notes=[note for manifest in manifests for note in _notes(manifest)])


def _parts(manifest: Manifest) -> tuple[Part, ...]:
    return manifest.parts or (Part(part_name(manifest.info.name), manifest.root, manifest.info.range),)


def _table(manifest: Manifest) -> pd.DataFrame:
    table = manifest.table.copy()
    name = manifest.info.name
    if not manifest.parts:
        head = part_name(name)
        table["image"] = [f"{head}/{file}" for file in table["image"]]
        table["mask"] = [";".join(f"{head}/{file}" for file in cell.split(";") if file) for cell in table["mask"]]
    if (table["site"] == "").all():
        table["site"] = name
    # One spelling each, as what stands in front of a number makes a name of it, whose zeros count.
    keys = table["group"].map({text: group_key(text) for text in table["group"].unique()})
    spelling = table["group"].groupby(keys).transform("first")
    table["group"] = (name + ": " + spelling).where(keys != "", "")
    return table


def _info(infos: Sequence[DatasetInfo]) -> DatasetInfo:
    def joined(key: str) -> str:
        given = [(info.name, getattr(info, key)) for info in infos]
        return "; ".join(f"{name}: {text}" for name, text in given if text)

    return DatasetInfo(
        name=BETWEEN.join(info.name for info in infos),
        classes=tuple(dict.fromkeys(label for info in infos for label in info.classes)),
        licence=joined("licence"),
        citation=joined("citation"),
        source=joined("source"),
        doi=joined("doi"),
    )


def _notes(manifest: Manifest) -> list[str]:
    """Say of which data set each sentence is; those of an audit stay known as such."""
    name = manifest.info.name
    return [
        f"{AUDITED}{name}: {note.removeprefix(AUDITED)}" if note.startswith(AUDITED) else f"{name}: {note}"
        for note in manifest.notes
    ]


def _refuse_same_files(pooled: Manifest) -> None:
    files = pd.Series([str(pooled.path(name).resolve()) for name in pooled.table["image"]])
    heads = pooled.table["image"].str.partition("/")[0]
    first = heads.groupby(files).transform("first")
    twice = (heads != first).to_numpy().nonzero()[0]
    if len(twice):
        row = int(twice[0])
        raise InputError(
            f"{first[row]} and {heads[row]} have the same file {files[row]} ({len(twice)} such files); give each image "
            "in one data set only"
        )
