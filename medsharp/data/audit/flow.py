"""Colour in an image: blood flow in the tissue, or what is no flow (markers, calipers, text, a tint of all of it)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy import ndimage

from medsharp.images.box import Box
from medsharp.images.decoded import COLOUR_DIFFERENCE
from medsharp.preprocess.morphology import open_by_square
from medsharp.preprocess.overlays import find_drawings
from medsharp.preprocess.region import scan_region

_LARGEST = 2048
"""Longest side that is looked at, in pixels; larger images are reduced, which bounds time and memory."""

_DOMINANT = 30
"""Grey levels by which red or blue must exceed the other two channels of a flow map."""

_SATURATION = 0.5
"""Flow maps use full colours; skin on a body marker and tinted screens are paler."""

_TINTED = 0.5
"""Share of coloured pixels among the lit ones from which on the whole image may be a chroma map."""

_MAP_SPREAD = 14.0
"""Grey levels by which the colour of one grey may vary in a chroma map: it is a table, blurred by JPEG at most."""

_DARK = 12
_STROKE = 2.5
"""Pixels of an image whose longer side is 256: what is thinner is a line or a letter, not flow."""

_SMEAR = 4.0
"""Pixels around a letter, for a longer side of 256, that JPEG may colour."""

_CORNER = 0.10
"""A marker stands this near to two edges, as a share of the side ..."""

_MARKER = 0.42
"""... and is no larger than this; 80 x 78 pixels on a copy of 256 are 31 %."""

_EDGE = 0.06
"""Even surfaces this near to one edge are graphics too: no flow is even."""

_EVEN = 0.5
"""Share of even pixels from which on a surface was drawn and not measured."""

_EVEN_IN_CORNER = 0.2
"""The same in a corner, where small markers are more edge than surface; of measured flow it is about 0."""

_BAR = 0.07
"""Width of a colour bar, at most, as a share of the side; it is three times as long at least."""

_RING = 0.25
"""Share of lit pixels around flow, at least: elsewhere there is no tissue for blood to flow in."""


@dataclass(frozen=True)
class Colour:
    """What is coloured in an image, as shares of its pixels.

    Attributes:
        flow: Red or blue surfaces inside the tissue.
        coloured: All coloured pixels; with a tint, those that differ from it.
        tinted: Whether all of the image is shown in a chroma map, such as sepia.
    """

    flow: float
    coloured: float
    tinted: bool


def measure_colour(rgb: np.ndarray) -> Colour:
    """Tell blood flow from other colour.

    A chroma map is taken away first: there, colour is a function of grey. Flow is what remains that is red or blue, as
    saturated as flow maps are, and no stroke; coloured surfaces that belong together are then judged by their place.
    Body markers stand in a corner of the image or of the scan, colour bars at its side, tinted panels at its edge, and
    none of them counts, nor does what has no lit tissue around it. Lengths are shares of the longer side, so that an
    image of more than `_LARGEST` pixels can be reduced.

    Args:
        rgb: uint8 [H, W, 3].
    """
    rgb = _reduced(rgb)
    high, low = rgb.max(axis=-1), rgb.min(axis=-1)
    lit = high > _DARK
    coloured = (high - low) > COLOUR_DIFFERENCE  # bool [H, W]
    tinted = bool(coloured[lit].mean() > _TINTED) if lit.any() else False
    values = rgb.astype(np.int16)
    if tinted:
        plain = _without_chroma_map(values)
        if plain is None:
            tinted = False
        else:
            values = plain
            high, low = values.max(axis=-1), values.min(axis=-1)
            coloured = (high - low) > 2 * COLOUR_DIFFERENCE  # of the map's table, whose steps are not exact
    flow = _is_flow(values)
    if not flow.any():
        return Colour(0.0, float(coloured.mean()), tinted)
    return Colour(_flow_area(rgb, flow, coloured) / flow.size, float(coloured.mean()), tinted)


def _reduced(rgb: np.ndarray) -> np.ndarray:
    """Return uint8 [h, w, 3] of which no side exceeds `_LARGEST`; what does not is returned as it is."""
    factor = math.ceil(max(rgb.shape) / _LARGEST)
    if factor == 1:
        return rgb
    rows = 16 * factor  # strips, as Pillow holds four bytes a pixel
    strips = (rgb[top : top + rows] for top in range(0, len(rgb), rows))
    return np.concatenate([np.asarray(Image.fromarray(strip).reduce(factor)) for strip in strips])


def _without_chroma_map(values: np.ndarray) -> np.ndarray | None:
    """Return int16 [H, W, 3] without a tint, or None where colour is not a function of grey."""
    grey = (values @ np.array([299, 587, 114], dtype=np.int32)) // 1000  # int [H, W]
    levels = (grey // 4).astype(np.intp)  # 64 levels
    chroma = values - grey[..., None].astype(np.int16)
    table = np.zeros((64, 3), dtype=np.int16)
    spread, weight = 0.0, 0
    # Learned where no marker stands, whose own greys would otherwise be taken for the map's.
    middle = np.ones(grey.shape, dtype=bool)
    high, wide = (round(_MARKER * side) for side in grey.shape)
    for rows in (slice(None, high), slice(-high, None)):
        for columns in (slice(None, wide), slice(-wide, None)):
            middle[rows, columns] = False
    for level in np.unique(levels):
        own = chroma[(levels == level) & middle]
        if not len(own):
            continue
        table[level] = np.median(own, axis=0)
        if level * 4 > _DARK:
            # The median, as flow and drawings over the map are few.
            spread += float(np.median(np.abs(own - table[level]).max(axis=-1))) * len(own)
            weight += len(own)
    if not weight or spread / weight > _MAP_SPREAD / 2:
        return None
    return np.asarray(np.clip(values - table[levels], 0, 255))


def _is_flow(values: np.ndarray) -> np.ndarray:
    red, green, blue = values[..., 0], values[..., 1], values[..., 2]
    reddish = np.minimum(red - green, red - blue) > _DOMINANT
    bluish = np.minimum(blue - red, blue - green) > _DOMINANT
    high, low = values.max(axis=-1), values.min(axis=-1)
    return np.asarray((reddish | bluish) & (high - low >= _SATURATION * high))


def _flow_area(rgb: np.ndarray, flow: np.ndarray, coloured: np.ndarray) -> int:
    """Count pixels of flow in surfaces that stand where tissue is."""
    height, width = flow.shape
    scale = max(height, width) / 256
    thick = max(2, math.ceil(_STROKE * scale))
    flow = open_by_square(flow, thick)
    if not flow.any():
        return 0
    surfaces = open_by_square(coloured, thick)
    # JPEG spreads the colour of letters and calipers to surfaces around them.
    drawings = find_drawings(rgb.max(axis=-1))
    flow &= ~ndimage.binary_dilation(drawings.text | drawings.calipers, iterations=math.ceil(_SMEAR * scale))
    # A marker has several parts and a black outline, and flow has gaps.
    reach = max(1, round(3 * scale))
    joined = ndimage.binary_dilation(surfaces, iterations=reach)
    parts, count = ndimage.label(joined)
    grey = np.asarray(rgb.max(axis=-1))
    frames = [Box(0, 0, height, width), scan_region(np.where(coloured, 0, grey))]
    graphics: list[Box] = []
    candidates: list[_Surface] = []
    for number, window in enumerate(ndimage.find_objects(parts, count), start=1):
        own = parts[window] == number
        blood = flow[window] & own
        if not blood.any():
            continue
        surface = _surface(rgb[window].astype(np.int16), blood, surfaces[window] & own, window)
        if _is_graphic(surface, frames):
            graphics.append(surface.box)
        elif _amid_tissue(grey, coloured, surface.box, reach):
            candidates.append(surface)
    # A marker's probe stands apart from its breasts, further from the corner.
    for graphic in graphics:
        candidates = [one for one in candidates if not _completes(one, graphic, frames[0])]
    return sum(one.flow for one in candidates)


@dataclass(frozen=True)
class _Surface:
    """Coloured pixels that belong together: their box, those of flow, whether they are even, and of both colours."""

    box: Box
    flow: int
    even: float
    mixed: bool


def _surface(values: np.ndarray, blood: np.ndarray, surface: np.ndarray, window: tuple[slice, ...]) -> _Surface:
    rows, columns = np.flatnonzero((surface | blood).any(axis=1)), np.flatnonzero((surface | blood).any(axis=0))
    top, left = window[0].start, window[1].start
    box = Box(top + int(rows[0]), left + int(columns[0]), top + int(rows[-1]) + 1, left + int(columns[-1]) + 1)
    red = float((values[..., 0] > values[..., 2])[blood].mean())
    return _Surface(box, int(blood.sum()), _evenness(values, blood), 0.15 < red < 0.85)


def _is_graphic(surface: _Surface, frames: list[Box]) -> bool:
    box, even = surface.box, surface.even >= _EVEN
    drawn = surface.even >= _EVEN_IN_CORNER
    for frame in frames:
        gap_y = min(box.top - frame.top, frame.bottom - box.bottom) / max(1, frame.height)
        gap_x = min(box.left - frame.left, frame.right - box.right) / max(1, frame.width)
        high, wide = box.height / max(1, frame.height), box.width / max(1, frame.width)
        if min(gap_y, gap_x) < -_CORNER:
            continue  # mostly outside of this frame, which the whole image never is
        compact = max(high, wide) <= _MARKER
        in_corner = max(gap_y, gap_x) <= (1.5 * _CORNER if drawn else _CORNER)
        at_the_edge = min(gap_y, gap_x) <= _EDGE and even
        if compact and ((in_corner and (drawn or not surface.mixed)) or at_the_edge):
            return True
        if (wide <= _BAR and box.height >= 3 * box.width and gap_x <= 1.5 * _CORNER) or (
            high <= _BAR and box.width >= 3 * box.height and gap_y <= 1.5 * _CORNER
        ):
            return True
        # A tinted panel or background of the screen: even, and as long as a side.
        if max(high, wide) > 0.8 and min(gap_y, gap_x) <= 0.02 and even:
            return True
    return False


def _completes(surface: _Surface, graphic: Box, frame: Box) -> bool:
    """Whether an even surface and a graphic are together no larger than a marker."""
    box = surface.box
    height = max(box.bottom, graphic.bottom) - min(box.top, graphic.top)
    width = max(box.right, graphic.right) - min(box.left, graphic.left)
    return surface.even >= _EVEN_IN_CORNER and height <= _MARKER * frame.height and width <= _MARKER * frame.width


def _evenness(values: np.ndarray, own: np.ndarray) -> float:
    """Return the share of own pixels inside a surface that hardly differ from their neighbours."""
    inside = ndimage.binary_erosion(own)
    if not inside.any():
        return 0.0
    spread = np.zeros(own.shape, dtype=np.int16)
    for channel in range(3):
        plane = values[..., channel]
        spread = np.maximum(spread, ndimage.maximum_filter(plane, 3) - ndimage.minimum_filter(plane, 3))
    return float((spread[inside] <= 4).mean())


def _amid_tissue(grey: np.ndarray, coloured: np.ndarray, box: Box, reach: int) -> bool:
    more = 2 * reach + 1
    rows = slice(max(0, box.top - more), box.bottom + more)
    columns = slice(max(0, box.left - more), box.right + more)
    around = ~coloured[rows, columns]
    around[box.top - rows.start : box.bottom - rows.start, box.left - columns.start : box.right - columns.start] = False
    return bool(around.any()) and float((grey[rows, columns][around] > _DARK).mean()) >= _RING
