"""What the ultrasound corruptions share: where the scan is on the screen, and grey levels as decibels.

A scanner shows the logarithm of the echo: on a display range of 60 dB from black to white, which is usual in breast
imaging, 4.25 grey levels are 1 dB, and whatever multiplies the echo shifts the grey level. Images do not say their
range; 60 dB stands for all.
"""

from __future__ import annotations

import math

import numpy as np
from PIL import Image
from scipy import ndimage
from scipy.spatial import ConvexHull

from medsharp.images.box import Box

GREY_PER_DB = np.float32(255 / 60)
_DARK = 6
_BLOCKS = 48
_PART = 0.1
"""Least size of a part of the scan over the largest: smaller ones may be markers on the border."""
_SIDE, _BOTTOM = 0.1, 0.5
"""Least length of a straight side of the scan, and of its bottom, over the shorter side of the image."""
_ALONG, _ALONG_BOTTOM = 0.5, 0.85
"""On which share of it echoes are found."""
_WITHIN = 1.5
"""How many blocks inside of it they are looked for."""
_LEVEL, _STEEP = 0.04, 0.7
"""Sine of the greatest slope of a level side, and of the least slope of an oblique one."""


def scan_mask(image: np.ndarray) -> np.ndarray:
    """Return how much each pixel belongs to the scan: float32 [H, W] from 0 (black border) to 1.

    Black that reaches the edge of the image need not be border: beneath tumours, ribs and deep tissue the scan itself
    is as flat and black. Grey levels do not tell the two apart, but shape does: a border ends at a straight side of the
    scan, along which there are echoes. So the border is what lies beyond those sides of the echoes' convex hull that
    have echoes along half of their length and run as a scan's do: level at the top, upright or apart with depth at the
    left and right. At the bottom, where echoes end by themselves, a side must be level, long and bright nearly all
    along. All else is scan; a shadow with a straight upright side, as where the probe has no contact, still passes for
    border. Text and markers on the border are border.
    """
    block = max(1, min(image.shape) // _BLOCKS)
    bright = np.asarray(Image.fromarray(image).reduce(block)) > _DARK  # [h, w] blocks
    corners = _hull(bright)
    if corners is None:
        return np.ones(image.shape, dtype=np.float32)
    rows, columns = np.indices(bright.shape) + 0.5
    border = np.zeros(bright.shape, dtype=bool)
    for start, end in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        along = end - start
        length = float(np.hypot(*along))
        inward = np.array([-along[1], along[0]]) / length  # x, y; the hull runs with its inside on this hand
        bottom = inward[1] < -_LEVEL
        straight = abs(inward[0]) < _LEVEL or (not bottom and abs(inward[0]) > _STEEP)
        if not straight or length < (_BOTTOM if bottom else _SIDE) * min(bright.shape):
            continue
        steps = start + np.linspace(0, 1, 2 * math.ceil(length) + 1)[:, None] * along + _WITHIN * inward
        x, y = (np.clip(steps[:, axis].astype(int), 0, bright.shape[1 - axis] - 1) for axis in (0, 1))
        if bright[y, x].mean() >= (_ALONG_BOTTOM if bottom else _ALONG):
            border |= (columns - start[0]) * inward[0] + (rows - start[1]) * inward[1] < 0
    if not border.any():
        return np.ones(image.shape, dtype=np.float32)
    mask = Image.fromarray(1 - border.astype(np.float32))
    return np.asarray(mask.resize(image.shape[::-1], Image.Resampling.BILINEAR))


def _hull(bright: np.ndarray) -> np.ndarray | None:
    """Return the corners of the convex hull of the echoes, float64 [K, 2] of x and y, in blocks; None without any.

    Thin things and small ones, as text is, are left out.
    """
    parts, count = ndimage.label(ndimage.binary_opening(bright, np.ones((3, 3))))
    if not count:
        return None
    sizes = np.bincount(parts.ravel(), minlength=count + 1)[1:]
    rows, columns = np.nonzero(np.isin(parts, 1 + np.flatnonzero(sizes >= _PART * sizes.max())))
    corners = np.concatenate([np.stack([columns + x, rows + y], axis=1) for x in (0, 1) for y in (0, 1)])
    return corners[ConvexHull(corners).vertices].astype(np.float64)


def scan_box(mask: np.ndarray) -> Box:
    """Return the rectangle around the scan."""
    inside = mask > 0.5
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    if not len(rows):
        return Box(0, 0, *mask.shape)
    return Box(int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1)


def depth_of(box: Box, rows: int) -> np.ndarray:
    """Return the depth of each row of the image: float32 [rows, 1], 0 at the top of the scan and 1 at its end."""
    depth = (np.arange(rows, dtype=np.float32) + np.float32(0.5) - box.top) / max(1, box.height)
    return np.clip(depth, 0, 1)[:, None]


def across_of(box: Box, columns: int) -> np.ndarray:
    """Return the place of each column: float32 [1, columns], 0 and 1 at the sides of the scan."""
    return ((np.arange(columns, dtype=np.float32) + np.float32(0.5) - box.left) / max(1, box.width))[None, :]


def add_decibels(image: np.ndarray, decibels: np.ndarray | float, mask: np.ndarray) -> np.ndarray:
    """Raise the echo level within the scan.

    Args:
        image: uint8 [H, W].
        decibels: That broadcast to [H, W].
        mask: float32 [H, W], as `scan_mask` gives it.
    """
    return to_grey(image + mask * (np.asarray(decibels, dtype=np.float32) * GREY_PER_DB))


def to_grey(values: np.ndarray) -> np.ndarray:
    """Round and clip to uint8."""
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)
