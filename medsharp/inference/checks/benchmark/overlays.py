"""What scanners lay on grey images, laid on given ones: colour Doppler, elastography, a second view beside."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image

Overlay = Callable[[np.ndarray, np.ndarray, np.random.Generator], np.ndarray]
"""Lays something on a grey image uint8 [H, W]; the second image is another one. Returns uint8 [H, W] or [H, W, 3]."""


def doppler(grey: np.ndarray, _: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Vessels in red and blue inside a box, with the noise of measured velocities."""
    from scipy.ndimage import gaussian_filter

    height, width = grey.shape
    rgb = np.repeat(grey[..., None], 3, axis=2).astype(float)
    top, left = int(rng.uniform(0.15, 0.4) * height), int(rng.uniform(0.15, 0.4) * width)
    bottom, right = int(rng.uniform(0.6, 0.9) * height), int(rng.uniform(0.6, 0.9) * width)
    box = (slice(top, bottom), slice(left, right))
    field = gaussian_filter(rng.normal(size=(bottom - top, right - left)), rng.uniform(3, 8))
    speed = np.clip((np.abs(field) - np.quantile(np.abs(field), rng.uniform(0.8, 0.97))) / field.std(), 0, 1)
    level = 120 + 135 * np.clip(speed + rng.normal(0, 0.08, speed.shape), 0, 1)
    flow = speed > 0
    towards = field > 0
    colour = np.stack([np.where(towards, level, 20), np.full(level.shape, 25.0), np.where(towards, 20, level)], axis=-1)
    rgb[box] = np.where(flow[..., None], colour, rgb[box])
    return rgb.astype(np.uint8)


def elastography(grey: np.ndarray, _: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Stiffness from blue over green to red, half transparent inside a box."""
    from matplotlib import colormaps
    from scipy.ndimage import gaussian_filter

    height, width = grey.shape
    rgb = np.repeat(grey[..., None], 3, axis=2).astype(float)
    top, left = int(rng.uniform(0.05, 0.3) * height), int(rng.uniform(0.05, 0.3) * width)
    bottom, right = int(rng.uniform(0.6, 0.95) * height), int(rng.uniform(0.7, 0.95) * width)
    stiffness = gaussian_filter(rng.normal(size=(bottom - top, right - left)), rng.uniform(8, 20))
    stiffness = (stiffness - stiffness.min()) / np.ptp(stiffness)
    share = rng.uniform(0.3, 0.6)
    box = (slice(top, bottom), slice(left, right))
    rgb[box] = (1 - share) * rgb[box] + share * 255 * colormaps["jet"](stiffness)[..., :3]
    return rgb.astype(np.uint8)


def two_views(grey: np.ndarray, other: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Another image beside, wall to wall or with a gap."""
    height = min(grey.shape[0], other.shape[0])
    left = _as_high(grey, height, rng.uniform(0.8, 1.2))
    right = np.asarray(Image.fromarray(other).resize((left.shape[1], height)))
    gap = np.full((height, int(rng.choice([0, 0, 1, 2, 4, 8]))), rng.choice([0, 0, 255]), dtype=np.uint8)
    return np.concatenate([left, gap, right], axis=1)


OVERLAYS: dict[str, Overlay] = {"colour Doppler": doppler, "elastography": elastography, "two views": two_views}
"""By what they are."""


def _as_high(grey: np.ndarray, height: int, stretch: float) -> np.ndarray:
    width = int(grey.shape[1] * height / grey.shape[0] * stretch)
    return np.asarray(Image.fromarray(grey).resize((width, height)))
