"""Of a clip the sharpest frame is used, not the brightest: edges count relative to the grey around them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from medsharp.images import read_image
from medsharp.images.sharpness import sharpness

Make = Callable[..., bytes]

TEXTURE = np.random.default_rng(0).integers(20, 100, (60, 80)).astype(np.uint8)


def test_it_is_the_mean_squared_gradient_over_the_squared_mean() -> None:
    ramp = np.tile(np.arange(0, 60, 3, dtype=np.uint8), (20, 1))  # 3 levels a pixel, mean 28.5
    assert sharpness(ramp) == pytest.approx(6**2 / 28.5**2)
    uneven = np.zeros((20, 20), dtype=np.uint8)
    uneven[:, 10:] = 200
    # Two columns of eighteen see the step, whole.
    assert sharpness(uneven) == pytest.approx(2 / 18 * 200**2 / 100**2)


def test_both_directions_count_alike() -> None:
    across = np.tile(np.array([50, 50, 150, 150], dtype=np.uint8), (40, 10))
    assert sharpness(across) > 0
    assert sharpness(across) == pytest.approx(sharpness(np.ascontiguousarray(across.T)))
    both = gaussian_filter(TEXTURE.astype(float), 2)
    assert sharpness(both.astype(np.uint8)) < sharpness(TEXTURE)


@pytest.mark.parametrize("gain", [0.5, 2.0])
def test_brightness_is_no_sharpness(gain: float) -> None:
    brighter = np.rint(TEXTURE * gain).astype(np.uint8)
    assert sharpness(brighter) == pytest.approx(sharpness(TEXTURE), rel=0.02)


def test_a_black_frame_is_not_sharp() -> None:
    assert sharpness(np.zeros((20, 20), dtype=np.uint8)) == 0


def test_a_dim_sharp_frame_goes_before_a_bright_blurred_one(dicom: Make) -> None:
    """Without the normalisation the bright frame has the larger gradients, and would be taken."""
    blurred = np.clip(gaussian_filter(TEXTURE.astype(float), 0.7) * 2.5, 0, 255).astype(np.uint8)
    dim = (TEXTURE * 0.5).astype(np.uint8)
    assert np.square(np.diff(blurred.astype(float))).mean() > np.square(np.diff(dim.astype(float))).mean()
    clip = np.stack([blurred, dim, blurred])
    image = read_image(dicom(clip, NumberOfFrames=3))
    assert image.frame == 2
    assert "frame 2 of 3, the sharpest" in image.flags
