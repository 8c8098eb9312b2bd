"""Multiplicative noise as MedMNIST-C defines it."""

from __future__ import annotations

import numpy as np
from PIL import Image


def speckle_noise(image: np.ndarray, rng: np.random.Generator, *, scale: float) -> np.ndarray:
    """Return `x + x n` with normal noise of its own for each of the three channels, then grey again.

    MedMNIST-C makes noise on RGB images: luminance then averages three draws, so that the noise on the grey image has
    0.67 times the standard deviation that its parameter names. It rounds down, and so does this.

    Args:
        image: uint8 [H, W] or [H, W, 3].
        rng: Draws the noise.
        scale: Standard deviation of `n`.
    """
    values = image if image.ndim == 3 else image[..., None]
    noise = rng.standard_normal((*image.shape[:2], 3), dtype=np.float32)
    noise *= np.float32(scale)
    noise += np.float32(1)
    noise *= values
    noisy = np.clip(noise, 0, 255, out=noise).astype(np.uint8)
    return noisy if image.ndim == 3 else np.asarray(Image.fromarray(noisy).convert("L"))
