"""The operating point: the threshold that reaches an asked sensitivity, and how far it strays."""

from __future__ import annotations

import re

import numpy as np

from medsharp.bundle import OperatingPoint
from medsharp.errors import InputError
from medsharp.evaluation.statistics.bootstrap import draw
from medsharp.evaluation.statistics.intervals import percentile, wilson
from medsharp.quantities import counted

_FEW_OF_A_CLASS = 20
"""With fewer positives, a sensitivity of 0.95 means that all of them are found: one image moves the threshold."""

LEAST_POSITIVES = 3
"""Of fewer, even where all are found, the exact 95 % interval of the sensitivity spans more than four fifths of all
that is possible: it begins at 0.025^(1/2) = 0.16 for two, and at 0.025^(1/3) = 0.29 for three."""

_RULE = "largest threshold with sensitivity >= {sensitivity:g} on {where}, laid half way down to the next lower score"
_ASKED = re.compile(r"sensitivity >= ([0-9.]+)")


def choose_operating_point(
    scores: np.ndarray,
    positive: np.ndarray,
    sensitivity: float,
    *,
    clusters: np.ndarray | None = None,
    where: str = "internal validation images",
) -> OperatingPoint:
    """Choose the largest threshold that still finds the asked share of positives.

    It is laid half way down to the next lower score, so that rounding in another runtime does not move the decision.

    Args:
        scores: Calibrated probability of the positive class [N].
        positive: bool [N].
        sensitivity: Share of the positives that must score at or above the threshold.
        clusters: The patient of each image, int 0, 1, ... [N], which are resampled for the threshold's interval; each
            image by itself by default.
        where: What the images are.

    Raises:
        InputError: There are no positives or no negatives, or the sensitivity is no share above 0.
    """
    threshold = largest_threshold(scores, positive, sensitivity, where=where)
    flagged = scores >= threshold
    own = np.arange(len(scores)) if clusters is None else clusters
    return OperatingPoint(
        threshold=threshold,
        rule=_RULE.format(sensitivity=sensitivity, where=where)
        + scarcity(int(positive.sum()), int((~positive).sum()), "; "),
        sensitivity=float(flagged[positive].mean()),
        specificity=float((~flagged[~positive]).mean()),
        images=len(scores),
        positives=int(positive.sum()),
        interval=threshold_interval(scores, positive, sensitivity, clusters),
        sensitivity_interval=share_interval(flagged[positive], own[positive]),
        specificity_interval=share_interval(~flagged[~positive], own[~positive]),
    )


def largest_threshold(
    scores: np.ndarray, positive: np.ndarray, sensitivity: float, *, where: str = "internal validation images"
) -> float:
    """Return the threshold of `choose_operating_point` alone.

    Args:
        scores: Probability of the positive class [N].
        positive: bool [N].
        sensitivity: Share of the positives that must score at or above it.
        where: What the images are.

    Raises:
        InputError: There are no positives or no negatives, or the sensitivity is no share above 0.
    """
    check_choice(positive, sensitivity, where)
    return _threshold(scores, positive, np.ones(len(scores)), sensitivity)


def asked_sensitivity(point: OperatingPoint) -> float | None:
    """Return the sensitivity that the rule of an operating point asks for; None where its rule is another one."""
    found = _ASKED.search(point.rule)
    return float(found[1]) if found else None


def threshold_interval(
    scores: np.ndarray,
    positive: np.ndarray,
    sensitivity: float,
    clusters: np.ndarray | None = None,
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> tuple[float, float] | None:
    """Return how far the threshold strays: its 95 % interval over resampled patients, at the temperature as it is.

    Args:
        scores: As for `choose_operating_point`.
        positive: bool [N].
        sensitivity: Share of the positives to find.
        clusters: The patient of each image, int [N]; each image by itself by default.
        resamples: Of patients with all their images.
        seed: Of the draws.

    Returns:
        The 2.5 % and 97.5 % percentiles, or None where a single patient has all positives.
    """
    clusters = np.arange(len(scores)) if clusters is None else clusters
    if len(np.unique(clusters[positive])) < 2:
        return None
    weights = draw(int(clusters.max()) + 1, resamples, np.random.default_rng(seed))[:, clusters]  # [R, N]
    thresholds = [_threshold(scores, positive, row, sensitivity) for row in weights if row[positive].any()]
    return percentile(np.array(thresholds))


def share_interval(
    right: np.ndarray, clusters: np.ndarray, *, resamples: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """Return the 95 % interval of the share of images decided rightly at a threshold as it is.

    It is that of resampled patients with all their images; of a share of 0 or 1, which is the same in every resample,
    Wilson's of so many patients.

    Args:
        right: Of the images of one class, bool [N].
        clusters: The patient of each, int [N].
        resamples: Of patients.
        seed: Of the draws.
    """
    return share_intervals(right[:, None], clusters, resamples=resamples, seed=seed)[0]


def share_intervals(
    right: np.ndarray, clusters: np.ndarray, *, resamples: int = 1000, seed: int = 0
) -> list[tuple[float, float]]:
    """Return the intervals of `share_interval` for several thresholds, over the same resamples.

    Args:
        right: Of the images of one class at each of T thresholds, bool [N, T].
        clusters: The patient of each, int [N].
        resamples: Of patients.
        seed: Of the draws.
    """
    patients, number = np.unique(clusters, return_inverse=True)
    weights = draw(len(patients), resamples, np.random.default_rng(seed))[:, number].astype(np.float64)  # [R, N]
    shares = weights @ right / weights.sum(axis=1, keepdims=True)  # [R, T]
    return [
        # In no resample does a share of 0 or 1 move.
        wilson(float(one.mean()) * len(patients), len(patients)) if one.all() or not one.any() else percentile(column)
        for one, column in zip(right.T, shares.T, strict=True)
    ]


def _threshold(scores: np.ndarray, positive: np.ndarray, weights: np.ndarray, sensitivity: float) -> float:
    """Return the threshold where image n counts `weights[n]` times."""
    order = np.argsort(-scores[positive], kind="stable")
    found = np.cumsum(weights[positive][order], dtype=np.float64)  # positives at or above each score
    needed = np.ceil(sensitivity * found[-1] - 1e-9)
    least = float(scores[positive][order][np.searchsorted(found, needed)])
    below = scores[(scores < least) & (weights > 0)]
    return (least + float(below.max())) / 2 if len(below) else least / 2


def check_choice(
    positive: np.ndarray, sensitivity: float, where: str = "internal validation images", *, least: int = 1
) -> None:
    """Refuse what no operating point can be chosen with, before anything is computed.

    Args:
        positive: bool [N], of the images.
        sensitivity: Share of the positives to find.
        where: What the images are.
        least: Positives that are needed.

    Raises:
        InputError: There are no images, too few positives or no negatives, or the sensitivity is no share above 0.
    """
    if not 0 < sensitivity <= 1:
        raise InputError(f"sensitivity {sensitivity:g} must be above 0 and at most 1")
    if len(positive) == 0:
        raise InputError(f"there are no {where}; no operating point can be chosen")
    if positive.all() or not positive.any():
        raise InputError(f"the {where} are of one class only; no operating point can be chosen")
    if positive.sum() < least:
        raise InputError(
            f"only {counted(int(positive.sum()), 'positive')} among the {len(positive)} {where}: no operating point "
            f"is frozen on fewer than {least}, which say next to nothing of its sensitivity even where all are found; "
            "validate on more images (data.fractions, or data.folds and several runs)"
        )


def scarcity(positives: int, negatives: int, before: str = "") -> str:
    """Say that an operating point stands on few images of a class: `only 7 positives, so it is uncertain`, or nothing.

    Args:
        positives: Validation images of the positive class.
        negatives: The others.
        before: What to begin with, where something is said.
    """
    counts = {"positives": positives, "negatives": negatives}
    few = [f"{count} {name}" for name, count in counts.items() if count < _FEW_OF_A_CLASS]
    return f"{before}only {' and '.join(few)}, so it is uncertain" if few else ""
