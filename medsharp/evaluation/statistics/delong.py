"""AUROC with its variance in closed form: DeLong for images that are independent, Obuchowski for several a patient."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr

from medsharp.evaluation.statistics.intervals import Z


@dataclass(frozen=True)
class Placements:
    """What DeLong's and Obuchowski's variances are made of, for K models on the same images.

    Attributes:
        areas: AUROC of each model [K].
        of_positives: Share of the negatives that each positive beats, ties half: `V10` [K, P].
        of_negatives: Share of the positives that beat each negative: `V01` [K, Q].
    """

    areas: np.ndarray
    of_positives: np.ndarray
    of_negatives: np.ndarray


def placements(labels: np.ndarray, scores: np.ndarray) -> Placements:
    """Compare every positive with every negative, by sorting (Sun and Xu, IEEE Signal Processing Letters 21, 2014).

    Args:
        labels: bool [N], both classes.
        scores: [N], or [K, N] for several models.
    """
    labels = np.asarray(labels, dtype=bool)
    parts = [_placed(labels, row) for row in np.atleast_2d(np.asarray(scores, dtype=np.float64))]
    over, under = (np.stack([part[side] for part in parts]) for side in (0, 1))
    return Placements(over.mean(axis=1), over, under)


def delong_covariance(found: Placements) -> np.ndarray:
    """Return the covariance of the areas [K, K], images being independent.

    `S10 / P + S01 / Q` with the sample covariances of the placements (DeLong, DeLong and Clarke-Pearson, Biometrics 44,
    1988); NaN where a class has one image only.
    """
    positives, negatives = found.of_positives.shape[1], found.of_negatives.shape[1]
    if min(positives, negatives) < 2:
        return np.full((len(found.areas),) * 2, np.nan)
    over, under = (part - found.areas[:, None] for part in (found.of_positives, found.of_negatives))
    return delong_of_sums(over @ over.T, under @ under.T, positives, negatives)


def delong_of_sums(over: np.ndarray, under: np.ndarray, positives: int, negatives: int) -> np.ndarray:
    """Return DeLong's covariance from the sums of products of `V10 - A` and of `V01 - A` [K, K], two of each at least.

    Args:
        over: Over the positives.
        under: Over the negatives.
        positives: How many.
        negatives: How many.
    """
    return over / ((positives - 1) * positives) + under / ((negatives - 1) * negatives)


def obuchowski_covariance(found: Placements, labels: np.ndarray, clusters: np.ndarray) -> np.ndarray:
    """Return the covariance of the areas [K, K] where images come from patients (Obuchowski, Biometrics 53, 1997).

    With `D_i` and `H_i` the sums over patient i of `V10 - A` and `V01 - A`, `I10` and `I01` the numbers of patients
    with a positive and with a negative image, `I` of all, `P` and `Q` the numbers of images:
    `S10 = I10 / ((I10 - 1) P) sum D_i D_i'`, `S01` likewise, `S11 = I / (I - 1) sum D_i H_i'`, and
    `S10 / P + S01 / Q + (S11 + S11') / (P Q)`. NaN where a class has one patient only.
    """
    labels = np.asarray(labels, dtype=bool)
    count = int(clusters.max()) + 1
    positives, negatives = int(labels.sum()), int((~labels).sum())
    sums = []
    patients = []
    for part, chosen in ((found.of_positives, labels), (found.of_negatives, ~labels)):
        inside = clusters[chosen]
        sums.append(np.stack([np.bincount(inside, row, minlength=count) for row in part - found.areas[:, None]]))
        patients.append(int(np.count_nonzero(np.bincount(inside, minlength=count))))
    if min(patients) < 2:
        return np.full((len(found.areas),) * 2, np.nan)
    over, under = sums
    return obuchowski_of_sums(
        (over @ over.T, under @ under.T, over @ under.T), (patients[0], patients[1], count), positives, negatives
    )


def obuchowski_of_sums(
    products: tuple[np.ndarray, np.ndarray, np.ndarray],
    patients: tuple[int, int, int],
    positives: int,
    negatives: int,
) -> np.ndarray:
    """Return Obuchowski's covariance from sums over patients of `D D'`, `H H'` and `D H'` [K, K] each.

    Args:
        products: The sums.
        patients: With a positive image, with a negative one, of all; two at least.
        positives: Images.
        negatives: Images.
    """
    s10 = patients[0] / ((patients[0] - 1) * positives) * products[0]
    s01 = patients[1] / ((patients[1] - 1) * negatives) * products[1]
    s11 = patients[2] / (patients[2] - 1) * products[2]
    return s10 / positives + s01 / negatives + (s11 + s11.T) / (positives * negatives)


def area_intervals(labels: np.ndarray, scores: np.ndarray, clusters: np.ndarray) -> dict[str, dict[str, float | None]]:
    """Return AUROC's standard error and 95 % interval by DeLong (images) and by Obuchowski (patients).

    Limits are made on the logit scale, which keeps them inside 0 to 1 and covers better near 1 (Qin and Hotilovac,
    Statistical Methods in Medical Research 17, 2008). Nulls where the variance is 0 or does not exist.
    """
    found = placements(labels, scores)
    return intervals_of_variances(
        float(found.areas[0]),
        delong=float(delong_covariance(found)[0, 0]),
        obuchowski=float(obuchowski_covariance(found, labels, clusters)[0, 0]),
    )


def intervals_of_variances(area: float, **variances: float) -> dict[str, dict[str, float | None]]:
    """Return what `area_intervals` does, from the variance of each kind."""
    intervals: dict[str, dict[str, float | None]] = {}
    for name, variance in variances.items():
        low, high = logit_interval(area, variance)
        error = math.sqrt(variance) if variance > 0 else None
        intervals[name] = {"value": area, "standard_error": error, "low": low, "high": high}
    return intervals


def logit_interval(share: float, variance: float) -> tuple[float | None, float | None]:
    """Return the 95 % interval of a share in (0, 1), made on the logit scale by the delta method; else nulls."""
    if not (0 < share < 1) or not variance > 0:
        return None, None
    centre, half = math.log(share / (1 - share)), Z * math.sqrt(variance) / (share * (1 - share))
    return 1 / (1 + math.exp(-(centre - half))), 1 / (1 + math.exp(-(centre + half)))


def two_sided(difference: float, variance: float) -> float | None:
    """Return the two-sided p value of a normal deviate; 1 where the difference is 0, null without a variance."""
    if difference == 0:
        return 1.0
    return float(2 * ndtr(-abs(difference) / math.sqrt(variance))) if variance > 0 else None


def _placed(labels: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    order = np.argsort(scores, kind="stable")
    ordered, positive = scores[order], labels[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    sizes = np.diff(np.r_[starts, len(ordered)])
    at = np.add.reduceat(positive.astype(np.int64), starts)
    below = np.cumsum(at) - at
    others, others_below = sizes - at, starts - below
    total, rest = int(at.sum()), int(others.sum())
    over = np.empty(len(scores))
    # For a positive: negatives below and half of those tied; for a negative: positives above and half of those tied.
    over[order] = np.where(
        positive,
        np.repeat((others_below + others / 2) / rest, sizes),
        np.repeat((total - below - at / 2) / total, sizes),
    )
    return over[labels], over[~labels]
