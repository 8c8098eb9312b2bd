"""From grey pixels and a frozen spec to the network's input, and back to where it came from."""

from __future__ import annotations

import numpy as np
from PIL import Image

from medsharp.errors import InputError
from medsharp.images.box import Box
from medsharp.preprocess.overlays import remove_overlays
from medsharp.preprocess.region import around, dark_borders, scan_region
from medsharp.preprocess.spec import Placement, PreprocessSpec


def placement(pixels: np.ndarray, spec: PreprocessSpec, *, lesion: Box | None = None) -> Placement:
    """Find the part of an image that is used and its place in the input.

    Args:
        pixels: uint8 [H, W].
        spec: How images are placed.
        lesion: Its box, which `crop: lesion` needs.

    Raises:
        InputError: `pixels` is not two-dimensional uint8, or the lesion is needed and not given.
    """
    if pixels.ndim != 2 or pixels.dtype != np.uint8 or min(pixels.shape) < 1:
        raise InputError(f"expected grey uint8 pixels [H, W], not {pixels.dtype} {list(pixels.shape)}")
    top, left, bottom, right = _crop(pixels, spec, lesion)
    if spec.fit == "stretch":
        return Placement(Box(top, left, bottom, right), Box(0, 0, spec.size, spec.size))
    scale = spec.size / max(bottom - top, right - left)
    height = min(spec.size, max(1, round((bottom - top) * scale)))
    width = min(spec.size, max(1, round((right - left) * scale)))
    y, x = (spec.size - height) // 2, (spec.size - width) // 2
    return Placement(Box(top, left, bottom, right), Box(y, x, y + height, x + width))


def preprocess(
    pixels: np.ndarray,
    spec: PreprocessSpec,
    *,
    lesion: Box | None = None,
    coloured: np.ndarray | None = None,
    where: Placement | None = None,
) -> np.ndarray:
    """Crop, resize with antialiasing, and pad.

    Args:
        pixels: uint8 [H, W].
        spec: How images are placed.
        lesion: Its box, which `crop: lesion` needs.
        coloured: bool [H, W] of pixels that were coloured, which helps `inpaint` to find graphics.
        where: What `placement` says of these pixels, where that is known.

    Returns:
        uint8 [size, size]; the same bytes for the same pixels.

    Raises:
        InputError: `pixels` is not two-dimensional uint8, or the lesion is needed and not given.
    """
    place = where or placement(pixels, spec, lesion=lesion)
    return _place(remove_overlays(pixels, coloured) if spec.inpaint else pixels, place, spec.size)


def preprocess_mask(
    mask: np.ndarray, pixels: np.ndarray, spec: PreprocessSpec, *, lesion: Box | None = None
) -> np.ndarray:
    """Place a lesion mask as `preprocess` places its image.

    Args:
        mask: bool or {0, 1} [H, W] of the image's size; another size is brought to it first.
        pixels: The image, uint8 [H, W].
        spec: How images are placed.
        lesion: As for `preprocess`.

    Returns:
        uint8 [size, size] of 0 and 1: whether at least half of an input pixel is lesion.
    """
    area = mask.astype(bool).astype(np.uint8) * 255
    if area.shape != pixels.shape:
        area = np.asarray(Image.fromarray(area).resize(pixels.shape[::-1], Image.Resampling.NEAREST))
    return (_place(area, placement(pixels, spec, lesion=lesion), spec.size) >= 128).astype(np.uint8)


def _crop(pixels: np.ndarray, spec: PreprocessSpec, lesion: Box | None) -> Box:
    if spec.crop == "scan":
        return dark_borders(pixels)
    if spec.crop == "region":
        return scan_region(pixels)
    if spec.crop == "none":
        return Box(0, 0, *pixels.shape)
    if lesion is None:
        raise InputError("crop: lesion needs the lesion's mask or box, and there is none")
    crop = around(lesion, spec.margin, pixels.shape)
    if min(crop.height, crop.width, lesion.height, lesion.width) <= 0:
        height, width = pixels.shape
        raise InputError(f"the lesion's box {list(lesion)} is empty or outside the image of {width} x {height} pixels")
    return crop


def _place(pixels: np.ndarray, place: Placement, size: int) -> np.ndarray:
    top, left, bottom, right = place.inner
    crop = place.crop
    picture = Image.fromarray(pixels).resize(
        (right - left, bottom - top), Image.Resampling.BILINEAR, box=(crop.left, crop.top, crop.right, crop.bottom)
    )
    placed = np.zeros((size, size), dtype=np.uint8)
    placed[top:bottom, left:right] = np.asarray(picture)
    return placed
