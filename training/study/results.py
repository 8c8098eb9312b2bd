"""What a study found, as plain values: everything that its report shows."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import numpy as np
import pandas as pd

from medsharp import __version__
from medsharp.evaluation.report import plain
from medsharp.evaluation.statistics.holm import holm
from medsharp.progress import Progress
from training.study.comparisons import Grid, comparisons, level
from training.study.dealing import data_config
from training.study.figures import figure_table
from training.study.flatness import Measure, correlations, generalization_gaps, measure_runs
from training.study.folder import StudyFolder
from training.study.mixed_model import fit_mixed_model
from training.study.plan import plan_cells, plan_chains
from training.study.reading import CORRUPTED, EXTERNAL, INTERNAL, finished_cells, first_reading, read_all
from training.study.verdicts import RULE, decide

_LIBRARIES = ("torch", "timm", "numpy", "scipy", "optuna", "statsmodels")


def make_results(
    folder: StudyFolder,
    *,
    measure: Measure | None = None,
    device: str = "cpu",
    progress: Progress | None = None,
) -> tuple[dict[str, Any], pd.DataFrame]:
    """Read what is tested, and compute all that is reported.

    Args:
        folder: The study; where cells are missing, verdicts are withheld.
        measure: Measures sharpness; without it the report says that there is none.
        device: Where to predict.
        progress: Called while images are read and sharpness is measured.

    Returns:
        The content of `results.json`, and the figures of each cell and part.

    Raises:
        InputError: An image that is tested is not there any more.
    """
    study = folder.study
    cells = finished_cells(folder)
    planned = [cell for chain in plan_chains(study) for cell in plan_cells(study, chain)]
    readings = read_all(folder, device=device, progress=progress)
    positive = data_config(study).positive
    figures = figure_table(cells, readings, positive)
    complete = len(cells) == len(planned)
    optimizers = [one.name for one in study.optimizers]
    budgets: dict[str, Any] = {}
    for budget in study.budgets:
        grid = Grid(figures[figures["budget"] == budget], readings, positive)
        budgets[budget] = _budget(grid, optimizers, study.reference, study.rule.equivalence)
    first = Grid(figures[figures["budget"] == study.budgets[0]], readings, positive)
    claims = [decide(study, first, claim) for claim in study.claims]
    if not complete:
        reason = f"{len(planned) - len(cells)} of {len(planned)} cells are not finished: no verdict yet"
        claims = [claim | {"verdict": "withheld", "reason": reason} for claim in claims]
    gaps = generalization_gaps(figures)
    sharpness: dict[str, Any] = {"reason": "sharpness was not measured (study report --sharpness IMAGES)"}
    if measure is not None:
        measures = measure_runs(folder, figures, measure, progress)
        sharpness = {"measures": measures, "correlations": correlations(gaps, measures, study.seed)}
    content = {
        "format": 1,
        "created": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "medsharp": __version__,
        "versions": {"python": platform.python_version()} | {name: version(name) for name in _LIBRARIES},
        "study": study.model_dump(mode="json"),
        "study_sha256": study.digest(),
        "registration": dict(folder.registration),
        "first_reading": first_reading(folder),
        "complete": complete,
        "cells": {"planned": len(planned), "finished": len(cells)},
        "rule": {**study.rule.model_dump(), "budget": study.budgets[0], "by_kind": RULE},
        "claims": claims,
        "budgets": budgets,
        "sharpness": sharpness,
        "gaps": _means(gaps, ["auroc_gap", "loss_gap"]),
        "costs": _costs(cells),
        "runs": [{**record, **_gap(gaps, record)} for _, record in cells],
    }
    return plain(content), figures


def _budget(grid: Grid, optimizers: list[str], reference: str, equivalence: float) -> dict[str, Any]:
    """Return tables, comparisons, mixed models, calibration and robustness under a budget."""
    levels = []
    for hospital, network in grid.figures[["hospital", "network"]].drop_duplicates().itertuples(index=False):
        for part in grid.parts_of(hospital):
            for optimizer in optimizers:
                estimate = level(grid, hospital, network, optimizer, part)
                if estimate is not None:
                    place = {"hospital": hospital, "network": network, "part": part, "optimizer": optimizer}
                    # An AUROC ends at 1, which a t interval does not know.
                    low, high = np.clip(estimate.interval or (np.nan, np.nan), 0, 1)
                    levels.append(place | {"value": estimate.value, "low": low, "high": high})
    compared = comparisons(grid, optimizers, reference, equivalence)
    for entry, adjusted in zip(compared, holm([entry["p"] for entry in compared]), strict=True):
        entry["p_holm"] = adjusted
        entry["family"] = len(compared)
    parts = grid.figures["part"]
    return {
        "levels": levels,
        "comparisons": compared,
        "mixed_models": {
            "internal": fit_mixed_model(grid.figures[parts == INTERNAL], reference),
            "external": fit_mixed_model(grid.figures[parts.str.startswith(EXTERNAL)], reference),
        },
        "calibration": _means(
            grid.figures[(parts == INTERNAL) | parts.str.startswith(EXTERNAL)],
            ["calibration_slope", "calibration_error", "log_loss", "brier"],
            ["part"],
        ),
        "robustness": _robustness(grid.figures),
    }


def _robustness(figures: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the AUROC that each corruption costs, by optimizer and network, on the same images of the same runs."""
    clean = figures[figures["part"] == INTERNAL].set_index(["hospital", "network", "optimizer", "fold", "seed"])[
        "auroc"
    ]
    changed = figures[figures["part"].str.startswith(CORRUPTED)]
    if changed.empty:
        return []
    before = clean.loc[pd.MultiIndex.from_frame(changed[list(clean.index.names)])].to_numpy()
    return _means(changed.assign(lost=before - changed["auroc"]), ["lost"], ["part"])


def _means(table: pd.DataFrame, values: list[str], more: list[str] | None = None) -> list[dict[str, Any]]:
    keys = [*(more or []), "hospital", "network", "optimizer", *(["budget"] if "budget" in table else [])]
    # What does not exist in a fold, such as the slope where classes are separated, has no mean over folds.
    means = table.groupby(keys, sort=False)[values].agg(lambda column: column.mean(skipna=False)).reset_index()
    return [dict(row) for row in means.to_dict("records")]


def _costs(cells: list[tuple[Any, dict[str, Any]]]) -> list[dict[str, Any]]:
    """Return seconds an epoch and images a second of training, by optimizer, network and hospital."""
    table = pd.DataFrame([record for _, record in cells])
    keys = ["hospital", "network", "optimizer"]
    means = table.groupby(keys, sort=False)[["seconds_an_epoch", "images"]].mean().reset_index()
    means["images_a_second"] = means["images"] / means["seconds_an_epoch"]
    return [dict(row) for row in means.to_dict("records")]


def _gap(gaps: pd.DataFrame, record: Mapping[str, Any]) -> dict[str, float]:
    row = gaps[(gaps["run"] == record["run"]) & (gaps["budget"] == record["budget"])].iloc[0]
    return {key: float(row[key]) for key in ("auroc_gap", "loss_gap")}
