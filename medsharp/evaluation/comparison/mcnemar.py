"""Whether two models decide differently on the same images, where a patient may have several."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.stats import chi2

_FEW = 25


def mcnemar(first: np.ndarray, second: np.ndarray, clusters: np.ndarray) -> dict[str, Any]:
    """Test whether two models are right equally often.

    With `d_k` the images of patient k that only the second gets right, less those that only the first does,
    `(sum d_k)^2 / sum d_k^2` is chi-square with one degree of freedom: the score test whose units are patients, which
    are independent where their images need not be (as Durkalski et al., Statistics in Medicine 22, 2003, without their
    division by the images of a patient). With one discordant image a patient it is McNemar's statistic (Psychometrika
    12, 1947) without correction.

    With fewer than 25 patients of `d_k` other than 0 the p value is exact instead: each patient's images may as well
    have gone the other way, so that every sign of every `d_k` is as likely. With one discordant image a patient that is
    McNemar's exact binomial test.

    Args:
        first: Whether the first model is right, bool [N].
        second: Whether the second is [N].
        clusters: The patient of each image, int [N].

    Returns:
        `only_first`, `only_second` (images), `statistic`, `p`, `method`; 1 for p where nothing is discordant.
    """
    only_first, only_second = first & ~second, second & ~first
    counts = {"only_first": int(only_first.sum()), "only_second": int(only_second.sum())}
    if not counts["only_first"] + counts["only_second"]:
        return counts | {"statistic": None, "p": 1.0, "method": "no image is decided differently"}
    inside = only_first | only_second
    signed = np.where(only_second, 1, -1)[inside]
    patients = np.unique(clusters[inside], return_inverse=True)[1]
    sums = np.bincount(patients, signed).astype(int)
    sums = sums[sums != 0]
    if len(sums) < _FEW:
        several = np.bincount(patients).max() > 1
        method = "McNemar, exact over patients" if several else "McNemar, exact"
        return counts | {"statistic": None, "p": _exact(sums), "method": method}
    statistic = float(sums.sum() ** 2 / (sums**2).sum())
    return counts | {
        "statistic": statistic,
        "p": float(chi2.sf(statistic, 1)),
        "method": "McNemar, clustered by patient",
    }


def _exact(sums: np.ndarray) -> float:
    """Return how likely a sum of `+-sums` is at least as far from 0 as theirs, all signs being as likely."""
    chances = np.ones(1)
    for size in np.abs(sums):
        both = np.zeros(2 * size + 1)
        both[[0, -1]] = 0.5
        chances = np.convolve(chances, both)
    reach = len(chances) // 2
    distance = np.abs(np.arange(-reach, reach + 1))
    return float(min(1.0, chances[distance >= abs(int(sums.sum()))].sum()))
