"""Where the lesion is, by the masks or the box that a manifest names."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from medsharp.errors import InputError
from medsharp.images import DecodedImage, ImageLimits, read_image
from medsharp.preprocess import Box

BOX = "box"
"""An optional column of a manifest: left, top, right and bottom in pixels of the image, right and bottom exclusive."""


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
    return top, left, bottom, right


def lesion_area(files: Sequence[Path], image: DecodedImage, limits: ImageLimits = ImageLimits()) -> np.ndarray:
    """Unite mask files.

    Args:
        files: Masks; what is brighter than mid grey is lesion. One of another size is brought to the image's.
        image: Whose lesion it is; where it was cropped to the ultrasound region, masks of the whole are so too.
        limits: Of the files.

    Returns:
        bool [H, W], of the image's size.

    Raises:
        InputError: A mask cannot be read.
    """
    area = np.zeros(image.pixels.shape, dtype=bool)
    for file in files:
        mask = read_image(file, limits=limits, region=False).pixels > 127
        if mask.shape != area.shape:
            region = image.region
            if region is not None and region[2] <= mask.shape[0] and region[3] <= mask.shape[1]:
                mask = mask[region[0] : region[2], region[1] : region[3]]
            else:
                height, width = image.pixels.shape[0], image.pixels.shape[1]
                mask = np.asarray(Image.fromarray(mask).resize((width, height), Image.Resampling.NEAREST))
        area |= mask
    return area


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
        InputError: Neither is there, or the mask is empty; the sentence names the image.
    """
    if box:
        return within(read_box(box, name), image)
    if not masks:
        raise InputError(f"{name}: crop: lesion needs a mask or a box, and the manifest names neither")
    area = lesion_area(masks, image, limits)
    if not area.any():
        raise InputError(f"{name}: crop: lesion needs a lesion, and its mask is empty")
    rows, columns = np.flatnonzero(area.any(axis=1)), np.flatnonzero(area.any(axis=0))
    return int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1


def within(box: Box, image: DecodedImage) -> Box:
    """Return a box in pixels of the stored image as one of the image that was cropped from it."""
    if image.region is None:
        return box
    down, across = image.region[:2]
    top, left, bottom, right = box
    return max(top - down, 0), max(left - across, 0), bottom - down, right - across
