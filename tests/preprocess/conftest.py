"""Simulated scans, with and without what a screen shows in and beside them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from medsharp.data.phantom import simulate

Box = tuple[int, int, int, int]


@pytest.fixture
def simulated(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, int], tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Gives screen, screen without graphics, and lesion mask of a hospital's image, by a seed."""

    def make(hospital: str, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        label = ("benign", "malignant")[seed % 2]
        with monkeypatch.context() as patched:
            patched.setattr(simulate, "draw_overlays", lambda *_: None)
            clean = simulate.simulate_image(hospital, label, np.random.default_rng(seed))
        drawn = simulate.simulate_image(hospital, label, np.random.default_rng(seed))
        return drawn.pixels, clean.pixels, drawn.mask

    return make


@pytest.fixture
def vendor_screen() -> Callable[[np.ndarray, int], tuple[np.ndarray, Box]]:
    """Puts a scan on a screen of 640 x 480 with banner, logo, text, grey bar and ruler; gives the scan's box too."""

    def make(scan: np.ndarray, seed: int) -> tuple[np.ndarray, Box]:
        rng = np.random.default_rng(seed)
        height, width = int(rng.integers(240, 330)), int(rng.integers(300, 420))
        top, left = int(rng.integers(70, 110)), int(rng.integers(60, 120))
        screen = Image.new("L", (640, 480))
        screen.paste(Image.fromarray(scan).resize((width, height)), (left, top))
        draw, font = ImageDraw.Draw(screen), ImageFont.load_default(15)
        draw.rectangle((0, 0, 639, 44), fill=int(rng.integers(40, 200)))  # the vendor's banner
        draw.text((12, 12), "VENDOR   L12-4   MI 0.9   TIs 0.1", fill=255, font=font)
        draw.ellipse((8, 52, 30, 64), fill=200)
        draw.text((12, 440), "FR 38   Depth 4.0 cm   Gain 52", fill=220, font=font)
        draw.rectangle((20, 120, 30, 260), fill=None, outline=150)
        for level in range(138):
            draw.line((21, 121 + level, 29, 121 + level), fill=255 - level)  # the grey bar
        for tick in range(9):
            y = top + tick * height // 8
            draw.line((left + width + 8, y, left + width + (18 if tick % 2 == 0 else 13), y), fill=180)  # the ruler
            draw.text((left + width + 22, y - 8), str(tick), fill=180, font=font)
        return np.asarray(screen), (top, left, top + height, left + width)

    return make
