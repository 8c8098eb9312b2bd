"""Columns of one meaning in a table that somebody brings: the one that says all of it is read, or they are refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd

from medsharp.errors import InputError
from medsharp.keys import name_key, patient_key

PATIENT = "patient"


def fullest_columns(
    path: Path, frame: pd.DataFrame, meanings: Mapping[str, Sequence[str]]
) -> tuple[dict[str, str], list[str]]:
    """Return the column to read of each meaning.

    Of several, one must be filled wherever another is, and they must agree: case, blanks and zeros in front aside,
    cells are the same. Patients may be numbered in two ways, as by PatientID and by a study: their columns agree where
    each number of one stands beside one number of the other, so that both tell the same patients apart. Of images, one
    may be the path and the other its end.

    Args:
        path: Of the table, to name in errors.
        frame: Its cells, all text; the index is the row in the file.
        meanings: Of each meaning its headings, of which the first is taken where several are as full.

    Returns:
        The heading by meaning, and a sentence on each column that is not read.

    Raises:
        InputError: Columns of one meaning contradict each other, or none of them says all; the sentence names both, and
            rows.
    """
    read: dict[str, str] = {}
    notes = []
    for meaning, headings in meanings.items():
        if len(headings) == 1:
            read[meaning] = headings[0]
            continue
        keys = {
            heading: _keys(frame[heading], _path_key if meaning == "image" else patient_key) for heading in headings
        }
        best = max(headings, key=lambda heading: int((keys[heading] != "").sum()))
        for other in (heading for heading in headings if heading != best):
            why = _contradiction(meaning, frame.index, keys, best, other)
            if why:
                first, second = sorted((best, other), key=list(frame.columns).index)
                raise InputError(f"{path}: columns '{first}' and '{second}' both mean {meaning} {why}; keep one")
            if (keys[other] != "").any():
                notes.append(
                    f"{path.name}: columns '{best}' and '{other}' both mean {meaning} and agree; '{best}' is read, "
                    f"'{other}' not"
                )
        read[meaning] = best
    return read, notes


def _contradiction(meaning: str, rows: pd.Index, keys: Mapping[str, np.ndarray], best: str, other: str) -> str:
    """Say why a column cannot stand for another; empty where it can."""
    one, two = keys[best], keys[other]
    both = np.flatnonzero((one != "") & (two != ""))
    if meaning == PATIENT:
        for held, varied, name, further in ((one, two, best, other), (two, one, other, best)):
            seen: dict[str, int] = {}
            for row in map(int, both):
                earlier = seen.setdefault(held[row], row)
                if varied[earlier] != varied[row]:
                    return (
                        f"and rows {rows[earlier]} and {rows[row]} have one patient by '{name}' and two by '{further}'"
                    )
    else:
        alike = _ends_alike if meaning == "image" else str.__eq__
        differ = next((row for row in both if not alike(one[row], two[row])), None)
        if differ is not None:
            return f"and differ in row {rows[differ]}"
    lacking, spare = np.flatnonzero((one == "") & (two != "")), np.flatnonzero((one != "") & (two == ""))
    if len(lacking):  # then the other, which is no fuller, lacks some too
        return f"and '{best}' is empty in row {rows[lacking[0]]}, '{other}' in row {rows[spare[0]]}"
    return ""


def _keys(cells: pd.Series, key: Callable[[str], str]) -> np.ndarray:
    codes, texts = pd.factorize(cells)  # cells repeat
    return np.array([key(str(text)) for text in texts], dtype=object)[codes]


def _path_key(text: str) -> str:
    return name_key(text.replace("\\", "/"))


def _ends_alike(one: str, other: str) -> bool:
    """Whether one path ends as the other does; either may lack the ending of the file."""
    (*above, last), (*upper, end) = (PurePosixPath(f"/{text}").parts[1:] or ("",) for text in (one, other))
    same = last == end or PurePosixPath(last).stem == end or last == PurePosixPath(end).stem
    return same and all(a == b for a, b in zip(reversed(above), reversed(upper), strict=False))
