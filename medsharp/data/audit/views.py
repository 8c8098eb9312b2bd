"""Two scans side by side in one image."""

from __future__ import annotations

import numpy as np

_DARK = 12
_EVEN = 5
_LIT = 20.0
_MIDDLE = (0.38, 0.62)
_ROWS = (0.1, 0.8)
_SEAM = 4.5
"""How many times as large the step across a seam is as between other columns, in the median over rows."""


def is_dual_view(pixels: np.ndarray) -> bool:
    """Whether two scans stand side by side: a dark gap or an abrupt seam from top to bottom near the middle.

    Args:
        pixels: uint8 [H, W].
    """
    height, width = pixels.shape
    if width < 48 or height < 32:
        return False
    rows = pixels[int(_ROWS[0] * height) : int(_ROWS[1] * height)].astype(np.float32)
    low, high = (int(share * width) for share in _MIDDLE)
    return _has_gap(rows, low, high) or _has_seam(rows, low, high)


def _has_gap(rows: np.ndarray, low: int, high: int) -> bool:
    low_level, high_level = np.quantile(rows, (0.05, 0.95), axis=0)
    # Black, or one grey from top to bottom, which tissue never is.
    dark = (high_level <= _DARK) | (high_level - low_level <= _EVEN)
    middle = np.flatnonzero(dark[low:high]) + low
    if len(middle) < 2:
        return False
    side = rows.shape[1] // 5
    left = rows[:, max(0, middle[0] - side) : middle[0]]
    right = rows[:, middle[-1] + 1 : middle[-1] + 1 + side]
    # A shadow has dark columns too, but its gap is not narrow or the scan does not go on beside it.
    narrow = middle[-1] - middle[0] < 0.08 * rows.shape[1]
    return bool(narrow and left.mean() > _LIT and right.mean() > _LIT)


def _has_seam(rows: np.ndarray, low: int, high: int) -> bool:
    # Over four columns, so that a line drawn down the image is no seam.
    step = np.median(np.abs(rows[:, 4:] - rows[:, :-4]), axis=0)
    middle = step[low - 2 : high - 2]
    best = int(np.argmax(middle)) + low  # between columns best - 2 and best + 2
    left, right = rows[:, best - 2], rows[:, best + 2]
    lit = min(float(left.mean()), float(right.mean())) > _LIT
    return bool(lit and middle.max() > _SEAM * (np.median(step) + 1))
