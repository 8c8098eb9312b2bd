"""What people and machines write on images: text, body marker, the vendor's banner; and grey patches in their place."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from medsharp.robustness.corruptions.marks import WHITE, Marks, Sides, font_of

_TEXTS = (
    "RT BREAST 10H",
    "2.1 x 1.4 cm",
    "LT UOQ RAD",
    "L12-5  38 mm",
    "GN 62  DR 70",
    "FN 3 CM",
    "AX",
    "MI 0.9 TIS 0.2",
)
# Names that no maker has.
_VENDORS = ("SONOVISTA X7", "ECHOLINE 500", "MAMMOSON PRO")
_EDGE = 0.04
_BLACK, _DARK, _LIGHT = (0, 255), (24, 255), (200, 255)

Draw = Callable[..., Marks]


def marked(draw: Draw) -> Callable[..., np.ndarray]:
    """Return the corruption that lays on the marks which `draw` makes."""

    def apply(image: np.ndarray, rng: np.random.Generator, **level: Any) -> np.ndarray:
        return draw(image, rng, **level).on(image)

    return apply


def patched(draw: Draw) -> Callable[..., np.ndarray]:
    """Return the control of `marked`: flat patches of the same area, place and mean grey level."""

    def apply(image: np.ndarray, rng: np.random.Generator, **level: Any) -> np.ndarray:
        return draw(image, rng, **level).patches_on(image)

    return apply


def burned_in_text(
    image: np.ndarray, rng: np.random.Generator, *, lines: int, size: float, lesion: np.ndarray | None = None
) -> Marks:
    """Type lines of text into a corner of the image; where the lesion is known, into one that has least of it.

    Args:
        image: uint8 [H, W].
        rng: Draws what and where.
        lines: How many.
        size: Of the letters, over the shorter side of the image.
        lesion: bool [H, W].
    """
    marks, (height, width) = Marks.blank(image.shape), image.shape
    font = font_of(max(6, round(size * min(image.shape))))
    texts = [_TEXTS[place] for place in rng.permutation(len(_TEXTS))[:lines]]
    corners = [(x, y) for x in (_EDGE, 1 - _EDGE) for y in (_EDGE, 1 - _EDGE)]
    order = [corners[number] for number in rng.permutation(len(corners))]
    across, down = order[0] if lesion is None else min(order, key=lambda corner: _lesion_at(lesion, *corner))
    # The first line stays at the edge; the others are added towards the middle.
    text = "\n".join(texts if down < 0.5 else texts[::-1])
    draw = marks.pen()
    left, top, right, bottom = draw.multiline_textbbox((0, 0), text, font=font, spacing=2)
    x = round(across * max(0, width - (right - left)))
    y = round(down * max(0, height - (bottom - top)))
    draw.multiline_text((x - left, y - top), text, fill=WHITE, font=font, spacing=2)
    marks.patches.append(("rectangle", (x, y, x + right - left - 1, y + bottom - top - 1)))
    return marks


def _lesion_at(lesion: np.ndarray, x: float, y: float) -> int:
    """Count the pixels of a lesion in the corner, a quarter of the image, that text at its greatest takes."""
    height, width = lesion.shape
    rows = slice(0, height // 2) if y < 0.5 else slice(height // 2, None)
    return int(lesion[rows, slice(0, width // 2) if x < 0.5 else slice(width // 2, None)].sum())


def body_marker(image: np.ndarray, rng: np.random.Generator, *, size: float) -> Marks:
    """Draw the pictogram of a breast with the probe on it, in a lower corner.

    Args:
        image: uint8 [H, W].
        rng: Draws the corner and the place of the probe.
        size: Radius over the shorter side of the image.
    """
    marks, scale = Marks.blank(image.shape), min(image.shape)
    draw, (height, width) = marks.pen(), image.shape
    radius, line = size * scale, max(1, round(scale / 200))
    x = radius * 1.3 if rng.random() < 0.5 else width - radius * 1.3
    y = height - radius * 1.3
    draw.ellipse(_square(x, y, radius), fill=_BLACK, outline=WHITE, width=line)
    draw.ellipse(_square(x, y, max(1.0, 0.15 * radius)), outline=WHITE, width=line)
    angle, away = rng.uniform(0, 2 * math.pi), rng.uniform(0.45, 0.75) * radius
    spot, half = (x + away * math.cos(angle), y + away * math.sin(angle)), 0.35 * radius
    turned = rng.uniform(0, math.pi)
    end = (half * math.cos(turned), half * math.sin(turned))
    draw.line((spot[0] - end[0], spot[1] - end[1], spot[0] + end[0], spot[1] + end[1]), fill=WHITE, width=2 * line)
    marks.patches.append(("ellipse", _square(x, y, radius)))
    return marks


def vendor_banner(image: np.ndarray, rng: np.random.Generator, *, height: float) -> Marks:
    """Cover the top by a banner with the maker's name, and draw a grey scale and a ruler at the sides.

    Args:
        image: uint8 [H, W].
        rng: Draws the name.
        height: Of the banner, over that of the image.
    """
    marks, (tall, width) = Marks.blank(image.shape), image.shape
    draw, bar, line = marks.pen(), max(4, round(height * tall)), max(1, round(min(image.shape) / 256))
    name = _VENDORS[int(rng.integers(len(_VENDORS)))]
    draw.rectangle((0, 0, width, bar), fill=_DARK)
    draw.line((0, bar, width, bar), fill=_LIGHT, width=line)
    draw.text((0.02 * width, 0.1 * bar), name, fill=WHITE, font=font_of(max(6, round(0.7 * bar))))
    length = round(min(0.4, 4 * height) * tall)
    above = bar + 0.05 * tall
    for row in range(length):
        level = round(255 * (1 - row / length))
        draw.line((0.95 * width, above + row, 0.98 * width, above + row), fill=(level, 255))
    ticks, reach = [bar + tick * (tall - bar) / 6 for tick in range(1, 6)], (0.02 + 0.2 * height) * width
    for y in ticks:
        draw.line((0, y, reach, y), fill=_LIGHT, width=line)
    marks.patches.append(("rectangle", (0, 0, width, bar)))
    marks.patches.append(("rectangle", (0.95 * width, above, 0.98 * width, above + length - 1)))
    marks.patches.append(("rectangle", (0, ticks[0], reach, ticks[-1])))
    return marks


def _square(x: float, y: float, half: float) -> Sides:
    return (x - half, y - half, x + half, y + half)
