"""What each corruption looks like: the image and its five severities in a row."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from medsharp.data.phantom import simulate_image
from medsharp.robustness.corruptions import SEVERITIES, Corruption, corrupt

_GAP = 3
_TITLE = 20


@dataclass(frozen=True)
class Example:
    """An image to show corruptions on.

    Attributes:
        pixels: uint8 [H, W].
        lesion: bool [H, W], or None where it is not known.
    """

    pixels: np.ndarray
    lesion: np.ndarray | None = None


def example_image(seed: int = 5) -> Example:
    """Return a simulated image of 256 pixels a side."""
    image = simulate_image("A", "malignant", np.random.default_rng(seed))
    return Example(image.pixels, image.mask)


def strip(example: Example, corruption: Corruption, *, side: int = 128, seed: int = 0) -> np.ndarray:
    """Return the clean image and severities 1 to 5 beside each other.

    Args:
        example: The image.
        corruption: What to show.
        side: Of a picture in the row, in pixels.
        seed: Of the noise.

    Returns:
        uint8 [side, 6 side + gaps].
    """
    row = np.full((side, 6 * side + 5 * _GAP), 128, dtype=np.uint8)
    for place, severity in enumerate((0, *SEVERITIES)):
        shown = example.pixels
        if severity:
            shown = corrupt(example.pixels, corruption.name, severity, seed, lesion=example.lesion)
        picture = Image.fromarray(shown)
        picture.thumbnail((side, side), Image.Resampling.LANCZOS)
        left, top = place * (side + _GAP) + (side - picture.width) // 2, (side - picture.height) // 2
        row[top : top + picture.height, left : left + picture.width] = np.asarray(picture)
    return row


def contact_sheet(
    example: Example, corruptions: Sequence[Corruption], *, side: int = 128, seed: int = 0
) -> Image.Image:
    """Return all strips under each other with their names, in grey."""
    rows = [strip(example, corruption, side=side, seed=seed) for corruption in corruptions]
    sheet = Image.new("L", (rows[0].shape[1], len(rows) * (side + _TITLE)), 255)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    for place, (corruption, row) in enumerate(zip(corruptions, rows, strict=True)):
        top = place * (side + _TITLE)
        draw.text((2, top + 2), f"{corruption.name}: clean, severity 1 to 5", fill=0, font=font)
        sheet.paste(Image.fromarray(row), (0, top + _TITLE))
    return sheet


def jpeg_of(pixels: np.ndarray, quality: int = 80) -> bytes:
    """Encode for the page."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=quality)
    return stream.getvalue()
