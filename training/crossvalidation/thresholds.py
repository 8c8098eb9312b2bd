"""Scores of a finished cross-validation by site, for rules that choose operating points."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import logit

from medsharp.errors import InputError
from medsharp.keys import clusters_of
from medsharp.tables import Table, read_table
from training.crossvalidation.carrying_over import Scores
from training.crossvalidation.evaluation import OUT_OF_FOLD, PREDICTIONS, SUMMARY
from training.crossvalidation.request import Request

_EDGE = 1e-12


def read_scores(folder: Path) -> dict[str, tuple[Scores, Scores]]:
    """Return of each hospital left out the scores that decide and its own, by its name.

    Raises:
        InputError: The folder is no finished cross-validation by site.
    """
    request = Request.read(folder)
    if request.by != "site":
        raise InputError(f"{folder} leaves out folds, not hospitals; give one of medsharp crossvalidate --by site")
    predictions, decided, summary = (_table(folder, name) for name in (PREDICTIONS, OUT_OF_FOLD, SUMMARY))
    classes, positive = request.config.data.classes, request.config.data.positive
    found = {}
    for site, rows in predictions.frame.groupby("left_out", sort=False):
        own = decided.frame[decided.frame["left_out"] == site]
        (temperature,) = _numbers(summary, summary.frame[summary.frame["left_out"] == site], "temperature")
        logits = {label: _numbers(decided, own, f"logit_{label}") / temperature for label in classes}
        odds = logits[positive] - np.logaddexp.reduce([logits[label] for label in classes if label != positive])
        shares = _numbers(predictions, rows, f"p_{positive}").clip(_EDGE, 1 - _EDGE)
        found[str(site)] = (_scores(own, odds, positive), _scores(rows, logit(shares), positive))
    return found


def _scores(rows: pd.DataFrame, values: np.ndarray, positive: str) -> Scores:
    folds = pd.factorize(rows["fold"])[0]
    return Scores(values, (rows["label"] == positive).to_numpy(dtype=bool), clusters_of(rows), folds)


def _table(folder: Path, name: str) -> Table:
    if not (folder / name).is_file():
        raise InputError(f"{folder} has no {name}; go on with its medsharp crossvalidate until it is finished")
    return read_table(folder / name, ("left_out",))


def _numbers(table: Table, rows: pd.DataFrame, column: str) -> np.ndarray:
    if column not in rows or not len(rows):
        raise InputError(f"{table.path} has no {column} for what is left out; train it again in another folder")
    numbers = pd.to_numeric(rows[column], errors="coerce").to_numpy(dtype=float)
    if not np.isfinite(numbers).all():
        row = rows.index[~np.isfinite(numbers)][0]
        raise InputError(f"{table.path}, row {row}: {column} '{rows.at[row, column]}' is not a number")
    return numbers
