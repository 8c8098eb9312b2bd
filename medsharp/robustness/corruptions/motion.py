"""Motion blur as MedMNIST-C defines it, which is ImageMagick's; done here without ImageMagick."""

from __future__ import annotations

import math

import numpy as np


def motion_blur(image: np.ndarray, rng: np.random.Generator, *, radius: float, sigma: float) -> np.ndarray:
    """Blur along a random direction between -45 and 45 degrees.

    Args:
        image: uint8 [H, W] or [H, W, 3].
        rng: Draws the angle.
        radius: Of the kernel in pixels.
        sigma: Standard deviation of its weights in pixels.
    """
    return blur_along(image, radius, sigma, float(rng.uniform(-45, 45)))


def blur_along(image: np.ndarray, radius: float, sigma: float, angle: float) -> np.ndarray:
    """Blur as ImageMagick's `MotionBlurImage` does.

    The kernel is one-sided: tap `k = 0 .. 2 ceil(radius)` weighs `exp(-k^2 / (2 sigma^2))`, normalised, and looks at
    the pixel `(ceil(k cos(angle) - 1/2), ceil(k sin(angle) - 1/2))` further on, x to the right and y down; beyond the
    edge the last pixel goes on. Grey levels are cut off, not rounded, as when ImageMagick writes 8 bits.

    Args:
        image: uint8 [H, W] or [H, W, 3].
        radius: Of the kernel in pixels, above 0.
        sigma: In pixels, above 0.
        angle: In degrees.
    """
    taps = np.arange(2 * math.ceil(radius) + 1)
    weights = np.exp(-(taps**2) / (2 * sigma**2)).astype(np.float32)
    weights /= weights.sum()
    direction = math.radians(angle)
    across = np.ceil(taps * math.cos(direction) - 0.5).astype(int)
    down = np.ceil(taps * math.sin(direction) - 0.5).astype(int)
    height, width = image.shape[:2]
    margins = [(max(0, -down.min()), max(0, down.max())), (max(0, -across.min()), max(0, across.max()))]
    padded = np.pad(image, [*margins, *[(0, 0)] * (image.ndim - 2)], mode="edge").astype(np.float32)
    top, left = margins[0][0], margins[1][0]
    blurred = np.zeros(image.shape, dtype=np.float32)
    for weight, x, y in zip(weights, across, down, strict=True):
        blurred += weight * padded[top + y : top + y + height, left + x : left + x + width]
    return np.minimum(blurred, 255, out=blurred).astype(np.uint8)
