"""Optimizers against the reference: on each network, hospital and part, paired by fold, seed and image."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from medsharp.keys import clusters_of
from training.study.estimate import Estimate, correlated_t
from training.study.figures import contrast_variance, test_share
from training.study.reading import EXTERNAL, INTERNAL


@dataclass(frozen=True)
class Grid:
    """All that was read of a budget.

    Attributes:
        figures: As `figure_table` gives them.
        readings: Predictions by run.
        positive: The class of interest.
    """

    figures: pd.DataFrame
    readings: Mapping[str, pd.DataFrame]
    positive: str

    def parts_of(self, hospital: str) -> list[str]:
        """Return where a hospital's networks are compared: on its test folds, and on each other hospital."""
        found = self.figures.loc[self.figures["hospital"] == hospital, "part"].unique()
        return [part for part in found if part == INTERNAL or part.startswith(EXTERNAL)]

    def select(self, hospital: str, networks: Sequence[str], optimizer: str, part: str) -> pd.DataFrame:
        """Return the figures of an optimizer on a part."""
        table = self.figures
        wanted = (table["hospital"] == hospital) & (table["optimizer"] == optimizer) & (table["part"] == part)
        return table[wanted & table["network"].isin(list(networks))]

    def test_share(self, hospital: str) -> float:
        """Return images that are tested over images that are trained on, in a fold."""
        return test_share(self.figures, hospital)

    def predictions(self, runs: Sequence[str], part: str) -> list[pd.DataFrame]:
        """Return what runs predicted of a part."""
        return [self.readings[run][self.readings[run]["part"] == part] for run in runs]


def level(grid: Grid, hospital: str, network: str, optimizer: str, part: str) -> Estimate | None:
    """Estimate the mean AUROC of an optimizer for new patients and new trainings; None where no two folds are there.

    The patients' variance is Obuchowski's, of all networks as they are: each test fold has patients of its own;
    another hospital's are the same for all. To that comes the variance between trainings: on another hospital that
    between folds; on test folds what the folds vary more than their patients explain.
    """
    cells = grid.select(hospital, [network], optimizer, part)
    by_fold = cells.groupby("fold")["auroc"].mean()
    if len(by_fold) < 2:
        return None
    variance, patients = _patients(grid, cells, np.full(len(cells), 1 / len(cells)), part)
    spread = float(np.var(by_fold, ddof=1))
    if part == INTERNAL:
        folds = len(by_fold)
        # `variance` is of the mean over folds: K times it is that of a fold.
        spread = max(0.0, spread - folds * variance)
    share = grid.test_share(hospital)
    trainings = spread * (1 / len(by_fold) + share)
    return Estimate.of_parts(float(by_fold.mean()), [(variance, patients - 1), (trainings, len(by_fold) - 1)])


def difference(
    grid: Grid, hospital: str, networks: Sequence[str], optimizer: str, reference: str, part: str
) -> Estimate | None:
    """Estimate how much higher the AUROC of an optimizer is than the reference's, networks and seeds averaged.

    As `contrast`, of equal weights.
    """
    return contrast(grid, hospital, dict.fromkeys(networks, 1 / len(networks)), optimizer, reference, part)


def start_contrast(
    grid: Grid,
    hospital: str,
    networks: Sequence[str],
    pretrained: Container[str],
    optimizer: str,
    reference: str,
    part: str,
) -> Estimate | None:
    """Estimate how much more an optimizer gains on the reference from scratch than from pretrained weights.

    The mean difference of the networks from scratch less that of the pretrained ones, as `contrast`.

    Returns:
        None where `networks` are all from scratch or all pretrained, or `contrast` is None.
    """
    ready = [name for name in networks if name in pretrained]
    scratch = [name for name in networks if name not in pretrained]
    if not ready or not scratch:
        return None
    weights = dict.fromkeys(scratch, 1 / len(scratch)) | dict.fromkeys(ready, -1 / len(ready))
    return contrast(grid, hospital, weights, optimizer, reference, part)


def contrast(
    grid: Grid, hospital: str, weights: Mapping[str, float], optimizer: str, reference: str, part: str
) -> Estimate | None:
    """Estimate a weighted sum over networks of how much higher an optimizer's AUROC is than the reference's.

    On test folds by the correlated t test over folds. On another hospital, whose patients are the same for all, by
    Obuchowski's variance over patients and the corrected variance of the folds' differences.

    Args:
        grid: What was read.
        hospital: Trained on.
        weights: Of each network; seeds count alike.
        optimizer: Compared.
        reference: With which.
        part: Tested.

    Returns:
        None where a fold, seed or network of either is missing, or there is one fold only.
    """
    one, other = (grid.select(hospital, list(weights), name, part) for name in (optimizer, reference))
    keys = ["network", "fold", "seed"]
    paired = one.merge(other, on=keys, suffixes=("", "_reference"))
    if not len(one) or len(paired) != len(one) or len(paired) != len(other):
        return None
    by_cell = (paired["auroc"] - paired["auroc_reference"]).groupby([paired["fold"], paired["network"]])
    if (
        by_cell.count().unstack(fill_value=0).reindex(columns=list(weights), fill_value=0) != paired["seed"].nunique()
    ).any(axis=None):
        return None
    by_fold = by_cell.mean().unstack()
    differences = (by_fold * pd.Series(weights)).sum(axis=1).to_numpy()
    if len(differences) < 2:
        return None
    share = grid.test_share(hospital)
    corrected = correlated_t(differences, share)
    if part == INTERNAL:
        return corrected
    both = pd.concat([one, other])
    signs = np.concatenate([np.ones(len(one)), -np.ones(len(other))])
    rows = signs * both["network"].map(weights).to_numpy() / (len(one) / len(weights))
    variance, patients = _patients(grid, both, rows, part)
    return Estimate.of_parts(corrected.value, [(variance, patients - 1), (corrected.error**2, corrected.free)])


def comparisons(grid: Grid, optimizers: Sequence[str], reference: str, equivalence: float) -> list[dict[str, Any]]:
    """Return every comparison with the reference: where it is, and the estimate as plain values."""
    found = []
    for hospital, network in grid.figures[["hospital", "network"]].drop_duplicates().itertuples(index=False):
        for part in grid.parts_of(hospital):
            for optimizer in optimizers:
                if optimizer == reference:
                    continue
                estimate = difference(grid, hospital, [network], optimizer, reference, part)
                if estimate is not None:
                    place = {"hospital": hospital, "network": network, "part": part, "optimizer": optimizer}
                    found.append(place | estimate.as_dict(equivalence))
    return found


def starts(
    grid: Grid, pretrained: Container[str], optimizers: Sequence[str], reference: str, equivalence: float
) -> list[dict[str, Any]]:
    """Return what each optimizer gains on the reference from scratch, and how much more that is than when pretrained.

    Returns:
        For each hospital, part and optimizer the estimates `scratch`, `pretrained` and `more` (the first less the
        second) as plain values; nothing where networks are all from scratch or all pretrained.
    """
    found = []
    networks = list(grid.figures["network"].unique())
    ready = [name for name in networks if name in pretrained]
    fresh = [name for name in networks if name not in pretrained]
    for hospital in grid.figures["hospital"].unique():
        for part in grid.parts_of(hospital):
            for optimizer in optimizers:
                if optimizer == reference:
                    continue
                more = start_contrast(grid, hospital, networks, pretrained, optimizer, reference, part)
                if more is None:
                    continue
                each = {
                    name: difference(grid, hospital, group, optimizer, reference, part)
                    for name, group in (("scratch", fresh), ("pretrained", ready))
                }
                values = {name: one.as_dict(equivalence) for name, one in each.items() if one is not None}
                place = {"hospital": hospital, "part": part, "optimizer": optimizer}
                found.append(place | values | {"more": more.as_dict(equivalence)})
    return found


def _patients(grid: Grid, cells: pd.DataFrame, weights: np.ndarray, part: str) -> tuple[float, int]:
    """Return the variance over patients of a weighted sum of AUROCs, and how many patients there are."""
    if part != INTERNAL:
        tables = grid.predictions(list(cells["run"]), part)
        return contrast_variance(tables, weights, grid.positive), _count(tables[0])
    variance, count = 0.0, 0
    for fold in sorted(set(cells["fold"])):
        here = (cells["fold"] == fold).to_numpy()
        tables = grid.predictions(list(cells.loc[here, "run"]), part)
        variance += contrast_variance(tables, weights[here], grid.positive)
        count += _count(tables[0])
    return variance, count


def _count(table: pd.DataFrame) -> int:
    return len(set(clusters_of(table)))
