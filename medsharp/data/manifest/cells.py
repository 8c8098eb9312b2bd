"""The cells of a manifest: what people write in them, and what is taken for what."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from medsharp.data.manifest.table import CARRIED, COLUMNS, SPLITS, DatasetInfo, complete
from medsharp.data.same_meaning import fullest_columns
from medsharp.errors import InputError, nearest
from medsharp.keys import name_key, named, spellings, united_sites
from medsharp.tables import number, reason
from medsharp.tables.columns import known_names
from medsharp.tables.merged import fill_merged

_FIRST_COLUMNS = COLUMNS[: COLUMNS.index("frame")]
"""Those that `write_manifest` has begun every table with; `frame` was added later."""

_SPLIT_NAMES = {"training": "train", "validation": "val", "valid": "val", "testing": "test"}

EMPTY_CELLS, UNKNOWN = "empty_cells", "unknown"
"""What `manifest.yaml` says where an empty cell means that nothing is known, and never that cells were merged."""


def read_rows(path: Path, frame: pd.DataFrame, about: Mapping[str, Any]) -> tuple[pd.DataFrame, list[str]]:
    """Read the cells of a table of images as a manifest has them, whoever wrote it.

    Columns get their names (`Patient ID` is `patient`), those of `COLUMNS` that are missing are added, `exclude`
    becomes a reason or nothing, what merged cells leave empty is filled, and a site has one spelling.

    Args:
        path: Of the table, to be named in the sentences that are returned.
        frame: Its cells, all text.
        about: What `manifest.yaml` says; empty where there is none.

    Returns:
        The rows, index 0, 1, ..., and a sentence on each thing that was taken for another.

    Raises:
        InputError: Two columns of one meaning contradict each other, such as `PatientID` and `MRN`.
    """
    ours = says_all(frame, about)  # further columns of whatever name are further ones then
    single, notes = (frame, list[str]()) if ours else _one_of_each(path, frame)
    table = complete(_known_names(single))
    notes += _read_exclude(path, table)
    if not ours:
        notes += fill_merged(path, table)
    notes += _unite_sites(path, table)
    return table, notes


def says_all(frame: pd.DataFrame, about: Mapping[str, Any]) -> bool:
    """Whether an empty cell says that nothing is known: `write_manifest` wrote the table, and merged no cells."""
    if about.get(EMPTY_CELLS) == UNKNOWN:
        return True
    # Before there was this key, it could be told by the header, beside a whole manifest.yaml or an audit's hashes.
    header = tuple(map(str, frame))[: len(_FIRST_COLUMNS)]
    fields = {field.name for field in dataclasses.fields(DatasetInfo)} - {"range"}
    return header == _FIRST_COLUMNS and (fields <= about.keys() or bool((frame["sha256"] != "").any()))


def _known_names(table: pd.DataFrame) -> pd.DataFrame:
    """Give the columns that mean something here their names: `BI-RADS` and `Study date` are `birads`, `study_date`."""
    names = known_names(map(str, table), (*COLUMNS, *CARRIED))
    renamed: dict[str, str] = {}
    for name, right in names.items():
        if right not in table and right not in renamed.values():  # the first of several, and none beside the right one
            renamed[name] = right
    return table.rename(columns=renamed)


def _one_of_each(path: Path, frame: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Give the column that is read of several of one meaning its name; the others stay as further ones."""
    meanings: dict[str, list[str]] = {}
    for heading, name in known_names(map(str, frame), (*COLUMNS, *CARRIED)).items():
        meanings.setdefault(name, []).append(heading)
    for name, headings in meanings.items():
        headings.sort(key=lambda heading: name_key(heading) == "mrn")  # DICOM's number goes before another
        headings.sort(key=name.__ne__)  # and the name itself before both
    read, notes = fullest_columns(path, frame, meanings)
    for name, heading in read.items():
        if heading != name:
            frame = frame.drop(columns=[name], errors="ignore").rename(columns={heading: name})
    return frame, notes


def check_labels(path: Path, table: pd.DataFrame, classes: Sequence[str], lines: Sequence[int]) -> None:
    """Check that every label is one of `classes`.

    Raises:
        InputError: One is not; the sentence names its row.
    """
    wrong = ~table["label"].isin(["", *classes])
    if wrong.any():
        row = int(np.argmax(wrong))
        label = str(table.at[row, "label"])
        close = nearest(label, classes)
        close = close if close.startswith("; did") else ""
        raise InputError(f"{path.name}, row {lines[row]}: label '{label}' is not one of {', '.join(classes)}{close}")


def labels_once(labels: pd.Series) -> list[str]:
    """Return the labels; of those that differ in case, blanks or dashes only the most frequent."""
    several = spellings(labels, labels.map({label: name_key(label) for label in labels.unique()}))
    return sorted(set(labels) - {""} - {other for names in several for other in names[1:]})


def _read_exclude(path: Path, table: pd.DataFrame) -> list[str]:
    """Read 0, FALSE and no as not excluded, and 1, TRUE and yes as excluded without a reason."""
    given = table["exclude"]
    table["exclude"] = given.map(lambda text: reason(str(text), "excluded in the manifest"))
    kept = (given != "") & (table["exclude"] == "")
    if not kept.any():
        return []
    words = named(sorted(set(given[kept])))
    return [f"{path.name}: exclude is {words} in {kept.sum()} rows, which are used"]


def read_splits(path: Path, table: pd.DataFrame, lines: Sequence[int]) -> None:
    """Give splits their names, in place.

    Raises:
        InputError: One is unknown; the sentence names its row.
    """
    splits = table["split"].map(lambda text: _SPLIT_NAMES.get(str(text).casefold(), str(text).casefold()))
    wrong = ~splits.isin(["", *SPLITS])
    if wrong.any():
        row = int(np.argmax(wrong))
        given = table.at[row, "split"]
        raise InputError(f"{path.name}, row {lines[row]}: split '{given}' is not one of {', '.join(SPLITS)}")
    table["split"] = splits


def read_digests(path: Path, table: pd.DataFrame, lines: Sequence[int]) -> None:
    """Write hashes in small letters, in place.

    Raises:
        InputError: One is no SHA-256; the sentence names its row.
    """
    digests = table["sha256"].str.lower()
    wrong = (digests != "") & ~digests.str.fullmatch("[0-9a-f]{64}")
    if wrong.any():
        row = int(np.argmax(wrong))
        raise InputError(
            f"{path.name}, row {lines[row]}: sha256 '{table.at[row, 'sha256']}' is not 64 hexadecimal digits; empty "
            "the cell, and it is computed again"
        )
    table["sha256"] = digests


def read_frames(path: Path, table: pd.DataFrame, lines: Sequence[int]) -> None:
    """Write the numbers of frames as such, in place.

    Raises:
        InputError: One is no number of a frame; the sentence names its row.
    """
    frames = table["frame"].map(lambda text: number(str(text)))
    wrong = (frames != "") & ~frames.str.fullmatch("0*[1-9][0-9]{0,8}")
    if wrong.any():
        row = int(np.argmax(wrong))
        raise InputError(
            f"{path.name}, row {lines[row]}: frame '{table.at[row, 'frame']}' is no number of a frame; they count from "
            "1, and an empty cell takes the sharpest"
        )
    table["frame"] = frames.str.lstrip("0")


def check_duplicates(path: Path, table: pd.DataFrame, written: pd.Series, lines: Sequence[int]) -> None:
    """Refuse an image that stands twice, unless as different frames of a clip.

    Raises:
        InputError: One does; the sentence names both rows.
    """
    repeated = table.duplicated(["image", "frame"])
    # A clip without a frame is its sharpest one, which may be among those that are numbered.
    several = table["image"].duplicated(keep=False) & (table["frame"] == "")
    if repeated.any() or several.any():
        row = int(np.argmax(repeated if repeated.any() else several))
        same = table["image"] == table.at[row, "image"]
        if repeated.any():
            same &= table["frame"] == table.at[row, "frame"]
        first = int(np.argmax(same & (table.index != row)))
        frame = f", frame {table.at[row, 'frame']}" if repeated.any() and table.at[row, "frame"] else ""
        remedy = "" if repeated.any() else "; number its frames in every row"
        row, first = max(row, first), min(row, first)
        raise InputError(
            f"{path.name}, row {lines[row]}: image '{written[row]}'{frame} stands in row {lines[first]} already{remedy}"
        )


def _unite_sites(path: Path, table: pd.DataFrame) -> list[str]:
    table["site"], several = united_sites(table["site"])
    return [f"{path.name}: site {named(names)} are one site, '{names[0]}'" for names in several]
