"""Brightness and contrast as MedMNIST-C defines them, which is as Pillow does."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageEnhance


def brightness(image: np.ndarray, rng: np.random.Generator, *, factor: float) -> np.ndarray:
    """Multiply grey levels by `factor`.

    Args:
        image: uint8 [H, W] or [H, W, 3].
        rng: Not used.
        factor: Above 1 is brighter.
    """
    return np.asarray(ImageEnhance.Brightness(Image.fromarray(image)).enhance(factor))


def contrast(image: np.ndarray, rng: np.random.Generator, *, factor: float) -> np.ndarray:
    """Multiply the distance from the mean grey level by `factor`.

    Args:
        image: uint8 [H, W] or [H, W, 3].
        rng: Not used.
        factor: Below 1 is flatter.
    """
    return np.asarray(ImageEnhance.Contrast(Image.fromarray(image)).enhance(factor))
