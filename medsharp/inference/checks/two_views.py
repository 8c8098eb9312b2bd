"""Two views side by side: the model was trained on one view a picture."""

from __future__ import annotations

import numpy as np

from medsharp.inference.checks.entry import ImageCheck
from medsharp.inference.checks.picture import Picture

_GAPS = (1, 2, 4, 8)
"""Pixels between what is compared: two views stand wall to wall, or with a gap."""

_MIDDLE = (0.35, 0.65)
_LIT = 20
_OFFSET = 1.5
"""Grey levels added to the typical difference, so that a smooth image has no seams."""


def _seam(picture: Picture) -> float:
    """Return the strongest vertical seam near the middle, in typical differences of columns as far apart.

    Columns are averaged over a twenty-fourth of the height, and the median over the height is taken: what runs from top
    to bottom counts.
    """
    grey = picture.small
    grey = grey[grey.max(axis=1) > _LIT].astype(np.float32)
    height, width = grey.shape
    if height < 24 or width < 24:
        return 0.0
    part = max(3, height // 24)
    bands = grey[: height // part * part].reshape(-1, part, width).mean(axis=1)
    low, high = (int(width * share) for share in _MIDDLE)
    strongest = 0.0
    for gap in _GAPS:
        differences = _median(np.abs(bands[:, gap + 1 :] - bands[:, : -gap - 1]))
        typical = float(_median(differences[:, None])[0]) + _OFFSET
        strongest = max(strongest, float(differences[max(0, low - gap) : high].max()) / typical)
    return strongest


def _median(values: np.ndarray) -> np.ndarray:
    """Return the median of each column of [N, K]; of a few values a sort takes a quarter of `np.median`."""
    rows = np.sort(values, axis=0)
    middle = len(rows) // 2
    return rows[middle] if len(rows) % 2 else (rows[middle - 1] + rows[middle]) / 2


CHECK = ImageCheck(
    "two_views",
    "caution",
    "a seam runs down the middle, as between two views side by side: the model looks at one view, cut the other away",
    "a seam from top to bottom in the middle third, 3.5 times as strong as columns commonly differ",
    _seam,
    3.5,
)
