"""Columns that images are grouped by: categories as they are, numbers cut at stated points or in thirds."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from medsharp.errors import InputError, nearest
from medsharp.evaluation.answers import numbers_in
from medsharp.evaluation.predictions import text_of
from medsharp.keys import says_nothing

NOT_RECORDED = "not recorded"
"""The group of images of which a column says nothing."""

_MOST_KINDS = 12
"""A column of more different numbers than this is no column of categories."""

LESION_SIZE = "lesion size"
FLAG, CAUTION = OVERLAPPING = ("flag", "caution")
"""Names under which groups are made of several columns; those of the last two share images, so that they are listed
and not compared."""

_NO_GROUPS = ("image", "label", "score")

Group = tuple[str, np.ndarray]
"""Name and the places of its images, ascending int [n]."""


@dataclass(frozen=True)
class Grouping:
    """A column and where its numbers are cut.

    Attributes:
        column: Of the table.
        cuts: Ascending; a number that equals one is above it. Without any, values are categories, and more than twelve
            different numbers are divided in thirds.
    """

    column: str
    cuts: tuple[float, ...] = ()


def parse_groupings(given: Iterable[str]) -> tuple[Grouping, ...]:
    """Read columns to group by, such as `age:40,50,60` or `tissue,verification`, joined by commas or given apart.

    Raises:
        InputError: A column is named twice or not at all, or cut points are no ascending numbers.
    """
    found: dict[str, list[float]] = {}
    for text in given:
        last: str | None = None
        for part in text.split(","):
            name, colon, first = part.strip().rpartition(":")
            if last is not None and not colon and _number(part) is not None:
                found[last].append(float(part))  # one more cut point of the column before
                continue
            column = (name if colon else first).strip()
            if not column:
                raise InputError(f"--by '{text}' names no column; give one, as tissue or age:40,50,60")
            if column in found:
                raise InputError(f"--by names {column} twice")
            found[column] = []
            last = None
            if colon:
                cut = _number(first)
                if cut is None:
                    raise InputError(f"--by {column}: cut point '{first.strip()}' is not a number")
                found[column].append(cut)
                last = column
    for column, cuts in found.items():
        if sorted(set(cuts)) != cuts:
            raise InputError(f"--by {column}: cut points must ascend, as {column}:40,50,60")
    return tuple(Grouping(column, tuple(cuts)) for column, cuts in found.items())


def assert_columns(groupings: Sequence[Grouping], columns: Collection[str], name: str) -> None:
    """Refuse groupings by columns that a table does not have, that say what is to be predicted, or whose name is taken.

    Raises:
        InputError: With the nearest names that there are.
    """
    possible = [column for column in columns if not _forbidden(column)]
    for grouping in groupings:
        if _forbidden(grouping.column):
            raise InputError(f"--by {grouping.column}: images are not grouped by this column")
        if grouping.column in (LESION_SIZE, *OVERLAPPING):
            raise InputError(
                f"--by {grouping.column}: the report has groups of this name of its own; give the column another name"
            )
        if grouping.column not in columns:
            raise InputError(f"{name} has no column '{grouping.column}'{nearest(grouping.column, possible)}")


def groups_by(rows: pd.DataFrame, grouping: Grouping) -> list[Group]:
    """Return the groups of a column in order, and those of which it says nothing last; none of a single value.

    Args:
        rows: The images.
        grouping: The column.

    Raises:
        InputError: A value of a column that is cut is not a number; the sentence names the image.
    """
    text = text_of(rows, grouping.column)
    if text[text != ""].nunique() < 2:
        return []
    if grouping.cuts:
        return _cut(numbers_of(rows, grouping.column, "only numbers can be cut"), grouping.cuts)
    known = _known(text)
    numbers = numbers_in(known)
    if not bool(numbers.notna().eq(known != "").all()):
        return categories(text)
    if numbers.nunique() > _MOST_KINDS:
        return thirds(numbers.to_numpy(dtype=float), ("lowest", "middle", "highest"))
    return categories(known) if known[known != ""].nunique() > 1 else []


def categories(text: pd.Series) -> list[Group]:
    """Return a group for each value, numbers before names."""
    codes, kinds = pd.factorize(text.where(text != "", NOT_RECORDED))
    ordered = sorted(range(len(kinds)), key=lambda code: natural(str(kinds[code])))
    places = places_of(codes, len(kinds))
    return [(str(kinds[code]), places[code]) for code in ordered]


def places_of(codes: np.ndarray, kinds: int) -> list[np.ndarray]:
    """Return where each of the codes 0, 1, ... stands, ascending int [n]; -1 is none of them.

    Args:
        codes: int [N].
        kinds: How many codes there are.
    """
    # Sorted once: a mask over all images for each of many groups would be slow, and large.
    order = np.argsort(codes, kind="stable")
    return np.split(order, np.searchsorted(codes[order], np.arange(kinds + 1)))[1:-1]


def thirds(values: np.ndarray, names: tuple[str, str, str]) -> list[Group]:
    """Return thirds of the images by a number, and those without; none where the limits of the thirds coincide.

    The limits come from these very images, so thirds of two data sets are not of the same values.

    Args:
        values: NaN where it is not known [N].
        names: Of the thirds, such as `smallest`.
    """
    known = np.isfinite(values)
    low, high = np.quantile(values[known], [1 / 3, 2 / 3])
    if low == high:
        return []
    # What is not known, or not finite, is in no third.
    return _groups(
        {
            f"{names[0]} third (up to {low:.3g})": known & (values <= low),
            f"{names[1]} third ({low:.3g} to {high:.3g})": (values > low) & (values <= high),
            f"{names[2]} third (above {high:.3g})": known & (values > high),
        },
        known,
    )


def numbers_of(rows: pd.DataFrame, column: str, remedy: str = "give a number, or nothing") -> np.ndarray:
    """Return a column as numbers [N], NaN where nothing stands, or that nothing is known.

    Raises:
        InputError: A value is not a finite number; the sentence names the image.
    """
    text = _known(text_of(rows, column))
    numbers = numbers_in(text).to_numpy()
    wrong = np.flatnonzero((text != "").to_numpy() & ~np.isfinite(numbers))
    if len(wrong):
        first = int(wrong[0])
        raise InputError(f"{rows['image'].iloc[first]}: {column} is '{text.iloc[first]}'; {remedy}")
    return numbers


def _known(text: pd.Series) -> pd.Series:
    """Return text, empty where it says in words that nothing is known: such a word among numbers is no number."""
    nothing = {value: says_nothing(value) for value in text.unique()}
    return text.where(~text.map(nothing).astype(bool), "")


def natural(name: str) -> tuple[bool, float, str]:
    """Order numbers as numbers, before names, and what is not recorded last."""
    number = float(name) if name.replace(".", "", 1).isdecimal() else float("inf")
    return name == NOT_RECORDED, number, name


def _cut(values: np.ndarray, cuts: tuple[float, ...]) -> list[Group]:
    known = np.isfinite(values)
    place = np.where(known, np.searchsorted(cuts, values, side="right"), -1)
    between = [f"{low:g} to below {high:g}" for low, high in itertools.pairwise(cuts)]
    names = [f"below {cuts[0]:g}", *between, f"{cuts[-1]:g} or above"]
    masks = {name: place == number for number, name in enumerate(names) if (place == number).any()}
    return _groups(masks, known) if len(masks) > 1 else []


def _groups(masks: dict[str, np.ndarray], known: np.ndarray) -> list[Group]:
    """Return the groups of masks [N] by name, and last the images of which nothing is known, if any."""
    unknown = {} if known.all() else {NOT_RECORDED: ~known}
    return [(name, np.flatnonzero(mask)) for name, mask in (masks | unknown).items()]


def _forbidden(column: str) -> bool:
    return column in _NO_GROUPS or column.startswith("p_")


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if np.isfinite(value) else None
