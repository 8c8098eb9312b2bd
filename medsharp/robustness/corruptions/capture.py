"""How images leave the scanner: JPEG saved again and again, video, pictures of the screen."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from medsharp.robustness.corruptions.digital import jpeg_compression

_SHIFT = 3


def jpeg_resaved(image: np.ndarray, rng: np.random.Generator, *, quality: int, times: int) -> np.ndarray:
    """Save as JPEG several times, with the blocks in other places each time, as after small crops.

    Args:
        image: uint8 [H, W].
        rng: Not used.
        quality: Of libjpeg.
        times: How often.
    """
    for number in range(times):
        margin = _SHIFT * number % 8
        padded = np.pad(image, ((margin, 0), (margin, 0)), mode="edge")
        image = jpeg_compression(padded, rng, quality=quality)[margin:, margin:]
    return np.ascontiguousarray(image)


def video_compression(image: np.ndarray, rng: np.random.Generator, *, quality: int) -> np.ndarray:
    """Encode and decode as a key frame of VP8 video, which is what a lossy WebP file holds.

    Args:
        image: uint8 [H, W].
        rng: Not used.
        quality: Of libwebp, 0 to 100.
    """
    stream = io.BytesIO()
    Image.fromarray(image).convert("RGB").save(stream, "WEBP", quality=quality, method=2)
    return np.asarray(Image.open(stream).convert("L"))


def screen_capture(image: np.ndarray, rng: np.random.Generator, *, scale: float) -> np.ndarray:
    """Show the image smaller by leaving pixels out, as viewers do, and enlarge the picture of it smoothly.

    Args:
        image: uint8 [H, W].
        rng: Not used.
        scale: New side over old.
    """
    picture = Image.fromarray(image)
    small = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    return np.asarray(picture.resize(small, Image.Resampling.NEAREST).resize(picture.size, Image.Resampling.BILINEAR))
