"""What of the tissue is shown and how large: zoom, depth, aspect, crop. The frame keeps its size."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image

from medsharp.robustness.corruptions.scan import GREY_PER_DB, to_grey

LEAST_HELD = 0.9
"""Share of a known lesion's area that stays on the image when tissue is cut away: with less the label may not hold."""
STRONGEST_ZOOM, STRONGEST_CROP = 1.75, 0.55
"""`factor` and `kept` at severity 5, which decide where all severities look."""
_FADE_DB = 25.0


def zoom_in(
    image: np.ndarray, rng: np.random.Generator, *, factor: float, lesion: np.ndarray | None = None
) -> np.ndarray:
    """Magnify about the middle; what lies at the borders is lost.

    A known lesion is kept: the point that stays where it is lies as near to the middle as lets the window at the
    strongest severity hold the lesion; a window that would hold less than 90 % of its area is larger.

    Args:
        image: uint8 [H, W].
        rng: Not used.
        factor: Above 1.
        lesion: bool [H, W].
    """
    if lesion is None or not lesion.any():
        return _window(image, 1 / factor, 0.5, 0.5)
    x, y = (_fixed_point(np.flatnonzero(lesion.any(axis=axis)), lesion.shape[1 - axis]) for axis in (0, 1))
    return _window(image, _holding(lesion, 1 / factor, x, y), x, y)


def crop(image: np.ndarray, rng: np.random.Generator, *, kept: float, lesion: np.ndarray | None = None) -> np.ndarray:
    """Keep a window at an edge or in a corner, enlarged to the frame: whoever exported it cut the rest away.

    A known lesion is kept: of edges and corners in random order the first is taken whose window at the strongest
    severity holds 90 % of its area, else the one that holds most; a window that would hold less is larger.

    Args:
        image: uint8 [H, W].
        rng: Draws the order of edges and corners.
        kept: Side of the window over that of the image.
        lesion: bool [H, W].
    """
    places = [(x, y) for x in (0.0, 0.5, 1.0) for y in (0.0, 0.5, 1.0) if (x, y) != (0.5, 0.5)]
    order = [places[number] for number in rng.permutation(len(places))]
    if lesion is None or not lesion.any():
        return _window(image, kept, *order[0])
    x, y = max(order, key=lambda place: min(LEAST_HELD, held(lesion, STRONGEST_CROP, *place)))
    return _window(image, _holding(lesion, kept, x, y), x, y)


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


def held(lesion: np.ndarray, share: float, x: float, y: float) -> float:
    """Return which share of the lesion's area a window holds.

    Args:
        lesion: bool [H, W], not empty.
        share: Side of the window over that of the image.
        x: Where the window lies between the left edge (0) and the right (1).
        y: Between the top edge (0) and the bottom (1).
    """
    left, top, right, bottom = _sides(lesion.shape, share, x, y)
    inside = lesion[math.floor(top) : math.ceil(bottom), math.floor(left) : math.ceil(right)]
    return float(inside.sum() / lesion.sum())


def _holding(lesion: np.ndarray, share: float, x: float, y: float) -> float:
    """Return the side of the window, enlarged in steps of 2 % until it holds enough of the lesion."""
    while share < 1 and held(lesion, share, x, y) < LEAST_HELD:
        share = min(1.0, share + 0.02)
    return share


def _fixed_point(places: np.ndarray, length: int) -> float:
    """Return the point of an axis, 0 to 1 and nearest to 0.5, about which the strongest zoom keeps all these pixels."""
    share = 1 / STRONGEST_ZOOM
    first, last = float(places[0]) / length, float(places[-1] + 1) / length
    # The window lies from x (1 - share) to x (1 - share) + share.
    low, high = (last - share) / (1 - share), first / (1 - share)
    middle = (low + high) / 2 if low > high else min(max(0.5, low), high)
    return min(max(middle, 0.0), 1.0)


def _sides(shape: tuple[int, ...], share: float, x: float, y: float) -> tuple[float, float, float, float]:
    height, width = shape
    left, top = x * (1 - share) * width, y * (1 - share) * height
    return left, top, left + share * width, top + share * height


def _window(image: np.ndarray, share: float, x: float, y: float) -> np.ndarray:
    box = _sides(image.shape, share, x, y)
    return np.asarray(Image.fromarray(image).resize(image.shape[::-1], Image.Resampling.BICUBIC, box=box))
