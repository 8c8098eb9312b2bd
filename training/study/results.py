"""What a study found, as plain values: everything that its report shows."""

from __future__ import annotations

import platform
from collections.abc import Container, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import numpy as np
import pandas as pd

from medsharp import __version__
from medsharp.evaluation.report import plain
from medsharp.evaluation.statistics.holm import holm
from medsharp.keys import clusters_of, patients_of, resampled
from medsharp.progress import Progress
from training.study.comparisons import Grid, comparisons, level, starts
from training.study.dealing import data_config
from training.study.definition import StudyDefinition
from training.study.figures import figure_table
from training.study.flatness import generalization_gaps
from training.study.folder import StudyFolder
from training.study.mixed_model import fit_mixed_model
from training.study.plan import cell_config, passes_of, planned_cells
from training.study.reading import CORRUPTED, EXTERNAL, INTERNAL, finished_cells, first_reading, read_all
from training.study.verdicts import RULE, cells_of, decide, withheld

_LIBRARIES = ("torch", "timm", "numpy", "scipy", "optuna", "statsmodels")


def make_results(
    folder: StudyFolder,
    *,
    device: str = "cpu",
    progress: Progress | None = None,
) -> tuple[dict[str, Any], pd.DataFrame]:
    """Read what is tested, and compute all that is reported.

    Args:
        folder: The study; a claim of which a cell is missing is withheld, with all its figures.
        device: Where to predict.
        progress: Called while images are read.

    Returns:
        The content of `results.json`, in which `sharpness` is a reason why there is none, and the figures of each cell
        and part.

    Raises:
        InputError: An image that is tested is not there any more.
    """
    study = folder.study
    cells = finished_cells(folder)
    planned = planned_cells(study)
    failed = {cell.name: reason for cell in planned if (reason := folder.failure(cell)) is not None}
    readings = read_all(folder, device=device, progress=progress)
    positive = data_config(study).positive
    figures = figure_table(cells, readings, positive)
    optimizers = [one.name for one in study.optimizers]
    budgets: dict[str, Any] = {}
    for budget in study.budgets:
        grid = Grid(figures[figures["budget"] == budget], readings, positive)
        budgets[budget] = _budget(grid, optimizers, study.reference, study.rule.equivalence, study.pretrained)
    first = Grid(figures[figures["budget"] == study.budgets[0]], readings, positive)
    finished = {cell.name for cell, _ in cells}
    claims = []
    for claim in study.claims:
        reason = _lacking([cell.name for cell in cells_of(study, claim)], finished, failed)
        claims.append(withheld(study, claim, reason) if reason else decide(study, first, claim))
    gaps = generalization_gaps(figures)
    content = {
        "format": 1,
        "created": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "medsharp": __version__,
        "versions": {"python": platform.python_version()} | {name: version(name) for name in _LIBRARIES},
        "study": study.model_dump(mode="json"),
        "study_sha256": study.digest(),
        "registration": dict(folder.registration),
        "first_reading": first_reading(folder),
        "complete": len(cells) == len(planned),
        "cells": {"planned": len(planned), "finished": len(cells), "failed": failed},
        "resampled": _resampled(figures, readings),
        "lengths": _lengths(study),
        "rule": {**study.rule.model_dump(), "budget": study.budgets[0], "by_kind": RULE},
        "claims": claims,
        "budgets": budgets,
        "sharpness": {"reason": "sharpness was not measured (study report --sharpness IMAGES)"},
        "gaps": _means(gaps, ["auroc_gap", "loss_gap"]),
        "costs": _costs(cells),
        "runs": [{**record, **_gap(gaps, record)} for _, record in cells],
    }
    return plain(content), figures


def _lacking(wanted: Sequence[str], finished: Container[str], failed: Container[str]) -> str:
    """Say which of a claim's cells are missing; nothing where none is."""
    missing = [name for name in wanted if name not in finished]
    if not missing:
        return ""
    ended = sum(name in failed for name in missing)
    return f"it lacks {len(missing)} of its {len(wanted)} cells" + (f", {ended} of which failed" if ended else "")


def _resampled(figures: pd.DataFrame, readings: Mapping[str, pd.DataFrame]) -> list[dict[str, Any]]:
    """Say for the test folds of each hospital what counts as one case: a patient, where patients are known."""
    found = []
    for hospital, own in figures[figures["part"] == INTERNAL].groupby("hospital", sort=False):
        tables = [readings[run] for run in own.drop_duplicates("fold")["run"]]
        rows = pd.concat([table[table["part"] == INTERNAL] for table in tables], ignore_index=True)
        clusters = clusters_of(rows)
        counts = {"images": len(rows), "clusters": len(set(clusters)), "known": int((patients_of(rows) != "").sum())}
        found.append({"hospital": hospital, "unit": resampled(rows, clusters), **counts})
    return found


def _lengths(study: StudyDefinition) -> list[dict[str, Any]]:
    """Return epochs, and passes over the training images, of each optimizer and budget, the same in all folds."""
    found: dict[tuple[str, ...], dict[str, Any]] = {}
    for cell in planned_cells(study):
        names = (cell.chain.hospital.name, cell.chain.network.name, cell.chain.optimizer.name, cell.budget)
        if names not in found:
            config = cell_config(study, cell, {})
            place = dict(zip(("hospital", "network", "optimizer", "budget"), names, strict=True))
            found[names] = place | {"epochs": config.schedule.epochs, "passes": passes_of(config)}
    for (hospital, network, _, budget), entry in found.items():
        entry["of_reference"] = entry["passes"] / found[hospital, network, study.reference, budget]["passes"]
    return list(found.values())


def _budget(
    grid: Grid, optimizers: list[str], reference: str, equivalence: float, pretrained: Container[str] = ()
) -> dict[str, Any]:
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
    of_starts = starts(grid, pretrained, optimizers, reference, equivalence)
    for family in (compared, [entry["more"] for entry in of_starts]):
        for entry, adjusted in zip(family, holm([entry["p"] for entry in family]), strict=True):
            entry["p_holm"] = adjusted
            entry["family"] = len(family)
    parts = grid.figures["part"]
    return {
        "levels": levels,
        "comparisons": compared,
        "starts": of_starts,
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
    """Return seconds an epoch and images a second of training, by optimizer, network and hospital.

    The median over runs and its quartiles: of a machine that does other work meanwhile, a mean says nothing.
    """
    table = pd.DataFrame([record for _, record in cells]).drop_duplicates("run")
    found = []
    for names, own in table.groupby(["hospital", "network", "optimizer"], sort=False):
        place = dict(zip(("hospital", "network", "optimizer"), names, strict=True))
        low, middle, high = own["seconds_an_epoch"].quantile([0.25, 0.5, 0.75])
        seconds = {"seconds_an_epoch": middle, "low": low, "high": high}
        rate = (own["images"] / own["seconds_an_epoch"]).median()
        found.append({**place, "runs": len(own), **seconds, "images_a_second": rate})
    return found


def _gap(gaps: pd.DataFrame, record: Mapping[str, Any]) -> dict[str, float]:
    row = gaps[(gaps["run"] == record["run"]) & (gaps["budget"] == record["budget"])].iloc[0]
    return {key: float(row[key]) for key in ("auroc_gap", "loss_gap")}
