"""Calipers and text burned into the scan: where they are, and the scan without them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_REFERENCE = 256
"""Sizes below are pixels of an image whose longer side is this."""

_STROKE = 3.0
"""Graphics are strokes at most this thick."""

_CONTRAST = 60
"""Grey levels by which a stroke is brighter than what surrounds it."""

_BRIGHT = 120
"""Graphics are at least this bright."""

_LETTER = (4.0, 18.0)
"""Height of letters and calipers, least and greatest."""

_LETTERS = 3
"""So many letters in a line are text."""

_EVEN = 20
"""Grey levels by which the brightest pixels of neighbouring letters differ at most; those of speckle differ more."""


def find_overlays(pixels: np.ndarray, coloured: np.ndarray | None = None) -> np.ndarray:
    """Find burned-in calipers and text.

    A stroke is what a morphological opening removes (white top-hat) and is much brighter than what surrounds it. Echoes
    of fasciae are so too, but they are no letters: text is letters of like height side by side, a caliper is a stroke
    whose vertical and horizontal arms cross. Coloured strokes are graphics whatever their shape; coloured surfaces are
    blood flow.

    Args:
        pixels: uint8 [H, W].
        coloured: bool [H, W], the pixels that were coloured.

    Returns:
        bool [H, W].
    """
    from scipy import ndimage

    scale = max(max(pixels.shape) / _REFERENCE, 0.5)
    width = _odd(2 * _STROKE * scale)
    hat = ndimage.white_tophat(pixels.astype(np.int16), size=width)
    strokes = (hat >= _CONTRAST) & (pixels >= _BRIGHT)
    found = _text(strokes, pixels, scale) | _crosses(hat, pixels, scale)
    if coloured is not None:
        found |= coloured & ~ndimage.binary_opening(coloured, np.ones((width, width), dtype=bool))
    # The soft edge of a stroke belongs to it.
    return np.asarray(ndimage.binary_dilation(found, np.ones((3, 3), dtype=bool), iterations=max(1, round(scale))))


def remove_overlays(pixels: np.ndarray, coloured: np.ndarray | None = None) -> np.ndarray:
    """Replace burned-in calipers and text by what surrounds them; all other pixels stay as they are.

    Each pixel becomes the mean of the tissue around it, weighted by a Gaussian as wide as a stroke (normalised
    convolution, Knutsson and Westin, CVPR 1993), or by ever wider ones where no tissue is that near.

    Args:
        pixels: uint8 [H, W].
        coloured: bool [H, W], the pixels that were coloured.

    Returns:
        uint8 [H, W].
    """
    from scipy import ndimage

    found = find_overlays(pixels, coloured)
    filled, missing = pixels.copy(), found
    sigma = max(1.0, _STROKE * max(pixels.shape) / _REFERENCE / 2)
    known = (~found).astype(np.float32)
    while missing.any():
        weight = ndimage.gaussian_filter(known, sigma, truncate=3.0)
        mean = ndimage.gaussian_filter(known * pixels, sigma, truncate=3.0) / np.maximum(weight, 1e-6)
        near = missing & (weight > 0.02)
        filled[near] = np.clip(np.rint(mean[near]), 0, 255)
        missing = missing & ~near
        if sigma > max(pixels.shape):
            break  # there is no tissue at all
        sigma *= 2
    return filled


@dataclass(frozen=True)
class _Letter:
    number: int
    top: int
    left: int
    bottom: int
    right: int
    peak: float

    @property
    def height(self) -> int:
        return self.bottom - self.top

    def follows(self, other: _Letter) -> bool:
        """Whether it stands right of another in the same line, no further than a letter away, and is as bright."""
        near = self.left - other.right <= 1.2 * other.height
        on_the_line = abs(self.bottom - other.bottom) <= 0.25 * other.height + 1
        as_high = abs(self.height - other.height) <= 0.35 * other.height + 1
        return near and on_the_line and as_high and abs(self.peak - other.peak) <= _EVEN


def _text(strokes: np.ndarray, pixels: np.ndarray, scale: float) -> np.ndarray:
    from scipy import ndimage

    labels, count = ndimage.label(strokes, np.ones((3, 3), dtype=bool))
    low, high = (size * scale for size in _LETTER)
    peaks = ndimage.maximum(pixels, labels, np.arange(1, count + 1)) if count else ()
    letters = [
        _Letter(number, rows.start, columns.start, rows.stop, columns.stop, float(peak))
        for number, ((rows, columns), peak) in enumerate(zip(ndimage.find_objects(labels), peaks, strict=True), start=1)
        if low <= rows.stop - rows.start <= high and columns.stop - columns.start <= 2.5 * high
    ]
    lines = [letter.number for line in _lines(letters) if len(line) >= _LETTERS for letter in line]
    return np.isin(labels, lines)


def _lines(letters: list[_Letter]) -> list[list[_Letter]]:
    lines: list[list[_Letter]] = []
    for letter in sorted(letters, key=lambda letter: letter.left):
        for line in lines:
            if letter.follows(line[-1]):
                line.append(letter)
                break
        else:
            lines.append([letter])
    return lines


def _crosses(hat: np.ndarray, pixels: np.ndarray, scale: float) -> np.ndarray:
    """Find + and x: strokes that go on from a centre in four directions and are dark between them."""
    from scipy import ndimage

    found = np.zeros(hat.shape, dtype=bool)
    arm = max(2, round(2.5 * scale))
    contrast = np.where(pixels >= _BRIGHT, hat, 0)
    for along, between in ((_PLUS, _DIAGONAL), (_DIAGONAL, _PLUS)):
        arms = np.minimum.reduce([_shift(contrast, step, arm) for step in along])
        inner = np.minimum.reduce([_shift(contrast, step, max(1, arm // 2)) for step in along])
        gaps = np.maximum.reduce([_shift(pixels.astype(np.int16), step, arm) for step in between])
        centre = (np.minimum(arms, inner) >= _CONTRAST) & (contrast >= _CONTRAST)
        found |= centre & (pixels.astype(np.int16) - gaps >= _CONTRAST)
    if not found.any():
        return found
    # The whole stroke that the centre belongs to, as far as a caliper reaches.
    reach = ndimage.binary_dilation(found, np.ones((3, 3), dtype=bool), iterations=round(_LETTER[1] * scale / 2))
    strokes = (contrast >= _CONTRAST) & reach
    return np.asarray(ndimage.binary_propagation(found, mask=strokes, structure=np.ones((3, 3), dtype=bool)))


_PLUS = ((0, 1), (0, -1), (1, 0), (-1, 0))
_DIAGONAL = ((1, 1), (1, -1), (-1, 1), (-1, -1))


def _shift(values: np.ndarray, step: tuple[int, int], distance: int) -> np.ndarray:
    """Return what lies `distance` pixels away in a direction; 0 beyond the edge."""
    padded = np.pad(values, distance)
    top, left = distance * (1 + step[0]), distance * (1 + step[1])
    return padded[top : top + values.shape[0], left : left + values.shape[1]]


def _odd(size: float) -> int:
    return 2 * max(1, round(size / 2)) + 1
