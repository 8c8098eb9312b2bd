"""Drawings of many scanners, to be burned into any image: what detector and audit are measured on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import gaussian_filter

from medsharp.images.box import Box

Colour = tuple[int, int, int]
CaliperStyle = Literal["plus", "cross", "tee"]


def draw_calipers(
    screen: Image.Image,
    ends: Sequence[tuple[int, int]],
    *,
    style: CaliperStyle = "plus",
    arm: int = 4,
    thickness: int = 1,
    colour: Colour = (240, 240, 240),
    dotted: bool = False,
    numbered: bool = False,
) -> None:
    """Burn measuring marks into an RGB screen, in place.

    Args:
        screen: Mode RGB.
        ends: x and y of the centres, in pixels; the first and second, third and fourth ... belong together.
        style: `plus` +, `cross` x, `tee` T and its reverse.
        arm: Pixels from the centre to an end.
        thickness: Of the strokes, in pixels.
        colour: 0 to 255 each.
        dotted: Join the ends of a pair by a dotted line.
        numbered: Write the number of the pair beside its first end.
    """
    draw = ImageDraw.Draw(screen)
    for number, (x, y) in enumerate(ends):
        for x0, y0, x1, y1 in _strokes(style, arm, up=number % 2 == 0):
            draw.line((x + x0, y + y0, x + x1, y + y1), fill=colour, width=thickness)
        if numbered and number % 2 == 0:
            draw.text((x - 2.6 * arm, y - 2.6 * arm), str(number // 2 + 1), fill=colour, font=_font(max(8, 2 * arm)))
    if dotted:
        for (x0, y0), (x1, y1) in zip(ends[::2], ends[1::2], strict=False):
            draw_dots(screen, (x0, y0), (x1, y1), step=max(3, arm), size=thickness, colour=colour)


def _strokes(style: CaliperStyle, arm: int, up: bool) -> list[tuple[int, int, int, int]]:
    if style == "plus":
        return [(-arm, 0, arm, 0), (0, -arm, 0, arm)]
    if style == "cross":
        return [(-arm, -arm, arm, arm), (-arm, arm, arm, -arm)]
    return [(-arm, 0, arm, 0), (0, 0, 0, -2 * arm if up else 2 * arm)]


def draw_dots(
    screen: Image.Image, start: tuple[int, int], end: tuple[int, int], *, step: int, size: int, colour: Colour
) -> None:
    """Burn a dotted line into an RGB screen, in place; `step` and `size` of the dots in pixels."""
    draw = ImageDraw.Draw(screen)
    length = float(np.hypot(end[0] - start[0], end[1] - start[1]))
    for at in np.arange(step, length, step):
        x, y = (round(a + (b - a) * at / length) for a, b in zip(start, end, strict=True))
        draw.rectangle((x, y, x + size - 1, y + size - 1), fill=colour)


def draw_text(screen: Image.Image, place: tuple[int, int], text: str, *, height: int, colour: Colour) -> None:
    """Type a line into an RGB screen, in place; `height` of the letters in pixels."""
    ImageDraw.Draw(screen).text(place, text, fill=colour, font=_font(max(6, round(height * 1.4))))


def draw_ruler(screen: Image.Image, *, x: int, top: int, step: int, ticks: int, length: int, colour: Colour) -> None:
    """Burn a ruler into an RGB screen, in place: ticks of some pixels' length, every fifth twice as long."""
    draw = ImageDraw.Draw(screen)
    for tick in range(ticks):
        y = top + tick * step
        draw.line((x, y, x + (2 if tick % 5 == 0 else 1) * length, y), fill=colour)


def draw_body_marker(screen: Image.Image, box: Box, rng: np.random.Generator) -> None:
    """Burn a coloured body marker into an RGB screen, in place: two breasts on a skin-coloured ground, and the probe.

    Args:
        screen: Mode RGB.
        box: Where it stands.
        rng: Where the probe lies on it.
    """
    draw = ImageDraw.Draw(screen)
    top, left, bottom, right = box
    draw.rectangle((left, top, right - 1, bottom - 1), fill=(0, 0, 0), outline=(90, 90, 200))
    middle = (left + right) // 2
    for x0, x1 in ((left + 3, middle - 1), (middle + 1, right - 4)):
        draw.ellipse(
            (x0, top + box.height // 5, x1, bottom - box.height // 5), fill=(205, 60, 50), outline=(255, 190, 170)
        )
        nipple = (x0 + x1) // 2
        y = (top + bottom) // 2
        draw.ellipse((nipple - 3, y - 3, nipple + 3, y + 3), fill=(120, 20, 20))
    x, y = int(rng.integers(left + 8, right - 8)), int(rng.integers(top + 12, bottom - 12))
    draw.line((x - 7, y, x + 7, y), fill=(40, 60, 250), width=4)


def draw_body_outline(screen: Image.Image, centre: tuple[int, int], radius: int, *, colour: Colour) -> None:
    """Burn the outline of a breast with nipple and probe into an RGB screen, in place; `radius` in pixels."""
    draw = ImageDraw.Draw(screen)
    x, y = centre
    small = max(1, radius // 6)
    draw.ellipse((x - radius, y - radius, x + radius, y + radius), outline=colour)
    draw.ellipse((x - small, y - small, x + small, y + small), outline=colour)
    draw.line((x - radius, y - radius // 2, x, y - radius // 2), fill=colour, width=2)


def draw_flow(screen: Image.Image, box: Box, rng: np.random.Generator, *, share: float = 0.12) -> None:
    """Burn a colour Doppler window into an RGB screen, in place: its frame, and vessels in the colours of a flow map.

    Args:
        screen: Mode RGB.
        box: The window.
        rng: Where the vessels are, and which way their blood flows.
        share: Of the window that shows flow.
    """
    pixels = np.asarray(screen).copy()
    inside = pixels[box.top : box.bottom, box.left : box.right]
    smooth = min(inside.shape[:2]) / 14
    vessels = gaussian_filter(rng.normal(size=inside.shape[:2]), smooth)
    speed = np.abs(vessels) / np.abs(vessels).max()
    edge = np.quantile(speed, 1 - share)
    # From dark red to yellow towards the probe, from dark blue to cyan away from it.
    level = np.clip((speed - edge) / (1 - edge) + rng.normal(0, 0.08, speed.shape), 0, 1)
    towards = np.stack([140 + 115 * level, 200 * level**2, 10 + 0 * level], axis=-1)
    away = np.stack([10 + 0 * level, 190 * level**2, 140 + 115 * level], axis=-1)
    colours = np.where((vessels > 0)[..., None], towards, away)
    flowing = speed >= edge
    inside[flowing] = np.clip(colours, 0, 255).astype(np.uint8)[flowing]
    burned = Image.fromarray(pixels)
    ImageDraw.Draw(burned).rectangle((box.left, box.top, box.right - 1, box.bottom - 1), outline=(200, 200, 90))
    screen.paste(burned)


def join_views(left: np.ndarray, right: np.ndarray, gap: int, level: int = 0) -> np.ndarray:
    """Return two scans side by side on one screen of a size of its own.

    Args:
        left: uint8 [H, W].
        right: uint8 [H', W']; brought to the height of the other.
        gap: Pixels between them; 0 makes a seam.
        level: Grey of the gap.
    """
    picture = Image.fromarray(right)
    width = max(1, round(picture.width * left.shape[0] / picture.height))
    other = np.asarray(picture.resize((width, left.shape[0]), Image.Resampling.BILINEAR))
    between = np.full((left.shape[0], gap), level, dtype=np.uint8)
    return np.concatenate([left, between, other], axis=1)


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
