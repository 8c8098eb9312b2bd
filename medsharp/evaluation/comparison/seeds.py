"""How much of a figure's uncertainty is the seed of the training, and how much the patients."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.stats import t as student


def mixed_interval(value: float, patient: float, patients: int, seeds: list[tuple[float, int]]) -> dict[str, Any]:
    """Return the 95 % interval of a mean over seeds, or of the difference of two, for new patients and new seeds.

    All seeds are scored on the same patients, so that a model's figures are `mu + patients + seed_s`. The patients'
    part has the bootstrap variance of the mean over seeds; seeds add `s^2 / S` for each group of S networks, where
    `s^2` is the variance between its figures. Degrees of freedom are Satterthwaite's (Biometrics Bulletin 2, 1946).

    Args:
        value: The mean, or the difference.
        patient: Its bootstrap variance over patients.
        patients: How many.
        seeds: Variance between seeds and number of seeds of each group; groups of one network add nothing.

    Returns:
        `low`, `high`, `p` (two-sided, of no difference), `patient_sd`, `seed_sd` (of the mean; null where there is
        one network each), `seed_share` of the variance, and `covers`, what the interval speaks of.
    """
    parts = [(variance / count, count - 1) for variance, count in seeds if count > 1]
    seed = sum(part for part, _ in parts)
    total, free = satterthwaite([(patient, max(1, patients - 1)), *parts])
    half = float(student.ppf(0.975, free)) * math.sqrt(total)
    several = bool(parts)
    return {
        "low": value - half,
        "high": value + half,
        "p": float(2 * student.sf(abs(value) / math.sqrt(total), free)) if total > 0 else None,
        "patient_sd": math.sqrt(patient),
        "seed_sd": math.sqrt(seed) if several else None,
        "seed_share": seed / total if several and total > 0 else None,
        "covers": "new patients and new seeds" if several else "new patients, these networks",
    }


def satterthwaite(parts: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Return the sum of variances and its degrees of freedom (Satterthwaite, Biometrics Bulletin 2, 1946).

    Args:
        parts: Estimated variances that add up, with the degrees of freedom of each; where all are 0 there is 1.
    """
    total = sum(part for part, _ in parts)
    denominator = sum(part**2 / free for part, free in parts)
    return total, total**2 / denominator if denominator > 0 else 1.0


def between(values: np.ndarray) -> tuple[float, int]:
    """Return the variance between the figures of a group's networks, and their number; 0 for one network."""
    return (float(np.var(values, ddof=1)) if len(values) > 1 else 0.0), len(values)
