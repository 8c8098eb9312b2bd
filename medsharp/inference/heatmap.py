"""Heat maps: a coarse grid laid over the image that it is of, and coloured: warm for, cold against."""

from __future__ import annotations

import numpy as np
from PIL import Image

from medsharp.errors import InputError
from medsharp.images.box import Box

FAINT = 0.1
"""A map that nowhere reaches this, for or against, looks like the image alone."""

# Anchor colours of matplotlib's "inferno" (CC0), so that drawing needs no plotting library.
_WARM = [
    [0, 0, 4],
    [40, 11, 84],
    [101, 21, 110],
    [159, 42, 99],
    [212, 72, 66],
    [245, 125, 21],
    [250, 193, 39],
    [252, 255, 164],
]
# As dark where weak and as light where strong; blue and orange differ to colour-blind eyes too.
_COLD = [
    [0, 0, 4],
    [4, 18, 66],
    [8, 40, 112],
    [16, 72, 158],
    [34, 112, 194],
    [70, 156, 220],
    [126, 200, 240],
    [196, 240, 255],
]
# Four thousand levels of a heat map each way: no difference from computing each pixel is visible in 8 bits.
_LEVELS = np.linspace(-1, 1, 8191)


def _ramp(anchors: list[list[int]]) -> np.ndarray:
    """Return colours [level, 3] of strengths from 0 to 1."""
    strengths = np.abs(_LEVELS)
    steps = np.linspace(0, 1, len(anchors))
    return np.stack([np.interp(strengths, steps, channel) for channel in np.transpose(anchors)], axis=-1)


_COLOURS = np.where(_LEVELS[:, None] < 0, _ramp(_COLD), _ramp(_WARM)).astype(np.float32)
_OPACITIES = (0.65 * np.sqrt(np.abs(_LEVELS))).astype(np.float32)
# Pixels coloured at once, so that a large image does not need many times its size in memory.
_BAND_PIXELS = 2**18


Span = tuple[slice, slice, np.ndarray]
"""Rows and columns of a drawn image, and the values there, float32 [rows, columns]."""


def lay_over(
    effects: np.ndarray,
    box: tuple[float, float, float, float],
    crop: Box,
    shape: tuple[int, int],
    longest_side: int | None = None,
) -> tuple[tuple[int, int], Span]:
    """Lay a coarse grid over the part of an image that it is of, at the size at which the image is drawn.

    Args:
        effects: float32 [h, w].
        box: Left, top, right and bottom, in cells of the grid, of what lies over `crop`.
        crop: That part of the original.
        shape: Height and width of the original.
        longest_side: Draw it as `drawn_shape` shrinks the original; None draws it as large as the original.

    Returns:
        Height and width as drawn, and where in it which values are.
    """
    height, width = drawn_shape(shape, longest_side)
    rows = _drawn_span(crop.top, crop.bottom, height / shape[0])
    columns = _drawn_span(crop.left, crop.right, width / shape[1])
    size = (columns.stop - columns.start, rows.stop - rows.start)
    inside = Image.fromarray(effects).resize(size, Image.Resampling.BICUBIC, box=box)
    return (height, width), (rows, columns, np.asarray(inside))


def drawn_shape(shape: tuple[int, int], longest_side: int | None) -> tuple[int, int]:
    """Return height and width at which an image is drawn: its own, or with `longest_side` pixels on the longer side.

    An image is never drawn larger than it is.
    """
    height, width = shape
    if longest_side is None or max(shape) <= longest_side:
        return height, width
    scale = longest_side / max(shape)
    return max(1, round(height * scale)), max(1, round(width * scale))


def _drawn_span(start: int, stop: int, scale: float) -> slice:
    """Scale a span of pixels, so that at least one is left."""
    first = min(round(start * scale), round(stop * scale) - 1)
    return slice(max(0, first), max(0, first) + max(1, round(stop * scale) - max(0, first)))


def overlay(pixels: np.ndarray, heatmap: np.ndarray | None) -> np.ndarray:
    """Colour a heat map over its image.

    Args:
        pixels: uint8 [H, W].
        heatmap: float [H, W] from -1 (cold, against) to 1 (warm, for), or None for the image alone.

    Returns:
        uint8 [H, W, 3].

    Raises:
        InputError: The two have different sizes.
    """
    coloured = np.repeat(pixels[..., None], 3, axis=-1)
    if heatmap is None:
        return coloured
    if heatmap.shape != pixels.shape:
        raise InputError(f"the heat map is {heatmap.shape}, its image {pixels.shape}")
    rows = max(1, _BAND_PIXELS // max(1, pixels.shape[1]))
    for top in range(0, len(pixels), rows):
        band = slice(top, top + rows)
        level = np.rint((heatmap[band] + 1) * ((len(_COLOURS) - 1) / 2)).astype(np.intp)
        opacity = _OPACITIES[level][..., None]
        coloured[band] = np.rint(coloured[band] * (1 - opacity) + _COLOURS[level] * opacity)
    return coloured


def shrink(pixels: np.ndarray, longest_side: int) -> np.ndarray:
    """Make an image smaller if it is larger than it is shown.

    Args:
        pixels: uint8 [H, W].
        longest_side: Of the result at most.

    Returns:
        uint8 of the shape that `drawn_shape` gives.
    """
    height, width = drawn_shape((pixels.shape[0], pixels.shape[1]), longest_side)
    if (height, width) == pixels.shape:
        return pixels
    # The gap halves large images first, where each pixel of the result still averages many.
    size = (width, height)
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR, reducing_gap=3.0))
