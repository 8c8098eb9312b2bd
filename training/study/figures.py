"""Figures of each cell on each part that it predicted, and their closed-form variance over patients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from medsharp.evaluation import auroc
from medsharp.evaluation.statistics.calibration import CLIP, recalibrate
from medsharp.evaluation.statistics.calibration_error import BINS, binned_scores
from medsharp.evaluation.statistics.delong import obuchowski_covariance, placements
from medsharp.keys import clusters_of
from training.study.plan import Cell
from training.study.reading import INTERNAL, TRAIN

_ROUNDING = 1e-12
KEYS = ["hospital", "network", "optimizer", "fold", "budget", "seed"]


def figure_table(
    cells: Sequence[tuple[Cell, Mapping[str, Any]]], readings: Mapping[str, pd.DataFrame], positive: str
) -> pd.DataFrame:
    """Return a row for each cell and part: `KEYS`, `run`, `part`, `images`, and the figures.

    Args:
        cells: With the record of each.
        readings: Predictions by run.
        positive: The class of interest.
    """
    figures = {
        run: {str(part): _figures(rows, positive) for part, rows in table.groupby("part", sort=False)}
        for run, table in readings.items()
    }
    rows = [
        {**{key: record[key] for key in [*KEYS, "run"]}, "part": part, **values}
        for _, record in cells
        for part, values in figures[record["run"]].items()
    ]
    return pd.DataFrame(rows)


def contrast_variance(tables: Sequence[pd.DataFrame], contrast: np.ndarray, positive: str) -> float:
    """Return the variance over patients of a weighted sum of AUROCs on the same images (Obuchowski 1997).

    Args:
        tables: Predictions of each model [K] on one part, of the same images.
        contrast: The weight of each [K].
        positive: The class of interest.

    Returns:
        NaN where a class has one patient only; 0 where what is left of equal predictions is rounding.
    """
    first = tables[0]
    labels = (first["label"] == positive).to_numpy()
    scores = np.stack([table.set_index("image").loc[first["image"], f"p_{positive}"].to_numpy() for table in tables])
    covariance = obuchowski_covariance(placements(labels, scores), labels, clusters_of(first))
    variance = float(contrast @ covariance @ contrast)
    rounding = _ROUNDING * float(np.abs(contrast) @ np.abs(covariance) @ np.abs(contrast))
    return 0.0 if variance <= rounding else variance


def _figures(rows: pd.DataFrame, positive: str) -> dict[str, Any]:
    labels, shares = (rows["label"] == positive).to_numpy(), rows[f"p_{positive}"].to_numpy(dtype=np.float64)
    true = np.where(labels, shares, 1 - shares)
    order = np.argsort(shares, kind="stable")
    ones = np.ones((1, len(rows)))
    scores = binned_scores(labels[order], shares[order], clusters_of(rows)[order], BINS)(ones)
    fit = recalibrate(labels, shares, ones)
    return {
        "images": len(rows),
        "auroc": auroc(labels, shares),
        "log_loss": float(-np.log(np.clip(true, CLIP, 1)).mean()),
        "brier": float(((shares - labels) ** 2).mean()),
        "calibration_slope": float(fit.slope[0]),
        "calibration_error": float(scores["calibration_error"][0]),
    }


def test_share(figures: pd.DataFrame, hospital: str) -> float:
    """Return images of a hospital that are tested over images that are trained on, in a fold."""
    # A row a fold: how many other cells of a fold are finished must not weigh it.
    own = figures[figures["hospital"] == hospital].drop_duplicates(["fold", "part"])
    tested, trained = (own.loc[own["part"] == part, "images"].mean() for part in (INTERNAL, TRAIN))
    return float(tested / trained)
