"""How often a patient is drawn in each resample, from nothing but the patient and a seed: the Poisson bootstrap.

A multinomial bootstrap of n patients needs all of them to draw one: each is in a resample a Binomial(n, 1 / n) number
of times, which tends to Poisson(1). Drawing that number for each patient by itself makes resamples of n -+ sqrt(n)
patients in one pass over rows in any order (Hanley and MacGibbon, Comput Methods Programs Biomed 83, 2006; Chamandy et
al., Estimating uncertainty for massive data streams, Google 2012).
"""

from __future__ import annotations

import math

import numpy as np

from medsharp.evaluation.streamed.hashing import mixed, words

_MOST = 20
"""Poisson(1) exceeds it with a chance of 2e-20, below the last bit of the generator."""

_CUMULATIVE = np.cumsum([math.exp(-1) / math.factorial(count) for count in range(_MOST)])
_UNDECIDED = 255


def _table() -> np.ndarray:
    """Return the number of draws by the first 16 bits of a uniform number, where they decide it: uint8 [2**16]."""
    edges = np.arange(2**16 + 1) / 2**16
    low, high = (np.searchsorted(_CUMULATIVE, part, side="right") for part in (edges[:-1], np.nextafter(edges[1:], 0)))
    return np.where(low == high, low, _UNDECIDED).astype(np.uint8)


_DRAWS = _table()


def weights(patients: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """Return how often each patient is drawn in each resample: Poisson(1), uint8 [n, resamples].

    A patient has a SplitMix64 generator, keyed by seed and patient, of which each resample takes 16 bits; where these
    do not decide (one time in 8,000), 64 more, so that chances are right to the last digit of a double.

    Args:
        patients: Their numbers (`medsharp.evaluation.streamed.hashing`), uint64 [n].
        resamples: How many.
        seed: Of the draws.
    """
    keys = mixed(patients ^ mixed(np.array([seed], dtype=np.uint64) + np.uint64(1)))
    uniform = words(keys, 0, -(-resamples // 4)).astype("<u8", copy=False).view("<u2")[:, :resamples]
    drawn = _DRAWS[uniform]
    row, column = np.nonzero(drawn == _UNDECIDED)
    if len(row):
        more = words(mixed(keys[row] ^ column.astype(np.uint64)), 0, 1)[:, 0]
        exact = (uniform[row, column] + more / 2.0**64) / 2**16
        drawn[row, column] = np.searchsorted(_CUMULATIVE, exact, side="right")
    return drawn
