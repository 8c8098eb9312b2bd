"""What the ultrasound corruptions share: where the scan is on the screen, and grey levels as decibels.

A scanner shows the logarithm of the echo: on a display range of 60 dB from black to white, which is usual in breast
imaging, 4.25 grey levels are 1 dB, and whatever multiplies the echo shifts the grey level. Images do not say their
range; 60 dB stands for all.
"""

from __future__ import annotations

import numpy as np
from PIL import Image
from scipy import ndimage

from medsharp.images.box import Box

GREY_PER_DB = np.float32(255 / 60)
_DARK = 6
_BLOCKS = 48


def scan_mask(image: np.ndarray) -> np.ndarray:
    """Return how much each pixel belongs to the scan: float32 [H, W] from 0 (black border) to 1.

    Black that reaches the edge of the image is border; a black cyst inside the scan is not.
    """
    block = max(1, min(image.shape) // _BLOCKS)
    small = np.asarray(Image.fromarray(image).reduce(block))
    dark = small <= _DARK
    if not dark.any():
        return np.ones(image.shape, dtype=np.float32)
    areas, _ = ndimage.label(dark)
    edge = np.unique(np.concatenate([areas[0], areas[-1], areas[:, 0], areas[:, -1]]))
    outside = np.isin(areas, edge[edge > 0])
    if not outside.any() or outside.all():
        return np.ones(image.shape, dtype=np.float32)
    inside = Image.fromarray(1 - outside.astype(np.float32))
    return np.asarray(inside.resize(image.shape[::-1], Image.Resampling.BILINEAR))


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
