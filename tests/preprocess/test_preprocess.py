"""The one way from pixels to network input."""

from __future__ import annotations

import numpy as np
import pytest

from medsharp.errors import InputError
from medsharp.preprocess import PreprocessSpec, placement, preprocess, preprocess_mask


def scan(height: int = 120, width: int = 200) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.integers(40, 200, (height, width), dtype=np.uint8)


def test_letterbox_keeps_the_aspect_ratio_and_pads_with_black() -> None:
    placed = preprocess(scan(100, 200), PreprocessSpec(64))
    assert placed.shape == (64, 64)
    assert placed.dtype == np.uint8
    assert (placed[:16] == 0).all()
    assert (placed[48:] == 0).all()
    assert (placed[16:48] > 0).all()


def test_stretch_fills_the_square() -> None:
    assert (preprocess(scan(100, 200), PreprocessSpec(64, fit="stretch")) > 0).all()


def test_dark_borders_are_cut_and_a_scan_without_them_is_whole() -> None:
    bordered = np.zeros((220, 300), dtype=np.uint8)
    bordered[30:150, 40:240] = scan()
    assert placement(bordered, PreprocessSpec(64)).crop == (30, 40, 150, 240)
    assert placement(scan(), PreprocessSpec(64)).crop == (0, 0, 120, 200)
    assert placement(bordered, PreprocessSpec(64, crop="none")).crop == (0, 0, 220, 300)


def test_a_side_of_which_most_would_go_is_left_whole() -> None:
    small = np.zeros((300, 300), dtype=np.uint8)
    small[140:160, 20:280] = 200
    top, left, bottom, right = placement(small, PreprocessSpec(64)).crop
    assert (top, bottom) == (0, 300)
    assert (left, right) == (20, 280)


def test_black_image_is_left_whole() -> None:
    assert placement(np.zeros((50, 60), dtype=np.uint8), PreprocessSpec(32)).crop == (0, 0, 50, 60)


def test_shrinking_is_antialiased() -> None:
    stripes = np.zeros((256, 256), dtype=np.uint8)
    stripes[:, ::2] = 255
    placed = preprocess(stripes, PreprocessSpec(32))
    assert np.abs(placed.astype(int) - 127).max() <= 6


def test_same_pixels_give_the_same_bytes_and_the_input_is_left_alone() -> None:
    pixels = scan()
    before = pixels.copy()
    one, two = preprocess(pixels, PreprocessSpec(96)), preprocess(pixels.copy(), PreprocessSpec(96))
    assert one.tobytes() == two.tobytes()
    assert np.array_equal(pixels, before)


def test_mask_is_placed_as_its_image() -> None:
    pixels = np.zeros((220, 300), dtype=np.uint8)
    pixels[30:150, 40:240] = 100
    mask = np.zeros_like(pixels, dtype=bool)
    mask[60:100, 100:180] = True
    pixels[mask] = 250
    spec = PreprocessSpec(64)
    placed, area = preprocess(pixels, spec), preprocess_mask(mask, pixels, spec)
    assert set(np.unique(area)) == {0, 1}
    # At an edge the two round differently.
    assert ((area == 1) != (placed >= 176)).mean() < 0.02
    assert np.array_equal(np.argwhere(area).mean(axis=0).round(), np.argwhere(placed >= 176).mean(axis=0).round())


def test_mask_of_another_size_is_brought_to_its_image() -> None:
    mask = np.zeros((60, 100), dtype=bool)
    mask[:30] = True
    area = preprocess_mask(mask, scan(120, 200), PreprocessSpec(100, crop="none"))
    assert area[20:50].all()
    assert not area[50:].any()


@pytest.mark.parametrize(
    "pixels", [np.zeros((5, 5)), np.zeros((5, 5, 3), dtype=np.uint8), np.zeros((0, 5), dtype=np.uint8)]
)
def test_other_arrays_are_refused(pixels: np.ndarray) -> None:
    with pytest.raises(InputError, match="expected grey uint8 pixels"):
        preprocess(pixels, PreprocessSpec(32))
