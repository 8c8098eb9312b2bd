"""The model's answer in a table of predictions, by its columns: probabilities, logits, or a score that is neither.

Tables of other tools come in these shapes; all become `p_<class>` for each class, or `score` alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.special import expit, softmax

from medsharp.errors import InputError, nearest
from medsharp.evaluation.findings import ANSWERED, CAUTIONED, REFUSED, fate_of
from medsharp.keys import name_key, named, text_of

SCORE = "score"
"""Column of scores that are no probabilities: the higher, the likelier the positive class."""

_P, _LOGIT = "p_", "logit_"
_OF_POSITIVE = {"probability": _P, "prob": _P, "logit": _LOGIT}
"""Headings of one column that is of the positive class, whatever it is called."""

WITH_COMMA = r"[+-]?\d*,\d+([eE][+-]?\d+)?"
WITH_POINT = r"[+-]?(\d+\.\d*|\.\d+|\d+(?=[eE]))([eE][+-]?\d+)?"
"""Numbers with a decimal comma, and such that have none: a column has one of them."""

SHAPES = "p_<class> or logit_<class> for each class, or for one of two; or, of the positive class, probability or logit"


def with_answers(
    table: pd.DataFrame,
    file: str,
    positive: str | None = None,
    score: str | None = None,
    *,
    scores: bool = False,
    labels: Sequence[str] | None = None,
) -> pd.DataFrame:
    """Return the table with `p_<class>` of each class as numbers, or with `score` and no `p_<class>`.

    Probabilities come before logits, both before a score. Logits become probabilities by the softmax, or of one class
    by the logistic function; of one of two classes, the other has the rest.

    Args:
        table: Text, with `label`, or answers that are floats already; the index is the row in the file less 2.
        file: To name in errors.
        positive: The class that `probability` and `logit` are of; without it none of them is taken.
        score: The column of scores, whatever it is called and whatever others there are.
        scores: Whether a column `score` will do, where there is nothing else.
        labels: Those of the whole table, of which this is a piece; by default this is the whole.

    Raises:
        InputError: No column is an answer, a cell is no number, or one column does not answer for so many labels.
    """
    if score is not None:
        column = _heading(table, score)
        if column is None:
            raise InputError(f"{file} has no column '{score}'{nearest(score, map(str, table.columns))}")
        return _scores(table, column, file)
    for prefix in (_P, _LOGIT):
        columns = [name for name in map(str, table) if name.startswith(prefix) and name != prefix]
        if len(columns) > 1:
            numbers = pd.DataFrame({name: numbers_of(table[name], file) for name in columns})
            return _of_all_classes(table, numbers, prefix)
    labels = labels_of(table) if labels is None else labels
    for prefix in (_P, _LOGIT):
        columns = [f"{prefix}{label}" for label in labels if f"{prefix}{label}" in table]
        if columns:
            return _of_one_class(table, columns[0], prefix, columns[0].removeprefix(prefix), file, labels)
    if positive is not None:
        for heading, prefix in _OF_POSITIVE.items():
            column = _heading(table, heading)
            if column is not None:
                return _of_one_class(table, column, prefix, positive, file, labels)
    column = _heading(table, SCORE)
    if column is not None:
        if scores:
            return _scores(table, column, file)
        raise InputError(f"{file} has scores, no probabilities; `medsharp score` ranks such tables")
    more = "; or score, or another column of scores that --score names" if scores else ""
    raise InputError(f"{file} has no column of a model's answers: {SHAPES}{more}")


def classes_of(table: pd.DataFrame, positive: str, labels: Sequence[str] | None = None) -> list[str]:
    """Return the classes of a table that `with_answers` made: of its columns, or of a table of scores of its labels.

    Args:
        table: With answers.
        positive: The positive class.
        labels: As for `with_answers`.

    Raises:
        InputError: No column, or no label, is the positive class.
    """
    classes = [name.removeprefix(_P) for name in map(str, table) if name.startswith(_P)]
    if not classes:
        classes = labels_of(table) if labels is None else list(labels)
    if positive not in classes:
        raise InputError(
            f"the positive class '{positive}' is not among {', '.join(classes)}; name the right one with --positive"
        )
    return classes


def has_scores_only(table: pd.DataFrame) -> bool:
    """Whether a table that `with_answers` made holds scores that are no probabilities."""
    return SCORE in table and not any(str(name).startswith(_P) for name in table)


def numbers_of(values: pd.Series, file: str) -> pd.Series:
    """Turn text into numbers, floats as they are, NaN where empty (which only a row without an answer may be).

    Raises:
        InputError: A cell is no number; the sentence names its row.
    """
    if pd.api.types.is_float_dtype(values.dtype):
        return values
    numbers = numbers_in(values)
    wrong = np.flatnonzero(((values.str.strip() != "") & numbers.isna()).to_numpy())
    if len(wrong):
        row = int(wrong[0])
        raise InputError(f"{file}, row {values.index[row] + 2}: {values.name} is '{values.iloc[row]}', not a number")
    return numbers


def numbers_in(texts: pd.Series) -> pd.Series:
    """Return text as numbers, NaN where a cell is empty or none.

    Decimal commas, as spreadsheets write them in half of Europe, are read where no number of the column has a point.
    """
    texts = texts.str.strip()
    commas = texts.str.fullmatch(WITH_COMMA)
    if commas.any() and not texts.str.fullmatch(WITH_POINT).any():
        texts = texts.where(~commas, texts.str.replace(",", "."))
    return pd.to_numeric(texts.where(texts != ""), errors="coerce").astype(float)


def _of_all_classes(table: pd.DataFrame, numbers: pd.DataFrame, prefix: str) -> pd.DataFrame:
    if prefix == _LOGIT:
        with np.errstate(invalid="ignore"):  # infinite logits have no share, which is told with their row later
            shares = softmax(numbers.to_numpy(), axis=1)
        names = [str(name).replace(_LOGIT, _P, 1) for name in numbers]
        numbers = pd.DataFrame(shares, index=numbers.index, columns=names)
    return table.assign(**{str(name): numbers[name] for name in numbers})


def _of_one_class(
    table: pd.DataFrame, column: str, prefix: str, label: str, file: str, labels: Sequence[str]
) -> pd.DataFrame:
    """Give the other of two classes what the one leaves."""
    others = [name for name in labels if name != label]
    if len(others) != 1:
        raise InputError(
            f"{file} has '{column}' of {label} alone, which says what is left for one other class; its labels are "
            f"{named(labels, 5)}. Give a column for each class, or --score '{column}' to rank {label} against the rest"
        )
    numbers = numbers_of(table[column], file)
    share = numbers if prefix == _P else pd.Series(expit(numbers), index=numbers.index)
    return table.assign(**{f"{_P}{others[0]}": 1 - share, f"{_P}{label}": share})


def _scores(table: pd.DataFrame, column: str, file: str) -> pd.DataFrame:
    numbers = numbers_of(table[column], file)
    kept = [name for name in table if not str(name).startswith((_P, _LOGIT)) and name not in (column, SCORE)]
    return table[kept].assign(**{SCORE: numbers})


def labels_of(table: pd.DataFrame) -> list[str]:
    """Return the labels of rows that are evaluated, or counted as refused, in order."""
    used = fate_of(table).isin((ANSWERED, CAUTIONED, REFUSED))
    labels: Sequence[str] = text_of(table, "label")[used].unique()
    return sorted(set(labels) - {""})


def is_answer(column: str, score: str | None = None) -> bool:
    """Whether a column of this name may hold a model's answers: probabilities, logits or scores.

    Args:
        column: Its heading.
        score: The column of scores that was named.
    """
    named_ones = {*_OF_POSITIVE, SCORE, *([] if score is None else [name_key(score)])}
    return column.startswith((_P, _LOGIT)) or name_key(column) in named_ones


def has_every_class(columns: Sequence[str], score: str | None = None) -> bool:
    """Whether the columns alone tell the classes, so that the labels of all rows need not be known beforehand.

    Args:
        columns: Of a table.
        score: The column of scores that was named; its classes are its labels.
    """
    return score is None and any(
        sum(name.startswith(prefix) and name != prefix for name in columns) > 1 for prefix in (_P, _LOGIT)
    )


def _heading(table: pd.DataFrame, name: str) -> str | None:
    return next((str(column) for column in table if name_key(str(column)) == name_key(name)), None)
