"""The predictions table: read, and checked before anything is computed from it."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from medsharp.errors import InputError

TEXT = (
    "image",
    "patient",
    "site",
    "label",
    "decision",
    "flags",
    "error",
    "group",
    "device",
    "birads",
    "histology",
    "split",
)


def read_predictions(path: str | Path) -> pd.DataFrame:
    """Read predictions, of whatever model.

    Args:
        path: CSV with `image`, `label` and a column `p_<class>` for each class; `patient`, `site`, `error` and others
            are used where they are.

    Returns:
        The table; text columns are text, empty where nothing is known.

    Raises:
        InputError: The file is missing, is not a CSV in UTF-8, or lacks a column.
    """
    path = Path(path)
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            rows = list(csv.reader(stream, strict=True))
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} is not a CSV table in UTF-8") from error
    if not rows or not rows[0]:
        raise InputError(f"{path} is empty")
    header = rows[0]
    for name in ("image", "label"):
        if name not in header:
            raise InputError(f"{path.name} has no column '{name}'")
    probabilities = [name for name in header if name.startswith("p_")]
    if len(probabilities) < 2:
        raise InputError(f"{path.name} needs a column p_<class> for each of at least two classes")
    for number, row in enumerate(rows[1:], start=2):
        if row and len(row) != len(header):
            raise InputError(f"{path.name}, row {number}: {len(row)} values for {len(header)} columns")
    table = pd.DataFrame([row for row in rows[1:] if row], columns=pd.Index(header), dtype=object)
    if table.empty:
        raise InputError(f"{path.name} has no rows")
    for name in probabilities:
        numbers = pd.to_numeric(table[name].replace("", None), errors="coerce")
        wrong = numbers.isna() & (table[name] != "")
        if wrong.any():
            first = int(np.flatnonzero(wrong)[0])
            raise InputError(f"{path.name}, row {first + 2}: {name} is '{table[name].iloc[first]}', not a number")
        table[name] = numbers.astype(float)
    return table


def check_predictions(table: pd.DataFrame, classes: Sequence[str], name: str) -> pd.DataFrame:
    """Return the rows that were predicted, after checking them.

    Args:
        table: As `read_predictions` gives it; rows with an `error` are left out.
        classes: Labels that are right.
        name: What to call the table in errors.

    Raises:
        InputError: A label or probability is missing or wrong, an image stands twice, or one class only is left.
    """
    if "error" in table:
        table = table[table["error"].fillna("") == ""]
    if table.empty:
        raise InputError(f"{name}: no image was predicted")
    columns = [f"p_{label}" for label in classes]
    missing = [column for column in columns if column not in table]
    if missing:
        raise InputError(f"{name} has no column {missing[0]}")
    labels = table["label"].fillna("").astype(str)
    _refuse(labels == "", table, name, "has no label")
    _refuse(~labels.isin(list(classes)), table, name, f"has a label that is not one of {', '.join(classes)}")
    shares = table[columns].to_numpy(dtype=float)
    _refuse(~np.isfinite(shares).all(axis=1), table, name, "has a probability that is missing or not finite")
    _refuse(((shares < 0) | (shares > 1)).any(axis=1), table, name, "has a probability outside 0 to 1")
    _refuse(np.abs(shares.sum(axis=1) - 1) > 1e-3, table, name, "has probabilities that do not sum to 1")
    _refuse(table["image"].duplicated(), table, name, "stands twice")
    if labels.nunique() < 2:
        raise InputError(f"{name} has images of one class only ({labels.iloc[0]}); ranking and calibration need two")
    return table.assign(label=labels).reset_index(drop=True)


def clusters_of(table: pd.DataFrame) -> np.ndarray:
    """Return what is resampled together: the patient, else the group of near-duplicates, else the image; int [N]."""
    names = "image:" + table["image"].astype(str)
    for column in ("group", "patient"):
        if column in table:
            given = table[column].fillna("").astype(str)
            site = table["site"].fillna("").astype(str) if "site" in table else ""
            names = names.where(given == "", column + ":" + site + "\x1f" + given)
    return pd.factorize(names)[0]


def _refuse(wrong: pd.Series | np.ndarray, table: pd.DataFrame, name: str, reason: str) -> None:
    wrong = np.asarray(wrong)
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        more = f" ({int(wrong.sum())} rows in all)" if wrong.sum() > 1 else ""
        raise InputError(f"{name}, row {int(table.index[row]) + 2}: {table['image'].iloc[row]} {reason}{more}")
