"""Openings of masks by a square, in time that does not grow with the square."""

from __future__ import annotations

import numpy as np


def open_by_square(mask: np.ndarray, side: int) -> np.ndarray:
    """Return the pixels of a mask that some square inside it covers, as `scipy.ndimage.binary_opening` does.

    A square is a row of columns, so that two filters along lines erode by it, and two dilate (van Herk, Pattern
    Recognition Letters 13, 1992); SciPy would look at each of its pixels from each of the mask's.

    Args:
        mask: bool [H, W]; beyond its edge nothing is marked.
        side: Of the square, in pixels.

    Returns:
        bool [H, W].
    """
    from scipy import ndimage

    opened = mask.view(np.uint8)
    for axis in (0, 1):
        opened = ndimage.minimum_filter1d(opened, side, axis=axis, mode="constant", cval=0)
    # The middle of an even side lies beside its centre, here on the other side of it.
    origin = -1 if side % 2 == 0 else 0
    for axis in (0, 1):
        opened = ndimage.maximum_filter1d(opened, side, axis=axis, mode="constant", cval=0, origin=origin)
    return opened.view(bool)
