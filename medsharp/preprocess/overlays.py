"""The detector of drawings: calipers, dotted lines, text, rulers and coloured graphics, and the scan without them.

The audit counts what is found and flags images by it; `inpaint` replaces its pixels. docs/audit.md holds its rates,
and `medsharp bench drawings` measures them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from medsharp.preprocess.morphology import open_by_square

_REFERENCE = 256
"""Sizes below are pixels of an image whose longer side is this."""

_LARGEST = 1600
"""Larger images are reduced first: no screen has more, and the search would take minutes."""

_STROKE = 3.0
"""Graphics are strokes at most this thick."""

_CONTRASTS = (50, 85, 130)
"""Grey levels by which a stroke is brighter than its surroundings; letters that melt at one are apart at the next."""

_BRIGHT = 100
"""Letters are at least this bright."""

_LETTER = (4.0, 18.0)
"""Height of letters, least and greatest."""

_LETTERS = 3
"""So many letters in a line are replaced ..."""

SURE_LETTERS = 4
"""... and so many are a finding: a bright speck that is replaced costs little, one that is reported costs trust."""

_EVEN = 20
"""Grey levels by which the brightest pixels of neighbouring letters differ at most; those of speckle differ more."""

_ARMS = (3, 4, 5, 6, 7, 8, 10, 12, 14, 17, 20, 24, 28, 34, 40)
"""Pixels from the centre of a caliper to its end that are tried."""

_LONGEST_ARM = 7.0
_CALIPER_BRIGHT = 80
_CALIPER_CONTRAST = 25
"""Grey levels by which the four arms are brighter than three of the quadrants between them, and than three ends."""

_CALIPER_SPREAD = 110
"""Grey levels between the brightest and the darkest pixel of the arms: drawn in one grey, then reduced or smoothed."""

_SURE_CALIPER = 32
"""Contrast from which on one caliper without a second is a finding."""

_MOST_CALIPERS = 16
"""Nobody draws more; so many crosses are texture."""

_TICKS = 7
"""So many ticks at equal distances, as bright as each other, are a ruler."""

_PLUS = ((0, 1), (0, -1), (1, 0), (-1, 0))
_DIAGONAL = ((1, 1), (1, -1), (-1, 1), (-1, -1))


@dataclass(frozen=True)
class Drawings:
    """What was drawn onto an image.

    Attributes:
        calipers: bool [H, W], measuring marks and the dotted lines between them.
        text: bool [H, W], letters in a line.
        rulers: bool [H, W], ticks at equal distances.
        coloured: bool [H, W], coloured strokes.
        crosses: Calipers that are a finding: two, or one that stands out.
        letters: Letters of the longest line, if they are a finding.
        ticks: Of the longest ruler.
    """

    calipers: np.ndarray
    text: np.ndarray
    rulers: np.ndarray
    coloured: np.ndarray
    crosses: int
    letters: int
    ticks: int


def find_drawings(pixels: np.ndarray, coloured: np.ndarray | None = None) -> Drawings:
    """Find what a scanner or a person has drawn onto the scan.

    A stroke is what a morphological opening removes (white top-hat). Echoes of fasciae are strokes too, but no letters:
    text is a line of strokes of like height and brightness; a ruler is a column of ticks at equal distances; a caliper
    is four arms of one grey, + or x, that are brighter than what lies between them and that end. Coloured strokes are
    graphics whatever their shape; coloured surfaces are not looked at.

    Args:
        pixels: uint8 [H, W]; of a coloured image its brightest channel shows coloured drawings best.
        coloured: bool [H, W], the pixels that were coloured.
    """
    from scipy import ndimage

    if max(pixels.shape) > _LARGEST:
        return _find_in_reduced(pixels, coloured)
    scale = max(max(pixels.shape) / _REFERENCE, 0.5)
    width = _odd(2 * _STROKE * scale)
    # An opening never exceeds the image, so that nothing wraps round.
    hat = pixels - ndimage.maximum_filter(ndimage.minimum_filter(pixels, width), width)  # uint8 [H, W]
    text, letters, rulers, ticks = _text_and_rulers(hat, pixels, scale)
    calipers = _find_calipers(hat, pixels, text, scale)
    best = max((caliper.contrast for caliper in calipers), default=0.0)
    sure = len(calipers) >= 2 or best >= _SURE_CALIPER
    strokes = np.zeros(pixels.shape, dtype=bool)
    if coloured is not None:
        strokes = coloured & ~open_by_square(coloured, width)
    return Drawings(
        _caliper_pixels(calipers, hat, scale),
        text,
        rulers,
        strokes,
        len(calipers) if sure else 0,
        letters if letters >= SURE_LETTERS else 0,
        ticks,
    )


def _find_in_reduced(pixels: np.ndarray, coloured: np.ndarray | None) -> Drawings:
    factor = math.ceil(max(pixels.shape) / _LARGEST)
    small = np.asarray(Image.fromarray(pixels).reduce(factor))
    few = None if coloured is None else np.asarray(Image.fromarray(coloured.astype(np.uint8) * 255).reduce(factor)) > 0
    found = find_drawings(small, few)

    def enlarge(mask: np.ndarray) -> np.ndarray:
        return mask.repeat(factor, axis=0).repeat(factor, axis=1)[: pixels.shape[0], : pixels.shape[1]]

    return replace(
        found,
        calipers=enlarge(found.calipers),
        text=enlarge(found.text),
        rulers=enlarge(found.rulers),
        coloured=enlarge(found.coloured),
    )


def find_overlays(pixels: np.ndarray, coloured: np.ndarray | None = None) -> np.ndarray:
    """Return the pixels of all drawings, with the soft edges of their strokes.

    Args:
        pixels: uint8 [H, W].
        coloured: bool [H, W], the pixels that were coloured.

    Returns:
        bool [H, W].
    """
    from scipy import ndimage

    scale = max(max(pixels.shape) / _REFERENCE, 0.5)
    drawings = find_drawings(pixels, coloured)
    found = drawings.calipers | drawings.text | drawings.rulers | drawings.coloured
    # The soft edge of a stroke belongs to it.
    return np.asarray(ndimage.binary_dilation(found, np.ones((3, 3), dtype=bool), iterations=max(1, round(scale))))


def remove_overlays(pixels: np.ndarray, coloured: np.ndarray | None = None) -> np.ndarray:
    """Replace drawings by what surrounds them; all other pixels stay as they are.

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


def _text_and_rulers(hat: np.ndarray, pixels: np.ndarray, scale: float) -> tuple[np.ndarray, int, np.ndarray, int]:
    """Return the pixels of text and the letters of its longest line, and the same of rulers and their ticks."""
    from scipy import ndimage

    text, rulers = np.zeros(pixels.shape, dtype=bool), np.zeros(pixels.shape, dtype=bool)
    letters = ticks = 0
    low, high = (size * scale for size in _LETTER)
    for contrast in _CONTRASTS:
        labels, count = ndimage.label((hat >= contrast) & (pixels >= _BRIGHT), np.ones((3, 3), dtype=bool))
        if not count:
            break
        slices = ndimage.find_objects(labels)
        drawn = labels > 0
        peaks = np.zeros(count + 1, dtype=np.uint8)
        np.maximum.at(peaks, labels[drawn], pixels[drawn])
        strokes = [
            _Letter(number, rows.start, columns.start, rows.stop, columns.stop, float(peak))
            for number, ((rows, columns), peak) in enumerate(zip(slices, peaks[1:], strict=True), start=1)
        ]
        of_letters = [one for one in strokes if low <= one.height <= high and one.right - one.left <= 2.5 * high]
        for line in _lines(of_letters):
            if len(line) >= _LETTERS:
                letters = max(letters, len(line))
                _mark(text, labels, slices, line)
        if contrast == _CONTRASTS[0]:
            flat = [one for one in strokes if one.height <= low and one.right - one.left <= high]
            for column in _rulers(flat, scale):
                ticks = max(ticks, len(column))
                _mark(rulers, labels, slices, column)
    return text, letters, rulers, ticks


def _mark(mask: np.ndarray, labels: np.ndarray, slices: Sequence[tuple[slice, ...]], strokes: list[_Letter]) -> None:
    for stroke in strokes:
        window = slices[stroke.number - 1]
        mask[window] |= labels[window] == stroke.number


def _lines(letters: list[_Letter]) -> list[list[_Letter]]:
    lines: list[list[_Letter]] = []
    open_lines: list[list[_Letter]] = []  # those that a letter this far to the right may still follow
    reach = 1.2 * max((letter.height for letter in letters), default=0)
    for letter in sorted(letters, key=lambda letter: letter.left):
        open_lines = [line for line in open_lines if letter.left - line[-1].right <= reach]
        for line in open_lines:
            if letter.follows(line[-1]):
                line.append(letter)
                break
        else:
            open_lines.append([letter])
            lines.append(open_lines[-1])
    return lines


def _rulers(strokes: list[_Letter], scale: float) -> list[list[_Letter]]:
    """Find strokes that begin at one column and follow each other at equal distances."""
    by_column: dict[int, list[_Letter]] = {}
    for stroke in strokes:
        by_column.setdefault(stroke.left, []).append(stroke)
    found = []
    for column in by_column:
        # An edge that resizing made soft begins a pixel to either side.
        near = sorted((one for x in (column - 1, column, column + 1) for one in by_column.get(x, ())), key=_middle)
        if len(near) < _TICKS:
            continue
        steps = np.diff([_middle(one) for one in near])
        run = [near[0]]
        for stroke, step in zip(near[1:], steps, strict=True):
            first = _middle(run[1]) - _middle(run[0]) if len(run) > 1 else step
            # A tick on bright tissue is missed; the next is two steps away.
            if (
                first >= 4 * scale
                and min(abs(step - first), abs(step - 2 * first)) <= 1
                and abs(stroke.peak - run[0].peak) <= _EVEN
            ):
                run.append(stroke)
                continue
            if len(run) >= _TICKS:
                found.append(run)
            run = [stroke]
        if len(run) >= _TICKS:
            found.append(run)
    return found


def _middle(stroke: _Letter) -> float:
    return (stroke.top + stroke.bottom) / 2


@dataclass(frozen=True)
class _Caliper:
    row: int
    column: int
    arm: int
    contrast: float


def _find_calipers(hat: np.ndarray, pixels: np.ndarray, text: np.ndarray, scale: float) -> list[_Caliper]:
    """Find + and x: four arms of one grey, brighter than what lies between them and beyond their ends."""
    longest = max(5, round(_LONGEST_ARM * scale))
    margin = longest + max(2, longest // 3) + 1
    padded = np.pad(pixels, margin)
    flat, stride = padded.ravel(), padded.shape[1]
    # A numeral beside a caliper is text of one letter; letters in a line are no calipers.
    rows, columns = np.nonzero((hat >= _CALIPER_CONTRAST) & (pixels >= _CALIPER_BRIGHT) & ~text)
    found: list[_Caliper] = []
    plus, diagonal = ([y * stride + x for y, x in steps] for steps in (_PLUS, _DIAGONAL))
    for along, between in ((plus, diagonal), (diagonal, plus)):
        at = (rows + margin) * stride + columns + margin  # [n], candidates for centres
        low = flat[at].astype(np.int16)
        high = low
        for arm in range(1, longest + 1):
            ends = np.stack([flat[at + step * arm] for step in along])  # [4, n]
            low, high = np.minimum(low, ends.min(axis=0)), np.maximum(high, ends.max(axis=0))
            even = (low >= _CALIPER_BRIGHT) & (high - low <= _CALIPER_SPREAD)
            at, low, high = at[even], low[even], high[even]
            if not len(at):
                break
            if arm in _ARMS:
                contrast = _contrast(flat, at, low, along, between, arm)
                found += [
                    _Caliper(int(at[i] // stride - margin), int(at[i] % stride - margin), arm, float(contrast[i]))
                    for i in np.flatnonzero(contrast >= _CALIPER_CONTRAST)
                ]
    calipers: list[_Caliper] = []
    for caliper in sorted(found, key=lambda caliper: -caliper.contrast):
        if all(_apart(caliper, other) for other in calipers):
            calipers.append(caliper)
            if len(calipers) > _MOST_CALIPERS:
                return []
    return calipers


def _contrast(
    flat: np.ndarray, at: np.ndarray, low: np.ndarray, along: Sequence[int], between: Sequence[int], arm: int
) -> np.ndarray:
    """Return by how much arms [n] exceed the second brightest of the quadrants between them, and of their ends.

    The second brightest, as a numeral may stand in one quadrant, and a dotted line may begin at one end.
    """
    outer = range(max(2, (arm + 1) // 2), arm + 1)
    sums = [sum(flat[at + step * k].astype(np.int16) for k in outer) for step in between]
    quadrants = np.stack(sums) / len(outer)  # [4, n], means along the diagonals between the arms
    beyond = np.stack([flat[at + step * (arm + max(2, arm // 3))] for step in along])  # [4, n]
    return np.asarray(np.minimum(low - _second(quadrants), 1.5 * (low - _second(beyond).astype(np.int16))))


def _second(values: np.ndarray) -> np.ndarray:
    """Return the second largest of each column of [4, n]."""
    one, two, three, four = values
    pairs = np.minimum(np.maximum(one, two), np.maximum(three, four))
    return np.maximum(pairs, np.maximum(np.minimum(one, two), np.minimum(three, four)))


def _apart(one: _Caliper, other: _Caliper) -> bool:
    return max(abs(one.row - other.row), abs(one.column - other.column)) > max(one.arm, other.arm)


def _caliper_pixels(calipers: Sequence[_Caliper], hat: np.ndarray, scale: float) -> np.ndarray:
    """Return the strokes that belong to calipers, and dots on the lines between them."""
    from scipy import ndimage

    mask = np.zeros(hat.shape, dtype=bool)
    for caliper in calipers:
        reach = caliper.arm + max(2, caliper.arm // 3)
        top, left = max(0, caliper.row - reach), max(0, caliper.column - reach)
        window = slice(top, caliper.row + reach + 1), slice(left, caliper.column + reach + 1)
        strokes = hat[window] >= max(_CALIPER_CONTRAST, caliper.contrast / 2)  # speckle beside it is fainter
        centre = np.zeros(strokes.shape, dtype=bool)
        centre[caliper.row - top, caliper.column - left] = True
        mask[window] |= ndimage.binary_propagation(centre, mask=strokes | centre, structure=np.ones((3, 3), dtype=bool))
    for number, one in enumerate(calipers):
        for other in calipers[number + 1 :]:
            _mark_dots(mask, one, other, hat, scale)
    return mask


def _mark_dots(mask: np.ndarray, one: _Caliper, other: _Caliper, hat: np.ndarray, scale: float) -> None:
    """Mark the dots of a line between two calipers, in place, if there are as many as a dotted line has."""
    length = float(np.hypot(one.row - other.row, one.column - other.column))
    share = np.arange(one.arm, length - other.arm) / max(length, 1.0)
    rows = np.rint(one.row + (other.row - one.row) * share).astype(int)  # [n], a pixel apart along the line
    columns = np.rint(one.column + (other.column - one.column) * share).astype(int)
    # Across the line a pixel of tolerance; along it the gaps are what tells dots from a fascia.
    steep = abs(one.row - other.row) > abs(one.column - other.column)
    across = [(0, -1), (0, 0), (0, 1)] if steep else [(-1, 0), (0, 0), (1, 0)]
    places = [
        (np.clip(rows + down, 0, hat.shape[0] - 1), np.clip(columns + right, 0, hat.shape[1] - 1))
        for down, right in across
    ]
    bright = np.stack([hat[place] >= _CALIPER_CONTRAST for place in places])  # [3, n]
    dotted = bright.any(axis=0)
    begins = int((np.diff(dotted.astype(np.int8)) == 1).sum())
    if begins >= max(4, len(rows) / (8 * scale)) and dotted.mean() <= 0.85:
        for place, own in zip(places, bright, strict=True):
            mask[place] |= own


def _odd(size: float) -> int:
    return 2 * max(1, round(size / 2)) + 1
