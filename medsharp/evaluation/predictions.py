"""The predictions table: read, and checked before anything is computed from it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from medsharp.errors import InputError, nearest
from medsharp.evaluation.answers import SCORE, has_scores_only, with_answers
from medsharp.evaluation.findings import EXCLUDED, FAILED, REFUSED, fate_of
from medsharp.evaluation.headings import KNOWN, OURS
from medsharp.evaluation.readers.long_tables import one_row_an_image
from medsharp.keys import clusters_of, patients_of, text_of, united_sites
from medsharp.tables import read_table, reason
from medsharp.tables.columns import with_known_names
from medsharp.tables.merged import fill_merged

__all__ = ["Predictions", "check_predictions", "clusters_of", "patients_of", "read_predictions", "text_of"]

_SUM_TOLERANCE = 1e-3
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Predictions:
    """A checked table.

    Attributes:
        rows: The images that were answered, index 0, 1, 2, ...; all figures are of them unless they say otherwise.
        refused: Those that a check refused; with probabilities where they were answered anyway, NaN elsewhere.
        failed: How many images could not be predicted.
        excluded: How many rows the table itself excludes, by reason.
    """

    rows: pd.DataFrame
    refused: pd.DataFrame
    failed: int
    excluded: dict[str, int]


def read_predictions(
    path: str | Path,
    classes: Sequence[str] | None = None,
    *,
    positive: str | None = None,
    score: str | None = None,
    scores: bool = False,
) -> pd.DataFrame:
    """Read predictions, of whatever model, and check every row.

    Args:
        path: A table (see `medsharp.tables`) with `image`, `label` and the model's answers in one of the shapes of
            `medsharp.evaluation.answers`; `patient`, `group`, `site`, `device`, `birads`, `flags`, `error`, `exclude`,
            `status`, `reasons` and `checks` are used where they are. It may have a row for each reader of an image
            (`medsharp.evaluation.readers.long_tables`).
        classes: The classes; by default those that have a column.
        positive: The class that a single column `probability` or `logit` is of.
        score: The column of scores that are no probabilities.
        scores: Whether a column `score` will do, where there is no probability.

    Returns:
        The table; text columns are text, empty where nothing is known. It has `p_<class>` of each class, or, where it
        holds scores alone, `score`. The index is the row in the file less 2.

    Raises:
        InputError: The file is missing, is no table, lacks a column, or a row is wrong; the sentence names the row
            (the header is row 1).
    """
    path = Path(path)
    read = read_table(path, ("image", "label"))
    table = read.frame.astype(object)
    for note in read.notes:
        _log.warning(note)
    table.index = table.index - 2
    if table.empty:
        raise InputError(f"{path.name} has no rows")
    known = [name for name in KNOWN if name != score]
    # What readers said is laid out first, and told of under the heading that it has.
    table = with_known_names(table, [name for name in known if name != "birads"], path.name)
    for note in filled_below(table, path):
        _log.warning(note)
    table, notes = one_row_an_image(table, path.name)
    for note in notes:
        _log.warning(note)
    table = with_known_names(table, known, path.name)
    table = with_answers(with_exclusions(table), path.name, positive, score, scores=scores)
    if has_scores_only(table):
        check_scores(table, path.name)
    else:
        known = [str(name).removeprefix("p_") for name in table if str(name).startswith("p_")]
        check_predictions(table, known if classes is None else classes, path.name)
    return table


def filled_below(table: pd.DataFrame, path: Path) -> list[str]:
    """Fill what merged cells leave empty, in place; return a sentence on each thing that was filled."""
    if "patient" not in table or OURS & set(table):
        return []
    if "site" in table:
        return fill_merged(path, table)
    cells = table[["patient"]].assign(site="")
    notes = fill_merged(path, cells)
    table["patient"] = cells["patient"]
    return notes


def with_exclusions(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table whose column `exclude`, where it has one, holds reasons, and nothing where it says no."""
    if "exclude" not in table:
        return table
    said = {text: reason(str(text), "excluded in the table") for text in table["exclude"].unique()}
    return table.assign(exclude=table["exclude"].map(said))


def check_predictions(table: pd.DataFrame, classes: Sequence[str], name: str, *, whole: bool = True) -> Predictions:
    """Set excluded, failed and refused rows aside (`medsharp.evaluation.findings`) and check the others.

    A refused row needs a label as the others do, and may have probabilities: all of them, which are checked, or none.

    Args:
        table: As `read_predictions` gives it, or made in memory.
        classes: Labels that are right.
        name: What to call the table in errors.
        whole: It is the whole table, and no piece of which every row may be refused.

    Raises:
        InputError: No row of the whole is left, a label or probability is missing or wrong, or an image stands twice.
    """
    columns = [f"p_{label}" for label in classes]
    for column in ("image", "label", *columns):
        if column not in table:
            raise InputError(f"{name} has no column '{column}'{nearest(column, map(str, table.columns))}")
    table, fates, failed, excluded = _predicted(table, name, whole)
    table = table.assign(label=_labels(table, classes, name))
    shares = table[columns].astype(float)
    wanted = (fates != REFUSED) | shares.notna().any(axis=1)
    _refuse(wanted & ~np.isfinite(shares).all(axis=1), table, name, "has a probability that is missing or not finite")
    _refuse(((shares < 0) | (shares > 1)).any(axis=1), table, name, "has a probability outside 0 to 1")
    wrong = wanted & (np.abs(shares.sum(axis=1) - 1) > _SUM_TOLERANCE)
    _refuse(wrong, table, name, "has probabilities that do not sum to 1")
    _refuse_unnamed(table, name)
    if "site" in table:
        table["site"] = united_sites(text_of(table, "site"))[0]  # one hospital is one, however it is written
    rows, refused = (table[mask].reset_index(drop=True) for mask in (fates != REFUSED, fates == REFUSED))
    return Predictions(rows, refused, failed, excluded)


def check_scores(table: pd.DataFrame, name: str, *, whole: bool = True) -> Predictions:
    """Check a table of scores that are no probabilities, whose classes are its labels.

    Raises:
        InputError: No row is left, a label or score is missing, or an image stands twice.
    """
    rows, fates, failed, excluded = _predicted(table, name, whole)
    _labels(rows, sorted(set(text_of(rows, "label")) - {""}), name)
    missing = (fates != REFUSED) & ~np.isfinite(rows[SCORE].astype(float))
    _refuse(missing, rows, name, "has a score that is missing or not finite")
    _refuse_unnamed(rows, name)
    answered, refused = (rows[mask].reset_index(drop=True) for mask in (fates != REFUSED, fates == REFUSED))
    return Predictions(answered, refused, failed, excluded)


def _predicted(table: pd.DataFrame, name: str, whole: bool) -> tuple[pd.DataFrame, pd.Series, int, dict[str, int]]:
    """Return the rows that were answered or refused, what became of each, how many failed, and those excluded."""
    if not pd.api.types.is_integer_dtype(table.index.dtype):
        table = table.reset_index(drop=True)
    fates = fate_of(table)
    reasons = text_of(table, "exclude")
    excluded = {str(reason): int(count) for reason, count in reasons[reasons != ""].value_counts().items()}
    kinds = fates.value_counts()
    failed, refused = int(kinds.get(FAILED, 0)), int(kinds.get(REFUSED, 0))
    kept = ~fates.isin((EXCLUDED, FAILED))
    if whole:
        assert_answered(int(kept.sum()) - refused, failed, refused, excluded, name)
    return table[kept], fates[kept], failed, excluded


def assert_answered(answered: int, failed: int, refused: int, excluded: dict[str, int], name: str) -> None:
    """Refuse a table in which no image was answered.

    Raises:
        InputError: It is so.
    """
    if not answered:
        out = f"{failed} failed, {refused} are refused by the checks, {sum(excluded.values())} are excluded"
        raise InputError(f"{name} has no answered image: {out}")


def _labels(rows: pd.DataFrame, classes: Sequence[str], name: str) -> pd.Series:
    labels = text_of(rows, "label")
    _refuse(labels == "", rows, name, "has no label; give it one or leave the row out")
    unknown = ~labels.isin(list(classes))
    first = labels[unknown].iloc[0] if unknown.any() else ""
    _refuse(unknown, rows, name, f"has label '{first}', which is not one of {', '.join(classes)}")
    return labels


def _refuse_unnamed(rows: pd.DataFrame, name: str) -> None:
    _refuse(text_of(rows, "image") == "", rows, name, "does not name its image")
    _refuse(rows["image"].duplicated(), rows, name, "stands twice")


def _refuse(wrong: pd.Series | np.ndarray, rows: pd.DataFrame, name: str, reason: str) -> None:
    found = np.flatnonzero(np.asarray(wrong))
    if len(found):
        first = int(found[0])
        more = f" ({len(found)} such rows)" if len(found) > 1 else ""
        raise InputError(f"{name}, row {int(rows.index[first]) + 2}: {rows['image'].iloc[first]} {reason}{more}")
