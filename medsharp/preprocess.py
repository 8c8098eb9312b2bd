"""Grey pixels to network input: the one definition, for training, for the exporter's check and for serving."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image

from medsharp.errors import InputError

Box = tuple[int, int, int, int]
"""top, left, bottom, right in pixels; bottom and right are exclusive."""

_DARK = 12
"""Grey level up to which a pixel counts as border."""

_FILLED = 0.02
"""Share of brighter pixels from which on a row or column belongs to the scan."""


@dataclass(frozen=True)
class PreprocessSpec:
    """How an image becomes a network input.

    Attributes:
        size: Side of the square input in pixels.
        crop: `scan` cuts dark borders away first, `none` keeps the whole image.
        fit: `letterbox` keeps the aspect ratio and pads with black, `stretch` does not.
    """

    size: int = 128
    crop: Literal["scan", "none"] = "scan"
    fit: Literal["letterbox", "stretch"] = "letterbox"


@dataclass(frozen=True)
class Placement:
    """Where a part of the original image lies in the input.

    Attributes:
        crop: The part of the original that is used.
        inner: Where that part lies in the [size, size] input.
    """

    crop: Box
    inner: Box


def placement(pixels: np.ndarray, spec: PreprocessSpec) -> Placement:
    """Find the part of an image that is used and its place in the input.

    Args:
        pixels: uint8 [H, W].
        spec: How images are placed.

    Raises:
        InputError: `pixels` is not two-dimensional uint8.
    """
    if pixels.ndim != 2 or pixels.dtype != np.uint8 or min(pixels.shape) < 1:
        raise InputError(f"expected grey uint8 pixels [H, W], not {pixels.dtype} {list(pixels.shape)}")
    top, left, bottom, right = _scan(pixels) if spec.crop == "scan" else (0, 0, *pixels.shape)
    if spec.fit == "stretch":
        return Placement((top, left, bottom, right), (0, 0, spec.size, spec.size))
    scale = spec.size / max(bottom - top, right - left)
    height = min(spec.size, max(1, round((bottom - top) * scale)))
    width = min(spec.size, max(1, round((right - left) * scale)))
    y, x = (spec.size - height) // 2, (spec.size - width) // 2
    return Placement((top, left, bottom, right), (y, x, y + height, x + width))


def preprocess(pixels: np.ndarray, spec: PreprocessSpec) -> np.ndarray:
    """Crop, resize with antialiasing, and pad.

    Args:
        pixels: uint8 [H, W].
        spec: How images are placed.

    Returns:
        uint8 [size, size]; the same bytes for the same pixels.

    Raises:
        InputError: `pixels` is not two-dimensional uint8.
    """
    return _place(pixels, placement(pixels, spec), spec.size)


def preprocess_mask(mask: np.ndarray, pixels: np.ndarray, spec: PreprocessSpec) -> np.ndarray:
    """Place a lesion mask as `preprocess` places its image.

    Args:
        mask: bool or {0, 1} [H, W] of the image's size; another size is brought to it first.
        pixels: The image, uint8 [H, W].
        spec: How images are placed.

    Returns:
        uint8 [size, size] of 0 and 1: whether at least half of an input pixel is lesion.
    """
    area = mask.astype(bool).astype(np.uint8) * 255
    if area.shape != pixels.shape:
        area = np.asarray(Image.fromarray(area).resize(pixels.shape[::-1], Image.Resampling.NEAREST))
    return (_place(area, placement(pixels, spec), spec.size) >= 128).astype(np.uint8)


def _place(pixels: np.ndarray, place: Placement, size: int) -> np.ndarray:
    top, left, bottom, right = place.inner
    crop = place.crop
    picture = Image.fromarray(pixels).resize(
        (right - left, bottom - top), Image.Resampling.BILINEAR, box=(crop[1], crop[0], crop[3], crop[2])
    )
    placed = np.zeros((size, size), dtype=np.uint8)
    placed[top:bottom, left:right] = np.asarray(picture)
    return placed


def _scan(pixels: np.ndarray) -> Box:
    """Return the box without dark borders, or the whole image when more than half of a side would go."""
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
    return top, left, bottom, right
