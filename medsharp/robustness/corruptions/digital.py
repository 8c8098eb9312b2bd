"""Pixelation and JPEG as MedMNIST-C defines them."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image


def pixelate(image: np.ndarray, rng: np.random.Generator, *, scale: float) -> np.ndarray:
    """Shrink by box averaging, and enlarge again by repeating pixels.

    Args:
        image: uint8 [H, W] or [H, W, 3].
        rng: Not used.
        scale: New side over old; sides are rounded down.
    """
    picture = Image.fromarray(image)
    small = (max(1, int(picture.width * scale)), max(1, int(picture.height * scale)))
    return np.asarray(picture.resize(small, Image.Resampling.BOX).resize(picture.size, Image.Resampling.BOX))


def jpeg_compression(image: np.ndarray, rng: np.random.Generator, *, quality: int) -> np.ndarray:
    """Encode and decode as JPEG with Pillow's defaults.

    A grey image is encoded as one channel: an RGB image of three equal channels has the same luminance and no
    chrominance, and comes back the same.

    Args:
        image: uint8 [H, W] or [H, W, 3].
        rng: Not used.
        quality: Of libjpeg, 1 to 95.
    """
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "JPEG", quality=quality)
    return np.asarray(Image.open(stream))
