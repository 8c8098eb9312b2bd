"""What of the tissue is shown and how large: zoom, depth, aspect, crop. The frame keeps its size."""

from __future__ import annotations

import numpy as np
from PIL import Image

from medsharp.robustness.corruptions.scan import GREY_PER_DB, to_grey

_FADE_DB = 25.0


def zoom_in(image: np.ndarray, rng: np.random.Generator, *, factor: float) -> np.ndarray:
    """Magnify about the middle; what lies at the borders is lost.

    Args:
        image: uint8 [H, W].
        rng: Not used.
        factor: Above 1.
    """
    return _window(image, 1 / factor, 0.5, 0.5)


def crop(image: np.ndarray, rng: np.random.Generator, *, kept: float) -> np.ndarray:
    """Keep a window at an edge or in a corner, enlarged to the frame: whoever exported it cut the rest away.

    Args:
        image: uint8 [H, W].
        rng: Draws the edge or corner.
        kept: Side of the window over that of the image.
    """
    places = [(x, y) for x in (0.0, 0.5, 1.0) for y in (0.0, 0.5, 1.0) if (x, y) != (0.5, 0.5)]
    return _window(image, kept, *places[int(rng.integers(len(places)))])


def depth_increase(image: np.ndarray, rng: np.random.Generator, *, factor: float) -> np.ndarray:
    """Show more depth: the tissue is smaller, with black at the sides and deeper tissue beneath.

    No image shows what lies below it: its lowest fifth, mirrored again and again and fading by 25 dB, stands there.

    Args:
        image: uint8 [H, W].
        rng: Not used.
        factor: New depth over old, from 1 to 2.
    """
    height, width = image.shape
    rows, columns = max(1, round(height / factor)), max(1, round(width / factor))
    small = np.asarray(Image.fromarray(image).resize((columns, rows), Image.Resampling.BILINEAR))
    last, missing = max(1, rows // 5), height - rows
    # Symmetric padding repeats what it has when it shall give more.
    deeper = np.pad(small[-last:], ((0, missing), (0, 0)), mode="symmetric")[last:]
    fade = np.linspace(0, _FADE_DB, missing, dtype=np.float32)[:, None]
    left = (width - columns) // 2
    shown = np.zeros_like(image)
    shown[:rows, left : left + columns] = small
    shown[rows:, left : left + columns] = to_grey(deeper - GREY_PER_DB * fade)
    return shown


def aspect_stretch(image: np.ndarray, rng: np.random.Generator, *, factor: float) -> np.ndarray:
    """Squeeze depth, as an export with other than square pixels does; the frame is black below.

    Args:
        image: uint8 [H, W].
        rng: Not used.
        factor: Width over height of what was square.
    """
    height, width = image.shape
    rows = max(1, round(height / factor))
    shown = np.zeros_like(image)
    shown[:rows] = np.asarray(Image.fromarray(image).resize((width, rows), Image.Resampling.BILINEAR))
    return shown


def _window(image: np.ndarray, share: float, x: float, y: float) -> np.ndarray:
    height, width = image.shape
    left, top = x * (1 - share) * width, y * (1 - share) * height
    box = (left, top, left + share * width, top + share * height)
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC, box=box))
