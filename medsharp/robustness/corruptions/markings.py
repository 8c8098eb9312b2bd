"""What people and machines write on images: calipers, text, body marker, the vendor's banner."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

_WHITE = 255
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


def calipers(image: np.ndarray, rng: np.random.Generator, *, pairs: int, arm: float) -> np.ndarray:
    """Lay measuring crosses, joined by dots, over the darkest place near the middle, where a lesion usually is.

    Args:
        image: uint8 [H, W].
        rng: Draws lengths and a tilt.
        pairs: Of crosses.
        arm: Of a cross, over the shorter side of the image.
    """
    picture, scale = Image.fromarray(image), min(image.shape)
    draw = ImageDraw.Draw(picture)
    x, y = _darkest(picture)
    tilt = rng.uniform(-0.3, 0.3)
    line = max(1, round(scale / 256))
    for number in range(pairs):
        half = rng.uniform(0.14, 0.2) * scale
        angle = tilt + number * math.pi / max(2, pairs)
        across, down = half * math.cos(angle), half * math.sin(angle)
        for dot in np.linspace(-1, 1, 15):
            draw.rectangle(_square(x + dot * across, y + dot * down, 0.3 * line), fill=_WHITE)
        for sign in (-1, 1):
            _cross(draw, x + sign * across, y + sign * down, arm * scale, line)
    return np.asarray(picture)


def burned_in_text(image: np.ndarray, rng: np.random.Generator, *, lines: int, size: float) -> np.ndarray:
    """Type lines of text into the image.

    Args:
        image: uint8 [H, W].
        rng: Draws what and where.
        lines: How many.
        size: Of the letters, over the shorter side of the image.
    """
    picture, scale = Image.fromarray(image), min(image.shape)
    font = _font(max(6, round(size * scale)))
    text = "\n".join(_TEXTS[place] for place in rng.permutation(len(_TEXTS))[:lines])
    draw = ImageDraw.Draw(picture)
    left, top, right, bottom = draw.multiline_textbbox((0, 0), text, font=font, spacing=2)
    x = rng.uniform(0.02, 0.98) * max(0, picture.width - (right - left))
    y = rng.choice([0.04, 0.96]) * max(0, picture.height - (bottom - top))
    draw.multiline_text((round(x - left), round(y - top)), text, fill=_WHITE, font=font, spacing=2)
    return np.asarray(picture)


def body_marker(image: np.ndarray, rng: np.random.Generator, *, size: float) -> np.ndarray:
    """Draw the pictogram of a breast with the probe on it, in a lower corner.

    Args:
        image: uint8 [H, W].
        rng: Draws the corner and the place of the probe.
        size: Radius over the shorter side of the image.
    """
    picture, scale = Image.fromarray(image), min(image.shape)
    draw = ImageDraw.Draw(picture)
    radius, line = size * scale, max(1, round(scale / 200))
    x = radius * 1.3 if rng.random() < 0.5 else picture.width - radius * 1.3
    y = picture.height - radius * 1.3
    draw.ellipse(_square(x, y, radius), fill=0, outline=_WHITE, width=line)
    draw.ellipse(_square(x, y, max(1.0, 0.15 * radius)), outline=_WHITE, width=line)
    angle, away = rng.uniform(0, 2 * math.pi), rng.uniform(0.45, 0.75) * radius
    spot, half = (x + away * math.cos(angle), y + away * math.sin(angle)), 0.35 * radius
    turned = rng.uniform(0, math.pi)
    end = (half * math.cos(turned), half * math.sin(turned))
    draw.line((spot[0] - end[0], spot[1] - end[1], spot[0] + end[0], spot[1] + end[1]), fill=_WHITE, width=2 * line)
    return np.asarray(picture)


def vendor_banner(image: np.ndarray, rng: np.random.Generator, *, height: float) -> np.ndarray:
    """Cover the top by a banner with the maker's name, and draw a grey scale and a ruler at the sides.

    Args:
        image: uint8 [H, W].
        rng: Draws the name.
        height: Of the banner, over that of the image.
    """
    picture = Image.fromarray(image)
    width, tall = picture.size
    draw, bar, line = ImageDraw.Draw(picture), max(4, round(height * tall)), max(1, round(min(image.shape) / 256))
    name = _VENDORS[int(rng.integers(len(_VENDORS)))]
    draw.rectangle((0, 0, width, bar), fill=24)
    draw.line((0, bar, width, bar), fill=200, width=line)
    draw.text((0.02 * width, 0.1 * bar), name, fill=_WHITE, font=_font(max(6, round(0.7 * bar))))
    length = round(min(0.4, 4 * height) * tall)
    for row in range(length):
        grey = round(255 * (1 - row / length))
        draw.line((0.95 * width, bar + 0.05 * tall + row, 0.98 * width, bar + 0.05 * tall + row), fill=grey)
    for tick in range(1, 6):
        y = bar + tick * (tall - bar) / 6
        draw.line((0, y, (0.02 + 0.2 * height) * width, y), fill=200, width=line)
    return np.asarray(picture)


def _darkest(picture: Image.Image) -> tuple[float, float]:
    """Return x and y of the darkest place within the middle half of the image."""
    small = picture.resize((32, 32), Image.Resampling.BOX).filter(ImageFilter.GaussianBlur(2))
    middle = np.asarray(small)[8:24, 8:24]
    row, column = np.unravel_index(int(middle.argmin()), middle.shape)
    return (float(column) + 8.5) / 32 * picture.width, (float(row) + 8.5) / 32 * picture.height


def _cross(draw: ImageDraw.ImageDraw, x: float, y: float, arm: float, line: int) -> None:
    draw.line((x - arm, y, x + arm, y), fill=_WHITE, width=line)
    draw.line((x, y - arm, x, y + arm), fill=_WHITE, width=line)


def _square(x: float, y: float, half: float) -> tuple[float, float, float, float]:
    return (x - half, y - half, x + half, y + half)


@lru_cache(maxsize=64)
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
