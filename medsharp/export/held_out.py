"""Figures at each hospital that was left out wholly, from the predictions of a cross-validation by site."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from medsharp.bundle import Figure, HeldOut
from medsharp.errors import InputError
from medsharp.evaluation import read_predictions
from medsharp.evaluation.own_thresholds import evaluate_at_own_thresholds
from medsharp.evaluation.predictions import text_of
from medsharp.inference.glance import FIGURES
from medsharp.keys import site_key

LEFT_OUT, THRESHOLD = "left_out", "threshold"


def read_held_out(
    folder: str | Path, *, classes: Sequence[str], positive: str, labels: Mapping[str, str] | None = None
) -> tuple[HeldOut, ...]:
    """Read `predictions.csv` of a cross-validation by site and compute the figures of each site.

    Args:
        folder: What `medsharp crossvalidate --by site` wrote.
        classes: Of the bundle.
        positive: The class that is thresholded.
        labels: Of the images that the bundle was made with and could have been, by name; other images or labels are of
            other data.

    Raises:
        InputError: The table is missing or wrong, is of other data, or is not by site; the sentence names the row.
    """
    path = Path(folder) / "predictions.csv"
    if not path.is_file():
        raise InputError(
            f"{folder} has no predictions.csv; give the folder that medsharp crossvalidate --by site wrote"
        )
    table = read_predictions(path, classes)
    for column in (LEFT_OUT, THRESHOLD):
        if column not in table:
            raise InputError(f"{path} has no column {column}; give what medsharp crossvalidate --by site wrote")
    if labels is not None:
        known = table["image"].map(labels)
        _refuse(known.isna(), table, path, "is not among the images of the runs: it is of other data")
        _refuse(table["label"] != known, table, path, "has another label in the runs: it is of other data")
    if (text_of(table, LEFT_OUT) == "").all():
        raise InputError(f"{path} leaves no site out; give what medsharp crossvalidate --by site wrote")
    table[LEFT_OUT] = text_of(table, LEFT_OUT)
    keys = table[LEFT_OUT].map(site_key)
    _refuse((keys == "") | (keys != text_of(table, "site").map(site_key)), table, path, "is not of the site left out")
    numbers = pd.to_numeric(table[THRESHOLD], errors="coerce").astype(float)
    _refuse(~numbers.between(0, 1), table, path, "has a threshold that is no probability")
    return held_out_figures(table.assign(threshold=numbers), classes, positive)


def held_out_figures(table: pd.DataFrame, classes: Sequence[str], positive: str) -> tuple[HeldOut, ...]:
    """Return the figures of each site, in the order of their names, each image decided at the threshold of its row.

    Args:
        table: Predictions with `left_out` and a number `threshold`.
        classes: In the order of the columns.
        positive: The class that is thresholded.

    Raises:
        InputError: A site has images of one class only.
    """
    return tuple(
        _figures_at(str(site), rows.reset_index(drop=True), classes, positive)
        for site, rows in table.groupby(LEFT_OUT, sort=True)
    )


def _figures_at(site: str, rows: pd.DataFrame, classes: Sequence[str], positive: str) -> HeldOut:
    content = evaluate_at_own_thresholds(rows, classes=classes, positive=positive, name=site, role="external").as_dict()
    figures = {name: content["figures"][name] for name in FIGURES}
    thresholds = np.unique(rows[THRESHOLD])
    return HeldOut(
        site=site,
        images=content["counts"]["images"],
        patients=content["counts"]["clusters"],
        positives=int((rows["label"] == positive).sum()),
        threshold=float(thresholds[0]) if len(thresholds) == 1 else None,
        figures={
            name: Figure(**{key: figure.get(key) for key in Figure.model_fields}) for name, figure in figures.items()
        },
    )


def _refuse(wrong: pd.Series, table: pd.DataFrame, path: Path, reason: str) -> None:
    found = np.flatnonzero(wrong.to_numpy())
    if len(found):
        more = f" ({len(found)} such rows)" if len(found) > 1 else ""
        row = int(found[0])
        raise InputError(f"{path}, row {int(table.index[row]) + 2}: {table['image'].iloc[row]} {reason}{more}")
