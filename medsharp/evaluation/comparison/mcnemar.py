"""Whether two models decide differently on the same images, where a patient may have several."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.stats import binomtest, chi2

_FEW = 25


def mcnemar(first: np.ndarray, second: np.ndarray, clusters: np.ndarray) -> dict[str, Any]:
    """Test whether two models are right equally often.

    With `d_k` the images of patient k that only the second gets right, less those that only the first does,
    `(sum d_k)^2 / sum d_k^2` is chi-square with one degree of freedom (Yang, Sun and Hardin, Biometrical Journal 52,
    2010, section 2): patients are independent, their images need not be. With one discordant image a patient it is
    McNemar's statistic (Psychometrika 12, 1947) without correction; then, with fewer than 25 discordant images, the
    exact binomial p value is given.

    Args:
        first: Whether the first model is right, bool [N].
        second: Whether the second is [N].
        clusters: The patient of each image, int [N].

    Returns:
        `only_first`, `only_second` (images), `statistic`, `p`, `method`; 1 for p where nothing is discordant.
    """
    only_first, only_second = first & ~second, second & ~first
    counts = {"only_first": int(only_first.sum()), "only_second": int(only_second.sum())}
    discordant = counts["only_first"] + counts["only_second"]
    if discordant == 0:
        return counts | {"statistic": None, "p": 1.0, "method": "no image is decided differently"}
    inside = only_first | only_second
    signed = np.where(only_second, 1, -1)[inside]
    patients = np.unique(clusters[inside], return_inverse=True)[1]
    if patients.max() + 1 == discordant and discordant < _FEW:
        p = float(binomtest(counts["only_second"], discordant).pvalue)
        return counts | {"statistic": None, "p": p, "method": "McNemar, exact"}
    sums = np.bincount(patients, signed)
    squares = float((sums**2).sum())
    statistic = float(sums.sum() ** 2 / squares) if squares > 0 else 0.0
    return counts | {
        "statistic": statistic,
        "p": float(chi2.sf(statistic, 1)),
        "method": "McNemar, clustered by patient",
    }
