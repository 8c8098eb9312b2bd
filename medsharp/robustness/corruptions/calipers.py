"""Measuring crosses: on the lesion, and, as their control, beside it."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image, ImageDraw, ImageFilter
from scipy import ndimage, signal

from medsharp.robustness.corruptions.marks import WHITE, Marks
from medsharp.robustness.corruptions.scan import scan_mask

_TURNS = (0.0, math.pi / 2, math.pi / 4)
"""From the long axis to the line of each pair."""
_GRID, _ROOM = 64, 3
"""Cells a side of the grid on which a place beside the lesion is looked for, and for the arms of crosses."""
Line = tuple[np.ndarray, np.ndarray]
"""The two ends of a pair, each float64 [2], x and y from the point where the pairs meet, in pixels."""


def calipers(
    image: np.ndarray, rng: np.random.Generator, *, pairs: int, arm: float, lesion: np.ndarray | None = None
) -> np.ndarray:
    """Lay measuring crosses, joined by dots, over the lesion: along its long axis, then across, then between.

    The crosses are at the edge of the lesion. Where it is not known, they are around the darkest place near the middle,
    where a lesion usually is, with lengths of chance.

    Args:
        image: uint8 [H, W].
        rng: Draws a tilt and lengths.
        pairs: Of crosses, up to 3.
        arm: Of a cross, over the shorter side of the image.
        lesion: bool [H, W].
    """
    centre, lines = _measured(image, rng, lesion)
    return _drawn(image.shape, centre, lines[:pairs], arm).on(image)


def calipers_off_lesion(
    image: np.ndarray, rng: np.random.Generator, *, pairs: int, arm: float, lesion: np.ndarray | None = None
) -> np.ndarray:
    """Lay the same crosses, as many and as long, where they touch no lesion.

    The place is drawn among those where all three pairs are on the image and off the lesion, and where none is, among
    those where they lie least on it; so it is one place at all severities.

    Args:
        image: uint8 [H, W].
        rng: As in `calipers`; then draws the place.
        pairs: Of crosses, up to 3.
        arm: Of a cross, over the shorter side of the image.
        lesion: bool [H, W]; where it is not known, the place where `calipers` puts the crosses.
    """
    centre, lines = _measured(image, rng, lesion)
    away = _beside(scan_mask(image) < 0.5, centre, lines, lesion, float(rng.random()))
    return _drawn(image.shape, centre + away, lines[:pairs], arm).on(image)


def _measured(image: np.ndarray, rng: np.random.Generator, lesion: np.ndarray | None) -> tuple[np.ndarray, list[Line]]:
    """Return where the pairs meet, and their ends."""
    tilt, halves = rng.uniform(-0.3, 0.3), rng.uniform(0.14, 0.2, len(_TURNS)) * min(image.shape)
    if lesion is None or not lesion.any():
        centre = np.array(_darkest(Image.fromarray(image)))
        directions = [np.array([math.cos(tilt + turn), math.sin(tilt + turn)]) for turn in _TURNS]
        return centre, [(-half * u, half * u) for half, u in zip(halves, directions, strict=True)]
    parts, _ = ndimage.label(lesion)
    rows, columns = np.nonzero(parts == 1 + np.bincount(parts[lesion])[1:].argmax())
    points = np.stack([columns, rows], axis=1).astype(np.float64)  # [P, 2], x and y
    centre = points.mean(axis=0)
    _, axes = np.linalg.eigh(np.cov(points, rowvar=False)) if len(points) > 2 else (None, np.eye(2))
    # A third of the tilt: nobody measures along the very axis.
    start = math.atan2(axes[1, -1], axes[0, -1]) + tilt / 3
    return centre, [_chord(points - centre, start + turn) for turn in _TURNS]


def _chord(points: np.ndarray, angle: float) -> Line:
    """Return the ends of the lesion along a line through its middle; points [P, 2] from there."""
    along = np.array([math.cos(angle), math.sin(angle)])
    across = np.abs(points @ np.array([-along[1], along[0]]))
    places = (points @ along)[across <= max(1.0, float(across.min()))]
    return along * places.min(), along * places.max()


def _drawn(shape: tuple[int, ...], centre: np.ndarray, lines: list[Line], arm: float) -> Marks:
    marks, scale = Marks.blank(shape), min(shape)
    draw, line = marks.pen(), max(1, round(scale / 256))
    for first, last in lines:
        for share in np.linspace(0, 1, 15):
            x, y = centre + first + share * (last - first)
            draw.rectangle((x - 0.3 * line, y - 0.3 * line, x + 0.3 * line, y + 0.3 * line), fill=WHITE)
        for x, y in (centre + first, centre + last):
            _cross(draw, x, y, arm * scale, line)
    return marks


def _cross(draw: ImageDraw.ImageDraw, x: float, y: float, arm: float, line: int) -> None:
    draw.line((x - arm, y, x + arm, y), fill=WHITE, width=line)
    draw.line((x, y - arm, x, y + arm), fill=WHITE, width=line)


def _darkest(picture: Image.Image) -> tuple[float, float]:
    """Return x and y of the darkest place within the middle half of the image."""
    small = picture.resize((32, 32), Image.Resampling.BOX).filter(ImageFilter.GaussianBlur(2))
    middle = np.asarray(small)[8:24, 8:24]
    row, column = np.unravel_index(int(middle.argmin()), middle.shape)
    return (float(column) + 8.5) / 32 * picture.width, (float(row) + 8.5) / 32 * picture.height


def _beside(
    border: np.ndarray, centre: np.ndarray, lines: list[Line], lesion: np.ndarray | None, chance: float
) -> np.ndarray:
    """Return by how much the crosses are moved, float64 [2], x and y.

    The border, bool [H, W], is avoided as the lesion is: marks there change where a scan is found to be.
    """
    scale = np.array(border.shape[::-1]) / _GRID
    # Cells of a grid that ends and dots take, x and y, within a box that has room for the arms.
    dots = np.concatenate([first + np.linspace(0, 1, 65)[:, None] * (last - first) for first, last in lines])
    cells = np.floor((centre + dots) / scale).astype(int)
    low = cells.min(axis=0) - _ROOM
    size = np.minimum(np.ptp(cells, axis=0) + 1 + 2 * _ROOM, _GRID)
    columns, rows = np.minimum(cells - low, size - 1).T
    stencil = np.zeros(size[::-1])
    stencil[rows, columns] = 1
    if lesion is None or not lesion.any():
        taken = np.zeros((_GRID, _GRID), dtype=bool)
        taken[np.clip(rows + low[1], 0, _GRID - 1), np.clip(columns + low[0], 0, _GRID - 1)] = True
        taken = ndimage.binary_fill_holes(ndimage.binary_closing(taken, iterations=_GRID // 8)) | taken
    else:
        taken = _on_grid(lesion)
    taken = _on_grid(border) | ndimage.binary_dilation(taken, np.ones((3, 3)), iterations=_ROOM)
    # On the lesion, at each place of the box on the grid: [65 - h, 65 - w].
    touching = np.rint(signal.correlate(taken.astype(np.float64), stencil, mode="valid", method="fft"))
    free = np.argwhere(touching == touching.min())
    row, column = free[min(int(chance * len(free)), len(free) - 1)]
    # By whole pixels: the crosses are drawn alike.
    return np.rint((np.array([column, row]) - low) * scale)


def _on_grid(area: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(area).convert("L").resize((_GRID, _GRID), Image.Resampling.BOX)) > 0
