"""How much a scanner or a person has drawn onto an image: text and calipers, counted cheaply by their shape.

`medsharp.preprocess.overlays` answers another question: which pixels to replace. There a bright speck taken for a
letter costs little, and three strokes in a line are enough; here it would be a finding, and five are needed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import find_objects, label, maximum_filter, minimum_filter

_STROKE = 7
"""Pixels: what is thinner than this and brighter than its surroundings is a stroke."""

_CONTRASTS = (50, 85, 130)
"""Grey levels; letters that melt together at one are apart at the next."""

_LEAST_LETTERS = 5
_LETTER_HEIGHTS = (4, 22)
_CROSS_SIDES = (5, 17)
_LEAST_CALIPERS = 2
_JOINED = np.ones((3, 3))


@dataclass(frozen=True)
class Overlays:
    """What was found.

    Attributes:
        letters: Strokes that stand in a row like letters; 0 without text.
        calipers: Small crosses, two at least; 0 without.
    """

    letters: int
    calipers: int


@dataclass(frozen=True)
class _Boxes:
    """Strokes that hang together: int [n] each, ends exclusive."""

    top: np.ndarray
    bottom: np.ndarray
    left: np.ndarray
    right: np.ndarray

    @property
    def height(self) -> np.ndarray:
        return self.bottom - self.top

    @property
    def width(self) -> np.ndarray:
        return self.right - self.left


def count_overlays(pixels: np.ndarray) -> Overlays:
    """Count the letters of burned-in text, and calipers.

    Text is a row of at least five bright strokes of one height on one line, close together. A caliper is a small
    upright or slanted cross that touches nothing; one alone is not counted, as they come in pairs. What lies on bright
    tissue is missed: an image without a finding may have overlays all the same.

    Args:
        pixels: uint8 [H, W].
    """
    opened = maximum_filter(minimum_filter(pixels, _STROKE), _STROKE)
    strokes = pixels - opened  # opening never exceeds the image, so that nothing wraps round
    letters = calipers = 0
    for contrast in _CONTRASTS:
        marks, count = label(strokes > contrast, _JOINED)
        if count:
            slices = find_objects(marks)
            ends = np.array([[box[0].start, box[0].stop, box[1].start, box[1].stop] for box in slices])
            boxes = _Boxes(*ends.T)
            line = _letters(boxes)
            letters = max(letters, len(line))
            calipers = max(calipers, _calipers(marks, boxes, line))
    return Overlays(letters, calipers if calipers >= _LEAST_CALIPERS else 0)


def _letters(boxes: _Boxes) -> set[int]:
    low, high = _LETTER_HEIGHTS
    fits = (boxes.height >= low) & (boxes.height <= high) & (boxes.width <= 1.5 * boxes.height)
    order = np.flatnonzero(fits)
    order = order[np.argsort(boxes.left[order], kind="stable")]
    taken: set[int] = set()
    for place, first in enumerate(order.tolist()):
        if first in taken:
            continue
        line, end = [first], boxes.right[first]
        for other in order[place + 1 :].tolist():
            if boxes.left[other] > end + 1.2 * boxes.height[first]:
                break
            level = (
                abs(boxes.top[other] - boxes.top[first]) <= 1 and abs(boxes.bottom[other] - boxes.bottom[first]) <= 1
            )
            if level and boxes.left[other] >= end - 1:
                line.append(other)
                end = boxes.right[other]
        if len(line) >= _LEAST_LETTERS:
            taken |= set(line)
    return taken


def _calipers(marks: np.ndarray, boxes: _Boxes, letters: set[int]) -> int:
    low, high = _CROSS_SIDES
    small = (boxes.height >= low) & (boxes.height <= high) & (boxes.width >= low) & (boxes.width <= high)
    square = np.abs(boxes.height - boxes.width) <= 2
    crosses = 0
    for number in np.flatnonzero(small & square).tolist():
        if number in letters:
            continue
        box = slice(boxes.top[number], boxes.bottom[number]), slice(boxes.left[number], boxes.right[number])
        crosses += _is_cross(marks[box] == number + 1)
    return crosses


def _is_cross(mark: np.ndarray) -> bool:
    """Whether two thin lines cross in the middle of a box from side to side, and nothing else is there."""
    height, width = mark.shape
    y, x = np.mgrid[:height, :width]
    down, right = y - (height - 1) / 2, x - (width - 1) / 2
    slope = height / width
    for arms in ((np.abs(down), np.abs(right)), (np.abs(down - slope * right), np.abs(down + slope * right))):
        first, second = (distance < 1.0 for distance in arms)
        beside = (arms[0] > 1.5) & (arms[1] > 1.5)
        if mark[first].mean() > 0.8 and mark[second].mean() > 0.8 and mark[beside].mean() < 0.1:
            return True
    return False
