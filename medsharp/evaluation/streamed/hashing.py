"""Numbers that stand for names: the same in every row, file and run, so that what belongs together meets again.

A number has 64 bits (SipHash of the name). Of n patients, two have the same with a chance of about n^2 / 2^65: 3e-6 of
ten million. They would count as one patient in intervals, and in nothing else.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from medsharp.keys import Keys

_IMAGES = "medsharp's image"
"""A key of SipHash of their own, as images are never compared with anything else."""

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST, _SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


def hashes_of(keys: Keys, kind: str) -> np.ndarray:
    """Return the number of each row's key, uint64 [n]; 0 where it has none.

    Args:
        keys: Of a column.
        kind: What they are, such as `patient`, so that those of two kinds differ.
    """
    names = np.array([f"{kind}\x1f{name}" for name in keys.names], dtype=object)
    numbers = pd.util.hash_array(names, categorize=False) if len(names) else np.empty(0, dtype=np.uint64)
    return np.append(numbers, np.uint64(0))[keys.codes]


def hashes_of_images(names: pd.Series) -> np.ndarray:
    """Return the number of each image's name, uint64 [n]; no two rows of a table should have the same."""
    return pd.util.hash_array(names.to_numpy(dtype=object), hash_key=_IMAGES, categorize=False)


def joined(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return a number of two that are in this order, uint64 [n]."""
    return mixed(one ^ mixed(other))


def mixed(state: np.ndarray) -> np.ndarray:
    """Return the outputs of SplitMix64 for states (Steele, Lea and Flood, OOPSLA 2014), uint64 of the same shape."""
    with np.errstate(over="ignore"):
        word = state ^ (state >> np.uint64(30))
        word *= _FIRST
        word ^= word >> np.uint64(27)
        word *= _SECOND
        word ^= word >> np.uint64(31)
    return word


def words(keys: np.ndarray, first: int, count: int) -> np.ndarray:
    """Return outputs `first`, `first + 1`, ... of the SplitMix64 generator of each key, uint64 [n, count]."""
    with np.errstate(over="ignore"):
        steps = np.arange(first + 1, first + 1 + count, dtype=np.uint64) * _GOLDEN
        return mixed(keys[:, None] + steps)
