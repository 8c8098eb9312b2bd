"""Scores of a finished cross-validation by site, for rules that choose operating points."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import logit

from medsharp.errors import InputError
from medsharp.evaluation.carrying_over import Scores
from medsharp.keys import clusters_of
from medsharp.tables import read_table
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
    temperatures = dict(zip(summary["left_out"], summary["temperature"].astype(float), strict=True))
    found = {}
    for site, rows in predictions.groupby("left_out", sort=False):
        own = decided[decided["left_out"] == site]
        logits = own[[f"logit_{label}" for label in classes]].to_numpy(dtype=float) / temperatures[site]
        rest = np.delete(logits, classes.index(positive), axis=1)
        odds = own[f"logit_{positive}"].to_numpy(dtype=float) / temperatures[site] - np.logaddexp.reduce(rest, axis=1)
        shares = rows[f"p_{positive}"].to_numpy(dtype=float).clip(_EDGE, 1 - _EDGE)
        found[str(site)] = (_scores(own, odds, positive), _scores(rows, logit(shares), positive))
    return found


def _scores(rows: pd.DataFrame, values: np.ndarray, positive: str) -> Scores:
    folds = pd.factorize(rows["fold"])[0]
    return Scores(values, (rows["label"] == positive).to_numpy(dtype=bool), clusters_of(rows), folds)


def _table(folder: Path, name: str) -> pd.DataFrame:
    if not (folder / name).is_file():
        raise InputError(f"{folder} has no {name}: go on with medsharp crossvalidate until it is finished")
    return read_table(folder / name).frame
