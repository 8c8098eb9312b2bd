"""Loss of resolution: along the probe, along depth, and over time."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image
from scipy import ndimage

from medsharp.robustness.corruptions.scan import to_grey

FRAMES = 6
_PERSISTENCE = 0.75


def lateral_blur(image: np.ndarray, rng: np.random.Generator, *, sigma: float) -> np.ndarray:
    """Widen the beam: a Gaussian along the probe.

    Args:
        image: uint8 [H, W].
        rng: Not used.
        sigma: Over the shorter side of the image.
    """
    return _blurred(image, sigma, axis=1)


def axial_blur(image: np.ndarray, rng: np.random.Generator, *, sigma: float) -> np.ndarray:
    """Lengthen the pulse: a Gaussian along depth.

    Args:
        image: uint8 [H, W].
        rng: Not used.
        sigma: Over the shorter side of the image.
    """
    return _blurred(image, sigma, axis=0)


def frame_averaging(image: np.ndarray, rng: np.random.Generator, *, motion: float) -> np.ndarray:
    """Average six frames while the probe moves, each older one weighing 0.75 times the next.

    Args:
        image: uint8 [H, W].
        rng: Draws the direction.
        motion: Way over all frames, over the shorter side of the image.
    """
    way = motion * min(image.shape)
    direction = rng.uniform(0, 2 * math.pi)
    margin = math.ceil(way) + 1
    padded = Image.fromarray(np.pad(image, margin, mode="edge"))
    height, width = image.shape
    total, weights = np.zeros(image.shape, dtype=np.float32), 0.0
    for age in range(FRAMES):
        away = way * age / (FRAMES - 1)
        x, y = margin + away * math.cos(direction), margin + away * math.sin(direction)
        frame = padded.transform((width, height), Image.Transform.AFFINE, (1, 0, x, 0, 1, y), Image.Resampling.BILINEAR)
        total += np.asarray(frame) * np.float32(_PERSISTENCE**age)
        weights += _PERSISTENCE**age
    return to_grey(total / np.float32(weights))


def _blurred(image: np.ndarray, sigma: float, axis: int) -> np.ndarray:
    width = sigma * min(image.shape)
    return to_grey(ndimage.gaussian_filter1d(image.astype(np.float32), width, axis=axis, mode="nearest", truncate=3.0))
