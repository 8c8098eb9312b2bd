"""Bins of about equally many images along the sorted probabilities; equal probabilities are never split."""

from __future__ import annotations

import numpy as np

BINS = 10
_LEAST_IMAGES = 10


def equal_mass(scores: np.ndarray, bins: int = BINS) -> np.ndarray:
    """Return where each bin starts, int [B], the first at 0.

    Args:
        scores: Sorted, ascending or descending [N].
        bins: How many are wished; fewer where images are few or tied.
    """
    wanted = min(bins, max(1, len(scores) // _LEAST_IMAGES))
    ideal = (np.arange(1, wanted) * len(scores)) // wanted
    # A start inside a run of equal scores moves to the start of the run.
    runs = np.flatnonzero(np.r_[True, scores[1:] != scores[:-1]])
    return np.unique(np.r_[0, runs[np.searchsorted(runs, ideal, side="right") - 1]])


def patients_in(starts: np.ndarray, clusters: np.ndarray) -> np.ndarray:
    """Count the different clusters in each bin: int [B]."""
    return np.array([len(np.unique(part)) for part in np.split(clusters, starts[1:])])
