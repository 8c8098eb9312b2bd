"""How far observed shares are from probabilities, bin by bin: the Brier score taken apart, and calibration errors."""

from __future__ import annotations

import math

import numpy as np

from medsharp.evaluation.statistics.bootstrap import Statistic

BINS = 10
"""Bins of about equally many images along the sorted probabilities; equal probabilities are never split."""

_LEAST_IMAGES = 10
_DRAWS = 2000


def binned_scores(labels: np.ndarray, probabilities: np.ndarray, clusters: np.ndarray, bins: int = BINS) -> Statistic:
    """Return what computes the Brier decomposition and calibration errors in bins of equally many images.

    With bin weights `w_b`, mean probabilities `p_b`, observed shares `o_b` and prevalence `o`:

    - Murphy, Journal of Applied Meteorology 12 (1973): `Brier = reliability - resolution + uncertainty + rest`, with
      `sum w_b (p_b - o_b)^2`, `sum w_b (o_b - o)^2`, `o (1 - o)`; the rest is what happens within bins (Stephenson et
      al., Weather and Forecasting 23, 2008) and is given as `brier_within_bins`.
    - `brier_scaled = 1 - Brier / (o (1 - o))`: 0 is the prevalence for everyone, 1 is perfect.
    - `ece = sum w_b |p_b - o_b|`, which is above 0 even for perfect probabilities (see `expected_if_calibrated`).
    - `calibration_error`, the root of `sum w_b ((p_b - o_b)^2 - o_b (1 - o_b) / (n_b - 1))`, which takes that bias off
      (Kumar, Liang and Ma, NeurIPS 2019), negative sums counting as 0. `n_b` counts patients, as their
      images are no independent witnesses.

    Args:
        labels: bool [N].
        probabilities: Sorted [N].
        clusters: int [N].
        bins: How many.

    Returns:
        Weights [R, N] to values [R]. The bins are those of the images as they are, in each resample.
    """
    y = np.asarray(labels, dtype=np.float64)
    starts = equal_mass(probabilities, bins)
    witnesses = np.maximum(patients_in(starts, clusters), 2)
    errors = (probabilities - y) ** 2

    def statistic(weights: np.ndarray) -> dict[str, np.ndarray]:
        mass, ones, sums = (
            np.add.reduceat(part, starts, axis=1) for part in (weights, weights * y, weights * probabilities)
        )
        return binned_values(mass, ones, sums, weights @ errors, witnesses)

    return statistic


def binned_values(
    mass: np.ndarray, ones: np.ndarray, sums: np.ndarray, errors: np.ndarray, witnesses: np.ndarray
) -> dict[str, np.ndarray]:
    """Return the figures of `binned_scores` from sums over the images of each bin.

    Args:
        mass: Weight of the images [R, B].
        ones: Of the positive ones [R, B].
        sums: Weighted probabilities [R, B].
        errors: Weighted squared errors, over all bins [R].
        witnesses: Patients of each bin, two at least [B].
    """
    total = mass.sum(axis=1, keepdims=True)
    filled = np.maximum(mass, 1e-300)
    share, observed, expected = mass / total, ones / filled, sums / filled
    prevalence = ones.sum(axis=1, keepdims=True) / total
    gap = (expected - observed) * (mass > 0)
    brier = errors / total[:, 0]
    reliability = (share * gap**2).sum(axis=1)
    resolution = (share * (observed - prevalence) ** 2).sum(axis=1)
    uncertainty = (prevalence * (1 - prevalence))[:, 0]
    noise = (share * observed * (1 - observed) / (witnesses - 1)).sum(axis=1)
    return {
        "brier": brier,
        "brier_scaled": 1 - np.divide(brier, uncertainty, out=np.full_like(brier, np.nan), where=uncertainty > 0),
        "brier_reliability": reliability,
        "brier_resolution": resolution,
        "brier_uncertainty": uncertainty,
        "brier_within_bins": brier - reliability + resolution - uncertainty,
        "ece": (share * np.abs(gap)).sum(axis=1),
        "calibration_error": np.sqrt(np.maximum(reliability - noise, 0.0)),
        "squared_calibration_error": reliability - noise,
    }


def expected_if_calibrated(
    probabilities: np.ndarray, clusters: np.ndarray, rng: np.random.Generator, bins: int = BINS
) -> dict[str, float]:
    """Return what the ECE would be if every probability were right: the bias of this figure at this size.

    The observed share of a bin of `n_b` patients then strays from its mean probability by a normal deviate of variance
    `mean(p (1 - p)) / n_b`, whose mean size is `sqrt(2 variance / pi)`.

    Args:
        probabilities: Sorted [N].
        clusters: int [N].
        rng: Of the draws for the limit.
        bins: As for the ECE.

    Returns:
        `mean`, and `limit`, which 95 of 100 perfectly calibrated models would stay below.
    """
    starts = equal_mass(probabilities, bins)
    sizes = np.diff(np.r_[starts, len(probabilities)])
    spread = np.add.reduceat(probabilities * (1 - probabilities), starts)
    return expected_of_bins(sizes, spread, patients_in(starts, clusters), rng)


def expected_of_bins(
    sizes: np.ndarray, spread: np.ndarray, patients: np.ndarray, rng: np.random.Generator
) -> dict[str, float]:
    """Return what `expected_if_calibrated` does from images, sums of `p (1 - p)` and patients of each bin [B]."""
    share = sizes / sizes.sum()
    variance = spread / sizes / patients
    deviates = np.abs(rng.standard_normal((_DRAWS, len(sizes)))) * np.sqrt(variance)
    return {
        "mean": float((share * np.sqrt(variance)).sum() * math.sqrt(2 / math.pi)),
        "limit": float(np.quantile(deviates @ share, 0.95)),
    }


def equal_mass(scores: np.ndarray, bins: int = BINS) -> np.ndarray:
    """Return where each bin starts, int [B], the first at 0.

    Args:
        scores: Sorted, ascending or descending [N].
        bins: How many are wished; fewer where images are few or tied.
    """
    ideal = ideal_starts(len(scores), bins)
    # A start inside a run of equal scores moves to the start of the run.
    runs = np.flatnonzero(np.r_[True, scores[1:] != scores[:-1]])
    return np.unique(np.r_[0, runs[np.searchsorted(runs, ideal, side="right") - 1]])


def ideal_starts(images: int, bins: int = BINS) -> np.ndarray:
    """Return where bins but the first would start if no scores were equal, int [B - 1]."""
    wanted = min(bins, max(1, images // _LEAST_IMAGES))
    return (np.arange(1, wanted) * images) // wanted


def patients_in(starts: np.ndarray, clusters: np.ndarray) -> np.ndarray:
    """Count the different clusters in each bin: int [B]."""
    return np.array([len(np.unique(part)) for part in np.split(clusters, starts[1:])])
