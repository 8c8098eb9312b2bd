"""What is drawn on an image, as a transparent sheet: it can be laid on the image, or give way to grey patches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal

import numpy as np
from PIL import Image, ImageDraw, ImageFont

WHITE = (255, 255)
"""Grey level and opacity."""

Sides = tuple[float, float, float, float]
"""Left, top, right and bottom, in pixels."""


@dataclass(frozen=True)
class Marks:
    """Marks on a sheet of the image's size.

    Attributes:
        sheet: Grey level and opacity of each pixel, mode `LA`.
        patches: The area of each mark: a shape and its sides.
    """

    sheet: Image.Image
    patches: list[tuple[Literal["rectangle", "ellipse"], Sides]] = field(default_factory=list)

    @classmethod
    def blank(cls, shape: Sequence[int]) -> Marks:
        """Return an empty sheet for an image [H, W]."""
        # White below: letters are drawn smooth, and what shows of them is opacity.
        return cls(Image.new("LA", (shape[1], shape[0]), (255, 0)))

    def pen(self) -> ImageDraw.ImageDraw:
        """Return what draws on the sheet."""
        return ImageDraw.Draw(self.sheet)

    def on(self, image: np.ndarray) -> np.ndarray:
        """Return the image with its marks, uint8 [H, W]."""
        level, opacity = np.moveaxis(np.asarray(self.sheet, dtype=np.float32), -1, 0)
        values = image.astype(np.float32)
        return np.rint(values + (level - values) * (opacity / 255)).astype(np.uint8)

    def patches_on(self, image: np.ndarray) -> np.ndarray:
        """Return the image with a flat patch over each mark's area, of the mean grey level of the marked image there.

        What the marks cover and how bright the place is stays; what they show is gone.
        """
        marked, changed = self.on(image), image.copy()
        for shape, sides in self.patches:
            area = Image.new("1", self.sheet.size)
            draw = ImageDraw.Draw(area)
            (draw.ellipse if shape == "ellipse" else draw.rectangle)(sides, fill=1)
            inside = np.asarray(area)
            if inside.any():
                changed[inside] = round(float(marked[inside].mean()))
        return changed


@lru_cache(maxsize=64)
def font_of(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Return Pillow's own font."""
    return ImageFont.load_default(size)
