"""Figures of a cross-validation: of each hospital left out, and of all pooled, beside those of single members."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from medsharp.config import TrainConfig
from medsharp.data.manifest import DatasetInfo
from medsharp.evaluation import Evaluation
from medsharp.evaluation.own_thresholds import evaluate_at_own_thresholds
from medsharp.evaluation.report import write_evaluation
from medsharp.files import atomic_path
from training.crossvalidation.plan import By
from training.crossvalidation.pooling import Unit

PREDICTIONS = "predictions.csv"
MEMBERS = "member_predictions.csv"
OUT_OF_FOLD = "out_of_fold.csv"
SUMMARY = "summary.csv"
_FIGURES = ("auroc", "calibration_slope", "calibration_intercept", "sensitivity", "specificity")


def evaluate_units(units: Sequence[Unit], config: TrainConfig, by: By, info: DatasetInfo) -> list[Evaluation]:
    """Evaluate what was left out: by site each hospital and then all; by fold each hospital where there are several.

    A hospital of one class has no evaluation of its own.
    """
    table = pd.concat([unit.predictions for unit in units], ignore_index=True)
    role = "external" if by == "site" else "internal"
    about = {key: getattr(info, key) for key in ("source", "licence", "citation", "doi")}
    options: dict[str, Any] = {"classes": config.data.classes, "positive": config.data.positive, "role": role}
    options["about"] = about
    caution = _cautions(config, by)
    groups: list[tuple[str, pd.DataFrame, list[str]]] = []
    if by == "site":
        groups = [(unit.left_out, unit.predictions, [*_member_notes([unit]), *_unit_notes(unit)]) for unit in units]
    elif table["site"].nunique() > 1:
        groups = [(str(site), rows, caution) for site, rows in table.groupby("site", sort=True) if site]
    groups.append((_pooled_name(by, info), table, [*caution, *_member_notes(units)]))
    positive = config.data.positive
    evaluations = [
        evaluate_at_own_thresholds(rows, name=name, warnings=notes, **options)
        for name, rows, notes in groups
        if (rows["label"] == positive).nunique() == 2
    ]
    if len(evaluations) > 1:
        evaluations[-1].content["pooled"] = True  # no further hospital to a summary over hospitals
    return evaluations


def write_results(
    root: Path, units: Sequence[Unit], members: pd.DataFrame, evaluations: Sequence[Evaluation]
) -> list[Path]:
    """Write predictions, those of single members, what decided, the figures and the report into the folder."""
    tables = {
        PREDICTIONS: pd.concat([unit.predictions for unit in units]),
        MEMBERS: members,
        OUT_OF_FOLD: pd.concat([unit.out_of_fold.assign(unit=unit.name) for unit in units]),
        SUMMARY: summary_table(units, evaluations),
    }
    for name, table in tables.items():
        with atomic_path(root / name) as temporary:
            table.to_csv(temporary, index=False, lineterminator="\n", float_format="%.9g")
    return [*(root / name for name in tables), *write_evaluation(root, evaluations, {})]


def summary_table(units: Sequence[Unit], evaluations: Sequence[Evaluation]) -> pd.DataFrame:
    """Return a row for each hospital or fold left out and one for all, with the figures that are compared most."""
    figures = {evaluation.content["name"]: evaluation.content["figures"] for evaluation in evaluations}
    rows = []
    for unit in units:
        row = {"left_out": unit.left_out or unit.name, "images": len(unit.predictions), **_of_members([unit])}
        row |= {"temperature": unit.temperature.value, "threshold": unit.point.threshold}
        row |= dict(zip(("threshold_low", "threshold_high"), unit.point.interval or (), strict=False))
        rows.append(row | _plain(figures.get(unit.left_out, {})))
    pooled = evaluations[-1].content
    images = sum(len(unit.predictions) for unit in units)
    rows.append({"left_out": pooled["name"], "images": images, **_of_members(units)} | _plain(pooled["figures"]))
    return pd.DataFrame(rows)


def _of_members(units: Sequence[Unit]) -> dict[str, Any]:
    areas = [area for unit in units for area in unit.members_auroc]
    return {
        "members": len(areas),
        "members_auroc_mean": float(np.mean(areas)),
        "members_auroc_low": min(areas),
        "members_auroc_high": max(areas),
    }


def _plain(figures: dict[str, Any]) -> dict[str, Any]:
    return {
        key if end == "value" else f"{key}_{end}": figures[key][end]
        for key in _FIGURES
        if key in figures
        for end in ("value", "low", "high")
    }


def _member_notes(units: Sequence[Unit]) -> list[str]:
    of = _of_members(units)
    if of["members"] == 1:
        return []
    return [
        f"the {of['members']} members by themselves have AUROC {of['members_auroc_mean']:.3f} on average, from "
        f"{of['members_auroc_low']:.3f} to {of['members_auroc_high']:.3f}, each on what it leaves out"
    ]


def _unit_notes(unit: Unit) -> list[str]:
    point, obstacle = unit.point, unit.temperature.obstacle
    return [
        f"threshold {point.threshold:.4f}{_between(point.interval)}, chosen on {point.images} images of the other "
        f"hospitals (there: sensitivity {point.sensitivity:.3f}, specificity {point.specificity:.3f}); temperature "
        f"{unit.temperature.value:.3f}{f', as {obstacle}' if obstacle else ''}"
    ]


def _between(limits: tuple[float, float] | None) -> str:
    return "" if limits is None else f" (95 % interval {limits[0]:.4f} to {limits[1]:.4f})"


def _cautions(config: TrainConfig, by: By) -> list[str]:
    if by == "site" or config.data.fold_role == "test" or config.schedule.keep == "last":
        return []
    return [
        "the epoch of each member was chosen on the very fold that is evaluated (data.fold_role: val), so that these "
        "figures are too good; schedule.keep: last leaves that fold untouched"
    ]


def _pooled_name(by: By, info: DatasetInfo) -> str:
    return "all left-out hospitals pooled" if by == "site" else f"{info.name}, all folds pooled"
