"""The quick opening is the plain one, pixel for pixel."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from medsharp.preprocess.morphology import open_by_square


@pytest.mark.parametrize("side", [1, 2, 3, 4, 7, 10, 19])
def test_opening_by_lines_is_opening_by_the_square(side: int) -> None:
    rng = np.random.default_rng(side)
    for number in range(40):
        height, width = rng.integers(1, 60, 2)
        # Blobs of all sizes, some of which reach the edge.
        smooth = ndimage.gaussian_filter(rng.random((height, width)), 0.5 + number / 8)
        mask = smooth > np.quantile(smooth, rng.uniform(0.1, 0.6))
        expected = ndimage.binary_opening(mask, np.ones((side, side), dtype=bool))
        assert np.array_equal(open_by_square(mask, side), expected)
        assert np.array_equal(open_by_square(mask.T, side), expected.T)


def test_a_square_that_fits_is_kept_whole_and_a_thinner_one_goes() -> None:
    mask = np.zeros((12, 20), dtype=bool)
    mask[0:4, 0:4] = mask[5:12, 13:20] = mask[6:9, 1:9] = True
    opened = open_by_square(mask, 4)
    mask[6:9, 1:9] = False
    assert np.array_equal(opened, mask)
