"""The columns of a table that hold readers' judgements, as numbers that rise with suspicion."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from medsharp.birads import CATEGORIES, NO_ASSESSMENT, SUSPICION, category
from medsharp.evaluation.answers import numbers_in
from medsharp.keys import named, text_of

NOT_READ = "not read"
"""Why a reader has no judgement of an image whose cell is empty."""

_READER = re.compile(r"^(?:reader|rater|radiologist|observer|rating)s?[\s_.-]*(?P<name>.+)$", re.IGNORECASE)
_NO_JUDGEMENT = re.compile(
    r"ids?|names?|no|nr|numbers?|codes?|counts?|types?|groups?|(years[\s_-]*of[\s_-]*)?experience"
)
_MOST_CUTOFFS = 11
"""Of a scale of more steps, such as 0 to 100, no cut point is meant rather than another."""


@dataclass(frozen=True)
class Reader:
    """One reader's judgements.

    Attributes:
        name: For reports.
        column: Of the table.
        scale: `birads`, or `score` where numbers are the reader's own.
        ratings: The higher, the more suspicious [N]; NaN where there is none.
        steps: Rating of each step of the scale that occurs, from the least suspicious on, by its name.
        left_out: Images without a judgement, by reason.
        notes: Sentences on how the column was read.
    """

    name: str
    column: str
    scale: Literal["birads", "score"]
    ratings: np.ndarray
    steps: dict[str, float]
    left_out: dict[str, int]
    notes: tuple[str, ...] = ()

    @property
    def read(self) -> np.ndarray:
        """Which images have a judgement, bool [N]."""
        return np.isfinite(self.ratings)

    @property
    def cutoffs(self) -> dict[str, float]:
        """The steps from which on an image may be called positive; BI-RADS from 3, as 2 says benign."""
        first = SUSPICION["3"] if self.scale == "birads" else -np.inf
        above = {name: step for name, step in list(self.steps.items())[1:] if step >= first}
        return above if self.scale == "birads" or len(self.steps) <= _MOST_CUTOFFS else {}


def readers_in(rows: pd.DataFrame) -> tuple[list[Reader], list[str]]:
    """Find readers' judgements: columns of BI-RADS categories, and columns named for a reader.

    A column is of BI-RADS where its name says so (`birads`, `BI-RADS`, `birads_reader2`), or where it is named for a
    reader (`reader_1`, `rater A`, `radiologist2`, `rating_b`) and holds categories with letters. Other columns that are
    named for a reader hold numbers, the higher the more suspicious.

    Returns:
        The readers with at least one judgement, and sentences on columns that hold none.
    """
    readers, notes = [], []
    for column in map(str, rows):
        by_name = "birads" in re.sub(r"[^a-z]", "", column.casefold())
        match = _READER.match(column)
        if not by_name and (match is None or _NO_JUDGEMENT.fullmatch(match["name"].casefold())):
            continue
        texts = text_of(rows, column)
        if not (texts != "").any():
            continue
        reader = _of_categories(column, texts) if by_name or _has_letters(texts) else _of_numbers(column, texts)
        if reader.read.any():
            readers.append(reader)
        else:
            what = "BI-RADS category" if reader.scale == "birads" else "number"
            notes.append(f"column '{column}' is named for readers' judgements, but none of its values is a {what}")
    return _told_apart(readers), notes


def _of_categories(column: str, texts: pd.Series) -> Reader:
    """Read BI-RADS categories: those that are no judgement, and what is no category, are left out and counted."""
    found = {text: category(text) for text in texts.unique() if text}
    ratings = texts.map({text: SUSPICION.get(known or "", np.nan) for text, known in found.items()})
    left_out: Counter[str] = Counter()
    unknown: Counter[str] = Counter()
    for text, count in texts.value_counts().items():
        known = found.get(str(text))
        if not text:
            left_out[NOT_READ] += int(count)
        elif known is None:
            unknown[str(text)] += int(count)
        elif known in NO_ASSESSMENT:
            left_out[f"category {known}, {NO_ASSESSMENT[known]}"] += int(count)
    if unknown:
        left_out[f"no BI-RADS category: {named([text for text, _ in unknown.most_common()])}"] = unknown.total()
    present = [known for known in CATEGORIES if known in found.values() and known in SUSPICION]
    letters = [known for known in present if len(known) > 1]
    notes: tuple[str, ...] = ()
    if "4" in present and letters:
        plain = int(texts.map(found).eq("4").sum())
        notes = (
            f"{column}: {plain} {'image has' if plain == 1 else 'images have'} category 4 without a letter, among "
            "others with letters; it ranks with 4B",
        )
        present.remove("4")
        letters = [*letters, "4b"]
    ordered = sorted({*present, *letters}, key=lambda known: SUSPICION[known])
    return Reader(
        _reader_name(column),
        column,
        "birads",
        ratings.to_numpy(dtype=float),
        {known.upper(): SUSPICION[known] for known in ordered},
        dict(left_out.most_common()),
        notes,
    )


def _of_numbers(column: str, texts: pd.Series) -> Reader:
    """Read a reader's own scores."""
    numbers = numbers_in(texts)
    numbers = numbers.where(np.isfinite(numbers))
    wrong = texts[(texts != "") & numbers.isna()]
    left_out = {NOT_READ: int((texts == "").sum())} if (texts == "").any() else {}
    if len(wrong):
        left_out[f"no number: {named(list(wrong.value_counts().index.astype(str)))}"] = len(wrong)
    steps = {f"{step:g}": float(step) for step in np.unique(numbers.dropna())}
    return Reader(_reader_name(column), column, "score", numbers.to_numpy(), steps, left_out)


def _has_letters(texts: pd.Series) -> bool:
    """Whether a column has categories that numbers cannot be, such as 4A or BI-RADS 3, and little else."""
    given = [text for text in texts.unique() if text]
    known = [text for text in given if category(text)]
    return 2 * len(known) > len(given) and any(re.search("[a-z]", text, re.IGNORECASE) for text in known)


def _reader_name(column: str) -> str:
    """Name the reader as the column does: `birads_reader2` is `BI-RADS, reader2`, `reader_A` is `reader A`."""
    if "birads" in re.sub(r"[^a-z]", "", column.casefold()):
        rest = re.sub(r"bi[\s_.-]*rads", "", column, flags=re.IGNORECASE)
        rest = re.sub(r"[\s_.-]+", " ", rest).strip()
        return f"BI-RADS, {rest}" if rest else "BI-RADS"
    return re.sub(r"[\s_]+", " ", column).strip()


def _told_apart(readers: Sequence[Reader]) -> list[Reader]:
    """Return the readers, those whose columns would be named alike by their columns."""
    names = Counter(reader.name for reader in readers)
    return [
        reader if names[reader.name] == 1 else Reader(**{**reader.__dict__, "name": reader.column})
        for reader in readers
    ]
