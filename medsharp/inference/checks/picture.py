"""An image as the checks look at it: grey, coloured, and reduced to sides at which statistics are alike everywhere."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from PIL import Image

from medsharp.images import DecodedImage
from medsharp.images.decoded import coloured_pixels, strips

LOOKED_AT = 256
"""Longest side in pixels at which seams and colours are looked for; images are made smaller, never larger."""


_GREYS = np.arange(256.0)


class Picture:
    """A decoded image, and what several checks need of it, each made when first asked for.

    Args:
        image: As it was decoded, before it is cropped for the network.
    """

    def __init__(self, image: DecodedImage) -> None:
        self.grey = image.pixels
        self.colours = image.colours
        self._image = image

    @cached_property
    def small(self) -> np.ndarray:
        """The grey image with a longest side of at most `LOOKED_AT`: uint8 [h, w]."""
        return reduced(self.grey, LOOKED_AT)

    @cached_property
    def coloured(self) -> np.ndarray | None:
        """Which pixels of `small` are coloured, bool [h, w]; None where the image is grey."""
        mask = self._image.coloured
        return None if mask is None else reduced(mask.astype(np.uint8) * 255, LOOKED_AT) > 127

    @cached_property
    def hue_agreement(self) -> float:
        """Mean resultant length of the hues of the coloured pixels: 1 where all have one; 0 where none is coloured."""
        if self.colours is None:
            return 0.0
        total, count = 0j, 0
        for rows in strips(len(self.colours)):
            rgb = self.colours[rows]
            red, green, blue = rgb[coloured_pixels(rgb)].astype(float).T  # [n] each
            hues = np.arctan2(np.sqrt(3) * (green - blue), 2 * red - green - blue)
            total, count = total + np.exp(1j * hues).sum(), count + len(hues)
        return float(abs(total) / max(1, count))

    @cached_property
    def levels(self) -> np.ndarray:
        """Share of the pixels at each grey level: float [256]."""
        # Pillow counts bytes as they are; NumPy would first make an integer of 8 bytes of each.
        return np.array(Image.fromarray(self.grey).histogram()) / self.grey.size

    @cached_property
    def mean(self) -> float:
        """Mean grey level."""
        return float(self.levels @ _GREYS)

    @cached_property
    def deviation(self) -> float:
        """Standard deviation of the grey levels."""
        return float(np.sqrt(self.levels @ (_GREYS - self.mean) ** 2))


def reduced(grey: np.ndarray, longest: int, *, enlarge: bool = False) -> np.ndarray:
    """Return uint8 [H, W] with a longest side of `longest` pixels, each the mean of those that it covers.

    Args:
        grey: The image.
        longest: Side in pixels.
        enlarge: Whether smaller images are made larger; they are left as they are by default.
    """
    height, width = grey.shape
    scale = longest / max(height, width)
    if scale == 1 or (scale > 1 and not enlarge):
        return grey
    size = max(8, round(width * scale)), max(8, round(height * scale))
    how = Image.Resampling.BOX if scale < 1 else Image.Resampling.BICUBIC
    return np.asarray(Image.fromarray(grey).resize(size, how))
