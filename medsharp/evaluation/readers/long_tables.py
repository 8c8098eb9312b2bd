"""Tables with a row for each reader of an image, laid out with a row an image and a column a reader."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import pandas as pd

from medsharp.errors import InputError
from medsharp.keys import name_key, named

_WHO = ("reader", "rater", "radiologist", "observer")
_WHAT = ("rating", "reading", "reader score", "reader rating")


def one_row_an_image(table: pd.DataFrame, file: str) -> tuple[pd.DataFrame, list[str]]:
    """Return a table in which no image stands for each of its readers; one that is so already as it is.

    A table is taken for one of readers where it has a column `reader` (or `rater`, `radiologist`, `observer`) and
    images that stand more than once. What they said is in the one column of BI-RADS or of `rating`; it becomes a column
    `birads_<reader>` or `reader_<reader>`. All else belongs to the image: what is not the same in all of its rows is an
    error where figures depend on it, and left out with a note where they do not.

    Args:
        table: Text, with `image`; the index is the row in the file less 2.
        file: To name in errors.

    Raises:
        InputError: No column, or more than one, holds what readers said, a reader is not named or has an image twice,
            or rows of an image contradict each other; the sentence names the row.
    """
    who = reader_column(list(map(str, table.columns)))
    if who is None or not table["image"].duplicated().any():
        return table, []
    what = _judgement(table, file, who)
    nameless = np.flatnonzero((table[who] == "").to_numpy())
    if len(nameless):
        raise InputError(f"{file}, row {_row(table, int(nameless[0]))}: the {who} is not named")
    twice = np.flatnonzero(table.duplicated(["image", who]).to_numpy())
    if len(twice):
        row = int(twice[0])
        image, reader = table["image"].iloc[row], table[who].iloc[row]
        raise InputError(f"{file}, row {_row(table, row)}: {image} stands twice for {who} '{reader}'")
    dropped = _unlike(table, file, who, what)
    wide = table[~table["image"].duplicated()].drop(columns=[who, what, *dropped])
    prefix = "birads" if _is_birads(what) else "reader"
    for reader in table[who].unique():
        said = table.loc[table[who] == reader].set_index("image")[what]
        wide[f"{prefix}_{reader}"] = said.reindex(wide["image"]).fillna("").to_numpy()
    notes = [f"{file}: {len(table)} rows of {table[who].nunique()} readers are {len(wide)} images"]
    if dropped:
        notes.append(f"{file}: {named(dropped)} differ between the rows of an image and are not read")
    return wide, notes


def reader_column(columns: Sequence[str]) -> str | None:
    """Return the column that names readers, if there is one."""
    return next((name for name in columns if name_key(name) in _WHO), None)


def _judgement(table: pd.DataFrame, file: str, who: str) -> str:
    found = [name for name in map(str, table) if _is_birads(name)]
    found = found or [name for name in map(str, table) if name_key(name.replace("_", " ")) in _WHAT]
    if len(found) == 1:
        return found[0]
    several = f"several, {named(found)}" if found else "none"
    raise InputError(
        f"{file} has a row for each {who} of an image, and needs one column birads or rating with what they said; "
        f"it has {several}"
    )


def _unlike(table: pd.DataFrame, file: str, who: str, what: str) -> list[str]:
    """Return the columns that differ between the rows of an image; those that figures need may not."""
    groups = table.groupby("image", sort=False)
    dropped = []
    for name in table.columns.difference(["image", who, what], sort=False):
        first = groups[name].transform("first")
        wrong = np.flatnonzero((table[name] != first).to_numpy())
        if not len(wrong):
            continue
        if not _needed(str(name)):
            dropped.append(str(name))
            continue
        row = int(wrong[0])
        raise InputError(
            f"{file}, row {_row(table, row)}: {table['image'].iloc[row]} has {name} '{table[name].iloc[row]}', and "
            f"'{first.iloc[row]}' in another row; rows of one image may differ in {who} and {what} alone"
        )
    return dropped


def _needed(column: str) -> bool:
    key = name_key(column)
    answers = ("score", "probability", "prob", "logit", "threshold")
    about = ("label", "patient", "group", "site", "exclude", "error", "status", "sha256")
    return key.startswith(("p_", "logit_")) or key in answers or key in about


def _is_birads(column: str) -> bool:
    return re.sub(r"[^a-z]", "", column.casefold()) == "birads"


def _row(table: pd.DataFrame, place: int) -> int:
    return int(table.index[place]) + 2
