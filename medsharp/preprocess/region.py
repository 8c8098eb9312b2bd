"""Which part of an image is the scan: without dark borders, without what stands beside it on the screen, or the lesion.

The rules `dark_borders` and `scan_region` are frozen: bundles name them, and their pixels must not change.
"""

from __future__ import annotations

import numpy as np

from medsharp.images.box import Box

_DARK = 12
"""Grey level up to which a pixel counts as border."""

_FILLED = 0.02
"""Share of brighter pixels from which on a row or column belongs to the scan."""

_EMPTY = 0.01
"""Share of living pixels up to which a row or column counts as a gap."""

_PART = 0.25
"""What lies beyond a gap belongs to the scan if it has this share of the living pixels of the largest part."""

_LEAST = 0.25
"""A side of which less would remain is left whole."""

_SATURATED = 250
"""White tissue is as even as a banner; only a banner is even and darker than this."""


def dark_borders(pixels: np.ndarray) -> Box:
    """Return the box without dark borders, or the whole image when more than half of a side would go.

    Args:
        pixels: uint8 [H, W].
    """
    bright = pixels > _DARK
    spans = []
    for axis in (1, 0):
        filled = np.flatnonzero(bright.mean(axis=axis) > _FILLED)
        length = pixels.shape[1 - axis]
        if len(filled) == 0 or filled[-1] + 1 - filled[0] < length / 2:
            spans.append((0, length))
        else:
            spans.append((int(filled[0]), int(filled[-1]) + 1))
    (top, bottom), (left, right) = spans
    return Box(top, left, bottom, right)


def scan_region(pixels: np.ndarray) -> Box:
    """Return the box of the scan without what stands beside it: rulers, grey bars, text, the vendor's banners.

    A pixel lives if it is brighter than a border and differs from a neighbour, which the evenly filled surface of a
    banner does not. Rows and then columns with hardly a living pixel are gaps; what lies beyond a gap is cut off. It is
    kept if it has a quarter of the living pixels of the largest part, as the second of two views has, or the depth
    behind a shadow. This is done twice, since a banner over the whole width hides the gaps between columns.

    Args:
        pixels: uint8 [H, W].
    """
    height, width = pixels.shape
    living = _living(pixels)
    top, left, bottom, right = 0, 0, height, width
    for _ in range(2):
        first, last = _span(living[top:bottom, left:right].mean(axis=1))
        top, bottom = top + first, top + last
        first, last = _span(living[top:bottom, left:right].mean(axis=0))
        left, right = left + first, left + last
    if bottom - top < _LEAST * height:
        top, bottom = 0, height
    if right - left < _LEAST * width:
        left, right = 0, width
    return Box(top, left, bottom, right)


def around(lesion: Box, margin: float, shape: tuple[int, ...]) -> Box:
    """Return a lesion's box with a margin, a share of its longer side, as far as the image [H, W] goes.

    Args:
        lesion: Its box; not empty.
        margin: On each side.
        shape: Of the image.
    """
    top, left, bottom, right = lesion
    more = round(margin * max(bottom - top, right - left))
    return Box(max(top - more, 0), max(left - more, 0), min(bottom + more, shape[0]), min(right + more, shape[1]))


def _living(pixels: np.ndarray) -> np.ndarray:
    centre = pixels[1:-1, 1:-1]
    neighbours = (pixels[:-2, 1:-1], pixels[2:, 1:-1], pixels[1:-1, :-2], pixels[1:-1, 2:])
    high, low = centre, centre
    for neighbour in neighbours:
        high, low = np.maximum(high, neighbour), np.minimum(low, neighbour)
    even = np.zeros(pixels.shape, dtype=bool)
    even[1:-1, 1:-1] = high - low <= 1
    return (pixels > _DARK) & ~(even & (pixels < _SATURATED))


def _span(share: np.ndarray) -> tuple[int, int]:
    """Return first and last + 1 of the parts that belong to the scan, given each line's share of living pixels."""
    filled = share > _EMPTY
    if not filled.any():
        return 0, len(share)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], filled, [False]]).astype(np.int8)))
    starts, ends = edges[::2], edges[1::2]
    mass = np.array([share[start:end].sum() for start, end in zip(starts, ends, strict=True)])
    large = np.flatnonzero(mass >= _PART * mass.max())
    return int(starts[large[0]]), int(ends[large[-1]])
