"""From cells to what a reader wants first: means, worst cases, annotations, what holds under everything."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from medsharp.evaluation.statistics.estimate import Estimate
from medsharp.robustness.annotations import against_controls
from medsharp.robustness.cells import FIGURES, Cell, Judge
from medsharp.robustness.corruptions import CORRUPTIONS, SEVERITIES
from medsharp.robustness.medmnist_c import balanced_errors

Cells = Mapping[tuple[str, int], Cell]
"""By corruption and severity."""

WORST = 10
MOVED = 0.01
"""Least change of a probability that counts as one."""
IDLE = 0.05
"""A corruption that moves fewer answers than this share, even at severity 5, is named: it tells little in a mean."""


def answers_moved(scores: np.ndarray, clean: np.ndarray) -> float:
    """Return the share of images whose probability of the positive class, [N], is another than on the clean image."""
    return float((np.abs(scores - clean) > MOVED).mean())


def idle(moved: Mapping[tuple[str, int], float]) -> list[str]:
    """Return the corruptions that change next to nothing for a model even at severity 5, by `answers_moved`."""
    last = SEVERITIES[-1]
    return [
        name
        for (name, severity), share in moved.items()
        if severity == last and share < IDLE and CORRUPTIONS[name].control_of is None
    ]


def summarised(cells: Cells, apart: Collection[str] = ()) -> Cells:
    """Return the cells that means, worst cases and what holds under everything are over.

    Controls are no corruption that happens to images, and corruptions that stand apart may have cut the lesion away.
    """
    return {
        (name, severity): cell
        for (name, severity), cell in cells.items()
        if CORRUPTIONS[name].control_of is None and name not in apart
    }


def describe(
    judge: Judge, clean: Cell, cells: Cells, apart: Collection[str] = (), guessed: bool = False
) -> dict[str, Any]:
    """Return a model's entry of `robustness.json`: clean, cells, summary, annotations, medmnist_c.

    Args:
        judge: That judged them.
        clean: The clean images.
        cells: All severities of each corruption.
        apart: Corruptions after which labels may not hold: they have cells and are in no summary.
        guessed: Where the lesion is was guessed on some images.
    """
    every = summarised(cells, apart)
    names = list(dict.fromkeys(name for name, _ in cells))
    balanced = {name: [cells[name, severity].figures["balanced_accuracy"] for severity in SEVERITIES] for name in names}
    return {
        "clean": {name: estimate.figure() for name, estimate in clean.figures.items()},
        "cells": [
            {"corruption": name, "severity": severity, **describe_cell(cell, clean)}
            for (name, severity), cell in cells.items()
        ],
        "summary": {
            **_means(clean, list(every.values())),
            "families": {
                family: _means(clean, [cell for (name, _), cell in every.items() if CORRUPTIONS[name].family == family])
                for family in dict.fromkeys(CORRUPTIONS[name].family for name, _ in every)
            },
            "worst": worst(clean, every),
            "every": [_every(judge, clean, every, severity) for severity in SEVERITIES],
        },
        "annotations": against_controls(cells, guessed),
        "medmnist_c": balanced_errors(clean.figures["balanced_accuracy"], balanced),
    }


def describe_cell(cell: Cell, clean: Cell) -> dict[str, Any]:
    """Return figures, their changes from the clean images, and flips, each with its interval."""
    return {
        "figures": {key: estimate.figure() for key, estimate in cell.figures.items()},
        "changes": {key: (cell.figures[key] - clean.figures[key]).figure() for key in FIGURES},
        "flips": {key: estimate.figure() for key, estimate in cell.flips.items()},
    }


def worst(clean: Cell, cells: Cells) -> list[dict[str, Any]]:
    """Return the cells of lowest AUROC, the lowest first; those without an AUROC come first of all."""

    def place(item: tuple[tuple[str, int], Cell]) -> float:
        value = item[1].figures["auroc"].value
        return value if np.isfinite(value) else -1.0

    return [
        {
            "corruption": name,
            "severity": severity,
            "auroc": cell.figures["auroc"].figure(),
            "auroc_change": (cell.figures["auroc"] - clean.figures["auroc"]).figure(),
            "sensitivity": cell.figures["sensitivity"].figure(),
            "specificity": cell.figures["specificity"].figure(),
            "flips": cell.flips["all"].figure(),
        }
        for (name, severity), cell in sorted(cells.items(), key=place)[:WORST]
    ]


def overall(cells: Sequence[Cell], figure: str) -> Estimate:
    """Average a figure over cells."""
    return Estimate.mean([cell.figures[figure] for cell in cells])


def flipped(cells: Sequence[Cell]) -> Estimate:
    """Average over cells the share of images that are decided otherwise than on the clean image."""
    return Estimate.mean([cell.flips["all"] for cell in cells])


def _means(clean: Cell, cells: Sequence[Cell]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if not cells:
        nothing = {"value": None, "low": None, "high": None, "reason": "no corruption counts here"}
        names = ("auroc", "balanced_accuracy", "sensitivity", "specificity", "net_benefit_at_threshold")
        return {name + end: nothing for name in names for end in ("", "_change")} | {"flips": nothing}
    for figure in ("auroc", "balanced_accuracy", "sensitivity", "specificity", "net_benefit_at_threshold"):
        average = overall(cells, figure)
        found[figure] = average.figure()
        found[f"{figure}_change"] = (average - clean.figures[figure]).figure()
    found["flips"] = flipped(cells).figure()
    return found


def _every(judge: Judge, clean: Cell, cells: Cells, severity: int) -> dict[str, Any]:
    """Return which shares are decided rightly on the clean image and under every corruption of one severity."""
    flagged = np.stack([clean.flagged, *(cell.flagged for (_, s), cell in cells.items() if s == severity)])
    right = (flagged == judge.labels).all(axis=0)
    shares = judge.shares({"kept_positive": (right, judge.labels), "kept_negative": (right, ~judge.labels)})
    return {"severity": severity} | {name: estimate.figure() for name, estimate in shares.items()}
