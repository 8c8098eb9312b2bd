"""The predictions table: read, and checked before anything is computed from it."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from medsharp.errors import InputError, nearest

_SUM_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Predictions:
    """A checked table.

    Attributes:
        rows: The images that were predicted, index 0, 1, 2, ...
        failed: How many images could not be predicted.
        excluded: How many rows the table itself excludes, by reason.
    """

    rows: pd.DataFrame
    failed: int
    excluded: dict[str, int]


def read_predictions(path: str | Path, classes: Sequence[str] | None = None) -> pd.DataFrame:
    """Read predictions, of whatever model, and check every row.

    Args:
        path: CSV in UTF-8 with `image`, `label` and a column `p_<class>` for each class; `patient`, `group`, `site`,
            `device`, `birads`, `flags`, `error` and `exclude` are used where they are.
        classes: The classes; by default those that have a column.

    Returns:
        The table; text columns are text, empty where nothing is known. The index is the row in the file less 2.

    Raises:
        InputError: The file is missing, is not a CSV in UTF-8, lacks a column, or a row is wrong; the sentence names
            the row (the header is row 1).
    """
    path = Path(path)
    header, rows = _read_csv(path)
    for name in ("image", "label"):
        if name not in header:
            raise InputError(f"{path.name} has no column '{name}'{nearest(name, header)}")
    repeated = [name for name in header if header.count(name) > 1]
    if repeated:
        raise InputError(f"{path.name} has more than one column '{repeated[0]}'")
    probabilities = [name for name in header if name.startswith("p_")]
    if len(probabilities) < 2:
        raise InputError(f"{path.name} needs a column p_<class> for each of at least two classes")
    for number, row in rows:
        if len(row) != len(header):
            raise InputError(f"{path.name}, row {number}: {len(row)} values for {len(header)} columns")
    index = pd.Index([number - 2 for number, _ in rows])
    table = pd.DataFrame([row for _, row in rows], columns=pd.Index(header), index=index, dtype=object)
    if table.empty:
        raise InputError(f"{path.name} has no rows")
    for name in probabilities:
        table[name] = _numbers(table[name], path.name)
    known = classes if classes is not None else [name.removeprefix("p_") for name in probabilities]
    check_predictions(table, known, path.name)
    return table


def check_predictions(table: pd.DataFrame, classes: Sequence[str], name: str) -> Predictions:
    """Set excluded and failed rows aside and check the others.

    Args:
        table: As `read_predictions` gives it, or made in memory.
        classes: Labels that are right.
        name: What to call the table in errors.

    Raises:
        InputError: No row is left, or a label or probability is missing or wrong, or an image stands twice.
    """
    columns = [f"p_{label}" for label in classes]
    for column in ("image", "label", *columns):
        if column not in table:
            raise InputError(f"{name} has no column '{column}'{nearest(column, map(str, table.columns))}")
    if not pd.api.types.is_integer_dtype(table.index.dtype):
        table = table.reset_index(drop=True)
    reasons, errors = text_of(table, "exclude"), text_of(table, "error")
    excluded = {str(reason): int(count) for reason, count in reasons[reasons != ""].value_counts().items()}
    failed = int(((reasons == "") & (errors != "")).sum())
    rows = table[(reasons == "") & (errors == "")]
    if rows.empty:
        raise InputError(f"{name} has no predicted image: {failed} failed, {sum(excluded.values())} are excluded")
    labels = text_of(rows, "label")
    _refuse(labels == "", rows, name, "has no label; give it one or leave the row out")
    unknown = ~labels.isin(list(classes))
    first = labels[unknown].iloc[0] if unknown.any() else ""
    _refuse(unknown, rows, name, f"has label '{first}', which is not one of {', '.join(classes)}")
    shares = rows[columns].to_numpy(dtype=float)
    _refuse(~np.isfinite(shares).all(axis=1), rows, name, "has a probability that is missing or not finite")
    _refuse(((shares < 0) | (shares > 1)).any(axis=1), rows, name, "has a probability outside 0 to 1")
    _refuse(np.abs(shares.sum(axis=1) - 1) > _SUM_TOLERANCE, rows, name, "has probabilities that do not sum to 1")
    _refuse(text_of(rows, "image") == "", rows, name, "does not name its image")
    _refuse(rows["image"].duplicated(), rows, name, "stands twice")
    return Predictions(rows.assign(label=labels).reset_index(drop=True), failed, excluded)


def patients_of(rows: pd.DataFrame) -> pd.Series:
    """Return a name for the patient of each row, unique over sites, empty where unknown."""
    patients, sites = text_of(rows, "patient"), text_of(rows, "site")
    return (sites + "\x1f" + patients).where(patients != "", "")


def clusters_of(rows: pd.DataFrame) -> np.ndarray:
    """Return what is resampled together, int 0, 1, ... [N].

    Images are together that share a patient or a `group` (of near-duplicates); an image that has neither is alone.
    """
    links = [np.arange(len(rows))]
    for names in (patients_of(rows), text_of(rows, "group")):
        codes, kinds = pd.factorize(names.where(names != ""))
        codes = np.where(codes < 0, len(kinds) + np.arange(len(rows)), codes)
        links.append(codes + links[-1].max() + 1)
    # A graph of images, patients and groups; what hangs together is a cluster.
    size = int(links[-1].max()) + 1
    images = np.concatenate([links[0], links[0]])
    ties = coo_array((np.ones(len(images), dtype=np.int8), (images, np.concatenate(links[1:]))), shape=(size, size))
    _, component = connected_components(ties, directed=False)
    return pd.factorize(component[: len(rows)])[0]


def text_of(table: pd.DataFrame, column: str) -> pd.Series:
    """Return a column as text without surrounding blanks, empty where it or a value is missing."""
    if column not in table:
        return pd.Series("", index=table.index, dtype=object)
    values = table[column]
    return values.astype(object).where(values.notna(), "").astype(str).str.strip()


def _read_csv(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Return the header and the rows that are not blank, each with its number in the file."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            records = list(csv.reader(stream, strict=True))
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not text in UTF-8; save it as a CSV in UTF-8") from error
    except csv.Error as error:
        raise InputError(f"{path} is not a CSV table: {error}") from error
    if not records or not records[0]:
        raise InputError(f"{path} is empty")
    return [name.strip() for name in records[0]], [(n, row) for n, row in enumerate(records[1:], start=2) if row]


def _numbers(values: pd.Series, file: str) -> pd.Series:
    """Turn text into numbers, NaN where empty (which only a row with an error may be)."""
    given = values.str.strip() != ""
    numbers = pd.to_numeric(values.where(given), errors="coerce").astype(float)
    wrong = np.flatnonzero((given & numbers.isna()).to_numpy())
    if len(wrong):
        row = int(wrong[0])
        raise InputError(f"{file}, row {values.index[row] + 2}: {values.name} is '{values.iloc[row]}', not a number")
    return numbers


def _refuse(wrong: pd.Series | np.ndarray, rows: pd.DataFrame, name: str, reason: str) -> None:
    found = np.flatnonzero(np.asarray(wrong))
    if len(found):
        first = int(found[0])
        more = f" ({len(found)} such rows)" if len(found) > 1 else ""
        raise InputError(f"{name}, row {int(rows.index[first]) + 2}: {rows['image'].iloc[first]} {reason}{more}")
