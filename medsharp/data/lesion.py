"""Where the lesion is, by the masks or the box that a manifest names."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from medsharp.errors import InputError
from medsharp.images import Box, DecodedImage, ImageLimits, Marks, read_marks
from medsharp.images.decoded import upright

BOX = "box"
"""An optional column of a manifest: left, top, right and bottom in pixels of the image, right and bottom exclusive."""

_ON_ITS_SIDE = frozenset({5, 6, 7, 8})
"""The orientations, as EXIF numbers them, in which width and height change places."""


def read_box(text: str, name: str) -> Box:
    """Read `left,top,right,bottom`; blanks and semicolons separate as well.

    Args:
        text: Four whole numbers.
        name: What to name in the error.

    Raises:
        InputError: It is something else, or the box is empty.
    """
    parts = [part for part in re.split(r"[\s,;]+", text.strip()) if part]
    if len(parts) != 4 or not all(re.fullmatch(r"\d{1,9}", part) for part in parts):
        raise InputError(f"{name}: box '{text}' must be four whole numbers: left,top,right,bottom")
    left, top, right, bottom = map(int, parts)
    if left >= right or top >= bottom:
        raise InputError(f"{name}: box '{text}' is empty; write left,top,right,bottom")
    return Box(top, left, bottom, right)


def read_mask(file: Path, limits: ImageLimits = ImageLimits()) -> np.ndarray:
    """Read which pixels of a mask file are lesion, by the rules of `medsharp.images.read_marks`.

    Args:
        file: The mask.
        limits: Of the file.

    Returns:
        bool [H, W], of the file's own size.

    Raises:
        InputError: The mask cannot be read.
    """
    return read_marks(file, limits=limits).pixels


def part_on(image: DecodedImage, marks: Marks) -> np.ndarray | None:
    """Return the part of a mask that lies on an image, bool [H, W]; None where the two are of different sizes.

    A mask that has no orientation of its own, and the size in which its image is stored on its side, is turned as the
    image was. Where the image was cropped to the ultrasound region, a mask of the whole is so too.
    """
    mask = _turned_with(image, marks)
    if mask.shape == image.pixels.shape:
        return mask
    region = image.region
    if region is not None and mask.shape == image.whole:
        return mask[region.top : region.bottom, region.left : region.right]
    return None


def lesion_area(files: Sequence[Path], image: DecodedImage, limits: ImageLimits = ImageLimits()) -> np.ndarray:
    """Unite mask files.

    Args:
        files: Masks, see `read_mask`. One of another size is stretched onto the image, or onto the whole that the image
            is a part of where it has the shape of that.
        image: Whose lesion it is.
        limits: Of the files.

    Returns:
        bool [H, W], of the image's size.

    Raises:
        InputError: A mask cannot be read, or lies on its side, and nothing says why.
    """
    area = np.zeros(image.pixels.shape, dtype=bool)
    for file in files:
        marks = read_marks(file, limits=limits)
        part = part_on(image, marks)
        area |= _stretched(image, _turned_with(image, marks), file) if part is None else part
    return area


def doubts_of_place(image: DecodedImage, marks: Marks) -> tuple[str, ...]:
    """Return why a mask may lie elsewhere on its image, for a person; nothing where its size tells."""
    side_tells = image.orientation in _ON_ITS_SIDE and image.whole[0] != image.whole[1]
    if image.orientation == marks.orientation or side_tells or marks.orientation != 1:
        return ()
    return ("its image is stored turned or mirrored, and nothing says whether the mask is too",)


def lies_across(image: DecodedImage, mask: np.ndarray) -> bool:
    """Whether a mask [H, W] has the shape of an image that lies on its side, larger or smaller perhaps."""
    shapes = (image.pixels.shape, image.whole)
    if mask.shape in shapes:
        return False
    turned = [shape[::-1] for shape in shapes]
    if mask.shape in turned:
        return True
    return not any(_alike(mask.shape, one) for one in shapes) and any(_alike(mask.shape, one) for one in turned)


def _alike(one: tuple[int, ...], other: tuple[int, ...]) -> bool:
    """Whether one shape (H, W) is the other, reduced or enlarged and rounded to pixels."""
    return abs(one[0] * other[1] - one[1] * other[0]) <= max(*one, *other)


def _turned_with(image: DecodedImage, marks: Marks) -> np.ndarray:
    """Return a mask upright: as it is, or, where it was drawn on the image as stored on its side, turned with that."""
    if image.orientation in _ON_ITS_SIDE and marks.orientation == 1 and lies_across(image, marks.pixels):
        return upright(marks.pixels, image.orientation)
    return marks.pixels


def _stretched(image: DecodedImage, mask: np.ndarray, file: Path) -> np.ndarray:
    if lies_across(image, mask):
        (high, wide), (height, width) = mask.shape, image.pixels.shape
        raise InputError(
            f"{file}: a mask of {wide} x {high} pixels lies on its side on an image of {width} x {height}; turn it as "
            "the image is shown"
        )
    region = image.region
    if region is not None and _alike(mask.shape, image.whole) and not _alike(mask.shape, image.pixels.shape):
        return _resized(mask, image.whole)[region.top : region.bottom, region.left : region.right]
    return _resized(mask, image.pixels.shape)


def _resized(mask: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    return np.asarray(Image.fromarray(mask).resize((shape[1], shape[0]), Image.Resampling.NEAREST))


def lesion_box(
    name: str, box: str, masks: Sequence[Path], image: DecodedImage, limits: ImageLimits = ImageLimits()
) -> Box:
    """Return the box around the lesion of an image: the one given, else what encloses its masks.

    Args:
        name: Of the image, for errors.
        box: As the manifest's column has it; may be empty.
        masks: Mask files.
        image: The decoded image.
        limits: Of the mask files.

    Raises:
        InputError: Neither is there, the mask is empty or on its side, or the box is outside the image; the sentence
            names the image or the mask.
    """
    if box:
        return within(read_box(box, name), image, name)
    if not masks:
        raise InputError(f"{name}: crop: lesion needs a mask or a box, and the manifest names neither")
    area = lesion_area(masks, image, limits)
    if not area.any():
        raise InputError(f"{name}: crop: lesion needs a lesion, and its mask is empty")
    rows, columns = np.flatnonzero(area.any(axis=1)), np.flatnonzero(area.any(axis=0))
    return Box(int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1)


def within(box: Box, image: DecodedImage, name: str) -> Box:
    """Return a box in pixels of the stored image as one of the image that was cropped from it.

    Args:
        box: Not empty; may reach beyond the image.
        image: The decoded image.
        name: Of the image, for the error.

    Raises:
        InputError: No pixel of the image is in the box.
    """
    down, across = (0, 0) if image.region is None else image.region[:2]
    height, width = image.pixels.shape
    top, left = max(box.top - down, 0), max(box.left - across, 0)
    bottom, right = box.bottom - down, box.right - across
    if top >= min(bottom, height) or left >= min(right, width):
        where = f"{width} x {height} pixels" + (" from the ultrasound region" if image.region is not None else "")
        raise InputError(
            f"{name}: box '{box.left},{box.top},{box.right},{box.bottom}' (left,top,right,bottom) "
            f"is outside the image of {where}"
        )
    return Box(top, left, bottom, right)
