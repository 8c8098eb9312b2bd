"""Cells that a spreadsheet merged: given once, and empty in the rows below."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from medsharp.keys import patient_key

_LONGEST_MERGED = 50
"""Rows that merged cells of one patient may cover; more are images without a patient."""


def fill_merged(path: Path, table: pd.DataFrame) -> list[str]:
    """Fill what merged cells leave empty: the patient below its first row, and the site in a patient's next rows.

    Args:
        path: Of the table, to be named in the sentences that are returned.
        table: With the columns `patient` and `site`, which are changed in place.
    """
    notes = []
    patients = table["patient"]
    if _is_merged(patients):
        empty = patients == ""
        table["patient"] = patients.where(~empty).ffill()
        notes.append(
            f"{path.name}: patient is given once and empty below, as merged cells are: {empty.sum()} rows are taken as "
            "of the patient above"
        )
    keys = table["patient"].map({name: patient_key(name) for name in table["patient"].unique()})
    run = (keys != keys.shift()).cumsum()
    above = table["site"].where(table["site"] != "").groupby(run).ffill()
    filled = (table["site"] == "") & (keys != "") & above.notna()
    if filled.any():
        table.loc[filled, "site"] = above[filled]
        notes.append(
            f"{path.name}: site is given in a patient's first row only, as merged cells are: {filled.sum()} rows are "
            "taken as of the site above"
        )
    return notes


def _is_merged(patients: pd.Series) -> bool:
    """Whether every patient stands once, with empty cells below of some; unknown patients are not so spread."""
    given = patients[patients != ""]
    if len(given) < 2 or len(given) == len(patients) or patients.iloc[0] == "" or given.duplicated().any():
        return False
    below = np.diff(np.append(np.flatnonzero(patients != ""), len(patients))) - 1
    return bool((below > 0).sum() >= 2 and (below > 0).mean() >= 0.25 and below.max() <= _LONGEST_MERGED)
