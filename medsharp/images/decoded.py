"""Decoded pixels: grey, 8 bits, with what was done to get them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from medsharp.images.box import Box
from medsharp.images.values import ValueRange

COLOUR_DIFFERENCE = 16
"""Grey levels between channels from which on a pixel counts as coloured; JPEG alone stays below."""

COLOURED_SHARE = 1e-4
"""One coloured pixel in 10,000 is a caliper or a Doppler box; fewer is compression."""

LEAST_FLOW = 4e-4
"""Share of pixels that are blood flow from which on it is Doppler: a vessel of 5 x 5 pixels on a copy of 256."""

_ROWS = 64

PART = "cropped to a part that was asked for"
"""The flag of an image of which only a part is looked at."""


@dataclass(frozen=True)
class DecodedImage:
    """Pixels and what was done to get them.

    Attributes:
        pixels: uint8 [H, W], grey.
        format: As Pillow names it, or `"DICOM"`.
        flags: Such as `colour`, `16-bit`, `upper bits unused`, `alpha`, `cmyk`, `rotated`, `dicom`,
            `frame 12 of 40, the sharpest`, `cropped to the ultrasound region`; docs/images.md lists them.
        frame: Which frame of a clip this is, counted from 1; None where the file holds one image.
        colours: uint8 [H, W, 3], RGB, where some pixels were really coloured; None where none was.
        region: The part of the stored image that this is; None where it is all of it.
        range: The stored values that became black and white; None where the file has 8 bits, or is windowed.
        orientation: How the file is stored, as EXIF numbers it; 1 is upright, as `pixels` are in any case.
        size: Height and width of the image that `region` is a part of.
    """

    pixels: np.ndarray
    format: str
    flags: tuple[str, ...] = ()
    frame: int | None = None
    colours: np.ndarray | None = None
    region: Box | None = None
    range: ValueRange | None = None
    orientation: int = 1
    size: tuple[int, int] | None = None

    @property
    def whole(self) -> tuple[int, int]:
        """Height and width of the whole image, upright."""
        return self.size or self.pixels.shape

    @property
    def coloured(self) -> np.ndarray | None:
        """bool [H, W], the pixels that were really coloured; None where none was."""
        return None if self.colours is None else coloured_pixels(self.colours)

    def part(self, box: Box) -> DecodedImage:
        """Return the part of it inside a box, which must lie in it, with a flag that says so."""
        rows, columns = slice(box.top, box.bottom), slice(box.left, box.right)
        top, left = (0, 0) if self.region is None else (self.region.top, self.region.left)
        return replace(
            self,
            # Copies, so that the whole can go.
            pixels=self.pixels[rows, columns].copy(),
            colours=None if self.colours is None else self.colours[rows, columns].copy(),
            size=self.whole,
            region=Box(box.top + top, box.left + left, box.bottom + top, box.right + left),
            flags=(*self.flags, PART),
        )


def upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Return pixels [H, W] that are stored in an orientation as EXIF numbers it; another number is 1."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.T  # mirrored about the diagonal from the upper left, which is 5
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels[::-1] if orientation in (3, 4, 7, 8) else pixels


def luminance(rgb: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """Return grey uint8 [H, W] (ITU-R 601) of uint8 [H, W, 3], and these colours; None where too few are any."""
    grey = np.empty(rgb.shape[:2], dtype=np.uint8)
    for rows in strips(len(rgb)):
        grey[rows] = np.asarray(Image.fromarray(rgb[rows]).convert("L"))
    return grey, rgb if coloured_pixels(rgb).mean() > COLOURED_SHARE else None


def coloured_pixels(rgb: np.ndarray) -> np.ndarray:
    """Return which pixels of uint8 [H, W, 3] have a colour: bool [H, W]."""
    coloured = np.empty(rgb.shape[:2], dtype=bool)
    for rows in strips(len(rgb)):
        red, green, blue = np.moveaxis(rgb[rows], -1, 0)  # uint8 [h, W] each
        high = np.maximum(np.maximum(red, green), blue)
        coloured[rows] = high - np.minimum(np.minimum(red, green), blue) > COLOUR_DIFFERENCE
    return coloured


def strips(height: int) -> Iterator[slice]:
    """Return the rows of an image a few at a time: what is computed on them takes little memory beside it."""
    return (slice(top, top + _ROWS) for top in range(0, height, _ROWS))
