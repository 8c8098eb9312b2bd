"""What a screen shows beside the echoes: calipers, typed text, rulers, grey bars, body markers."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from medsharp.data.phantom.scanner import Scanner
from medsharp.images.box import Box

SIDES = ("RT", "LT", "R BREAST", "L BREAST", "RIGHT", "LEFT")
QUADRANTS = ("UOQ", "UIQ", "LOQ", "LIQ", "AX", "RETRO", *(f"{hour} H" for hour in range(1, 13)))


def draw_overlays(
    screen: Image.Image,
    scanner: Scanner,
    scan: Box,
    lesion: Box,
    mm_per_pixel: float,
    size_mm: float,
    rng: np.random.Generator,
) -> None:
    """Burn graphics into a screen in the scanner's style, alike for both classes.

    Args:
        screen: Mode L; changed in place.
        scanner: Its `overlay` chooses the style.
        scan: Where the scan is on the screen.
        lesion: The same for the lesion.
        mm_per_pixel: Size of a pixel.
        size_mm: Longest diameter of the lesion, for the typed measurement.
        rng: Source of chance.
    """
    draw = ImageDraw.Draw(screen)
    scale = screen.width / 256
    text = f"{SIDES[rng.integers(len(SIDES))]} {QUADRANTS[rng.integers(len(QUADRANTS))]}"
    if scanner.overlay == "plain":
        _probe_mark(draw, scan, scale)
        if rng.random() < 0.15:
            _calipers(draw, lesion, scale, rng)
        if rng.random() < 0.25:
            where = (rng.uniform(0.05, 0.6), rng.uniform(0.6, 0.9))
            _write(draw, scan, where, text, 11 * scale, 235)
    elif scanner.overlay == "typed":
        if rng.random() < 0.75:
            _write(draw, scan, (0.86, 0.01), "GX", 12 * scale, 255)
        if rng.random() < 0.55:
            where = (rng.uniform(0.0, 0.5), rng.uniform(0.65, 0.9))
            _write(draw, scan, where, text, 13 * scale, 255)
        if rng.random() < 0.45:
            _calipers(draw, lesion, scale, rng)
            _write(draw, scan, (0.02, 0.94), f"+ {size_mm:.1f}mm", 10 * scale, 255)
        if rng.random() < 0.3:
            _body_mark(draw, scan, scale, rng)
    elif scanner.overlay == "ruler":
        _ruler(draw, scan, mm_per_pixel, scale, screen.width)
        if rng.random() < 0.7:
            _grey_bar(draw, scan, scale)
        if rng.random() < 0.5:
            _calipers(draw, lesion, scale, rng)
        if rng.random() < 0.35:
            _write(draw, scan, (rng.uniform(0.05, 0.45), rng.uniform(0.7, 0.92)), text, 11 * scale, 190)


@lru_cache(maxsize=32)
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _write(draw: ImageDraw.ImageDraw, scan: Box, where: tuple[float, float], text: str, size: float, grey: int) -> None:
    top, left, bottom, right = scan
    place = (left + where[0] * (right - left), top + where[1] * (bottom - top))
    draw.text(place, text, fill=grey, font=_font(max(6, round(size))))


def _calipers(draw: ImageDraw.ImageDraw, lesion: Box, scale: float, rng: np.random.Generator) -> None:
    top, left, bottom, right = lesion
    middle_x, middle_y = (left + right) / 2, (top + bottom) / 2
    ends: list[tuple[float, float]] = [(left, middle_y), (right, middle_y)]
    if rng.random() < 0.6:
        ends += [(middle_x, top), (middle_x, bottom)]
    arm = 3 * scale
    for end_x, end_y in ends:
        x, y = end_x + rng.normal() * scale, end_y + rng.normal() * scale
        draw.line((x - arm, y, x + arm, y), fill=240)
        draw.line((x, y - arm, x, y + arm), fill=240)


def _probe_mark(draw: ImageDraw.ImageDraw, scan: Box, scale: float) -> None:
    left, top = scan.left + 1, scan.top + 1
    draw.rectangle((left, top, left + 5 * scale, top + 6 * scale), fill=0, outline=170)


def _ruler(draw: ImageDraw.ImageDraw, scan: Box, mm_per_pixel: float, scale: float, width: int) -> None:
    x, top = min(scan.right + 3 * scale, width - 9 * scale), scan.top
    for centimetre in range(1, int((scan.bottom - top) * mm_per_pixel / 10) + 1):
        y = top + centimetre * 10 / mm_per_pixel
        draw.line((x, y, x + 3 * scale, y), fill=150)
        draw.text((x + 4 * scale, y - 5 * scale), str(centimetre), fill=150, font=_font(max(6, round(8 * scale))))
        draw.line((x, y - 5 / mm_per_pixel, x + 1 * scale, y - 5 / mm_per_pixel), fill=110)


def _grey_bar(draw: ImageDraw.ImageDraw, scan: Box, scale: float) -> None:
    left, top, height = scan.right - 9 * scale, scan.top + 18 * scale, round(52 * scale)
    for row in range(height):
        draw.line((left, top + row, left + 5 * scale, top + row), fill=round(255 * (1 - row / height)))


def _body_mark(draw: ImageDraw.ImageDraw, scan: Box, scale: float, rng: np.random.Generator) -> None:
    x, y, radius = scan.right - 26 * scale, scan.bottom - 26 * scale, 9 * scale
    draw.ellipse((x - radius, y - radius, x + radius, y + radius), outline=220)
    draw.ellipse((x - scale, y - scale, x + scale, y + scale), outline=220)
    angle, away = rng.uniform(0, 2 * np.pi), rng.uniform(0.3, 0.9) * radius
    spot = (x + away * np.cos(angle), y + away * np.sin(angle))
    draw.line((spot[0] - 4 * scale, spot[1], spot[0] + 4 * scale, spot[1]), fill=255)
