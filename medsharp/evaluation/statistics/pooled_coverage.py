"""How often summaries over sites hold the truth: measured on simulated sites."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logit, ndtri

from medsharp.evaluation.statistics.pooling import NORMAL, pool_effects, pool_shares
from medsharp.evaluation.statistics.site_effects import Share, area_effect, effective_counts, share_of
from medsharp.progress import Progress

_COPIED = math.sqrt(0.5)
"""Share of the images that are decided as their patient is: two images of a patient correlate with 0.5."""


@dataclass(frozen=True)
class Cell:
    """One kind of study.

    Attributes:
        sites: How many.
        patients: At a site, on average; from half to one and a half times as many.
        share: At the median site.
        tau: Standard deviation of the sites' log odds.
        images: Of a patient at most; each number up to it is as likely.
        figure: `share`, or `auroc` of normal scores with a third of the patients positive, of one image each.
    """

    sites: int
    patients: int
    share: float
    tau: float
    images: int = 1
    figure: str = "share"


@dataclass(frozen=True)
class PooledCoverage:
    """How the summaries of one kind of study did.

    Attributes:
        cell: The kind.
        covered: Share of the studies whose interval holds the median site's share.
        below: Share whose interval lies below it.
        normal: Share in which the plain normal-normal interval holds it.
        predicted: Share of new sites whose true share the prediction interval holds, where there is one.
        used: Share of the studies in which the normal-normal model stands.
        width: Mean width of the interval.
        studies: How many.
    """

    cell: Cell
    covered: float
    below: float
    normal: float
    predicted: float
    used: float
    width: float
    studies: int


SHARES = tuple(
    [Cell(*values) for values in itertools.product((3, 10, 50, 200), (10, 100, 500), (0.5, 0.9, 0.99), (0.0, 0.5))]
    + [Cell(*values, images=3) for values in itertools.product((10, 50), (100,), (0.5, 0.9, 0.99), (0.0, 0.5))]
)

AREAS = tuple(
    Cell(*values, figure="auroc")
    for values in itertools.product((3, 10, 50, 200), (20, 50, 200), (0.75, 0.95), (0.0, 0.3))
)


def measure_pooling(
    *, studies: int = 200, seed: int = 0, cells: Sequence[Cell] = SHARES, progress: Progress | None = None
) -> list[PooledCoverage]:
    """Simulate studies of several sites and count how often each summary holds the truth.

    Args:
        studies: Of each kind.
        seed: Of everything.
        cells: The kinds.
        progress: Called with kinds done, kinds in all and what is being done.
    """
    found = []
    for number, (cell, stream) in enumerate(zip(cells, np.random.default_rng(seed).spawn(len(cells)), strict=True), 1):
        found.append(_measured(cell, studies, stream))
        if progress is not None:
            progress(number, len(cells), f"{cell.sites} sites of {cell.patients} patients")
    return found


def _measured(cell: Cell, studies: int, rng: np.random.Generator) -> PooledCoverage:
    centre = float(logit(cell.share))
    rows = []
    for _ in range(studies):
        shares = cell.figure == "share"
        pooled = pool_shares(*draw(cell, rng)) if shares else pool_effects(*_areas(cell, rng), logit=True)
        found, usual = pooled.found, pooled.normal or pooled.found
        new = centre + cell.tau * rng.normal()
        known = not math.isnan(found.prediction_low)
        rows.append(
            (
                found.low <= centre <= found.high,
                found.high < centre,
                usual.low <= centre <= usual.high,
                found.prediction_low <= new <= found.prediction_high if known else math.nan,
                pooled.method == NORMAL,
                float(expit(found.high) - expit(found.low)),
            )
        )
    covered, below, normal, predicted, used, width = np.array(rows, dtype=float).T
    told = predicted[np.isfinite(predicted)]
    return PooledCoverage(
        cell,
        float(covered.mean()),
        float(below.mean()),
        float(normal.mean()),
        float(told.mean()) if len(told) else math.nan,
        float(used.mean()),
        float(width.mean()),
        studies,
    )


def draw(cell: Cell, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return successes and totals of a study's sites, as if images were independent, [k] each."""
    patients = rng.integers(cell.patients // 2, cell.patients * 3 // 2 + 1, cell.sites)
    shares = expit(logit(cell.share) + cell.tau * rng.normal(size=cell.sites))
    if cell.images == 1:
        return rng.binomial(patients, shares).astype(float), patients.astype(float)
    return effective_counts(
        [_site(int(count), float(share), cell.images, rng) for count, share in zip(patients, shares, strict=True)]
    )


def _site(patients: int, share: float, images: int, rng: np.random.Generator) -> Share:
    clusters = np.repeat(np.arange(patients), rng.integers(1, images + 1, patients))
    of_patients = rng.random(patients) < share
    copied = rng.random(len(clusters)) < _COPIED
    return share_of(np.where(copied, of_patients[clusters], rng.random(len(clusters)) < share), clusters)


def _areas(cell: Cell, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    effects = []
    for area in expit(logit(cell.share) + cell.tau * rng.normal(size=cell.sites)):
        patients = int(rng.integers(cell.patients // 2, cell.patients * 3 // 2 + 1))
        labels = rng.random(patients) < 1 / 3
        labels[:2] = True, False
        scores = rng.normal(size=patients) + labels * math.sqrt(2) * ndtri(area)
        effects.append(area_effect(labels, scores, np.arange(patients)))
    values, variances = np.array([effect for effect in effects if effect is not None]).T
    return values, variances


def table(found: Sequence[PooledCoverage]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return header and rows of one figure: sites and patients below each other, shares and spread side by side."""
    figure = found[0].cell.figure
    kinds = list(dict.fromkeys((entry.cell.share, entry.cell.tau) for entry in found))
    cells = {entry.cell: f"{100 * entry.covered:.1f} ({100 * entry.normal:.1f})" for entry in found}
    places = list(dict.fromkeys((entry.cell.sites, entry.cell.patients, entry.cell.images) for entry in found))
    header = (figure, "patients", "images", *(f"{share:g}, tau {tau:g}" for share, tau in kinds))
    rows = []
    for sites, patients, images in places:
        shown = [cells.get(Cell(sites, patients, share, tau, images, figure), "") for share, tau in kinds]
        rows.append((f"{sites} sites", str(patients), "1" if images == 1 else f"1 to {images}", *shown))
    return header, rows
