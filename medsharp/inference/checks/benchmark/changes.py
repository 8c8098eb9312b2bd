"""What is done to ultrasound images so that the check does not learn one hospital's screen: fitted on as well."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageFilter

_LEAST = 64


def changed(grey: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return an image as another hospital may have it: cut, mirrored, resized, blurred, brighter, framed, compressed.

    Args:
        grey: uint8 [H, W].
        rng: Which changes, and how much.
    """
    image = Image.fromarray(grey)
    if rng.random() < 0.6:
        image = _cropped(image, rng)
    if rng.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if rng.random() < 0.4:
        scale, stretch = rng.uniform(0.5, 2.5), rng.uniform(0.75, 1.33)
        size = max(_LEAST, int(image.width * scale * stretch)), max(_LEAST, int(image.height * scale))
        image = image.resize(size, Image.Resampling.BICUBIC)
    if rng.random() < 0.3:
        image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 1.5)))
    values = _of_other_gain(np.asarray(image).astype(float), rng)
    pixels = values.clip(0, 255).astype(np.uint8)
    if rng.random() < 0.3:
        top, bottom, left, right = (int(share * min(pixels.shape)) for share in rng.uniform(0, 0.25, 4))
        pixels = np.pad(pixels, ((top, bottom), (left, right)))
    return _compressed(pixels, rng) if rng.random() < 0.5 else pixels


def _cropped(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    share = rng.uniform(0.5, 1)
    width = max(_LEAST, int(image.width * share))
    height = max(_LEAST, int(image.height * rng.uniform(max(0.5, share - 0.1), 1)))
    left = int(rng.integers(0, max(1, image.width - width + 1)))
    top = int(rng.integers(0, max(1, image.height - height + 1)))
    return image.crop((left, top, min(image.width, left + width), min(image.height, top + height)))


def _of_other_gain(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    if rng.random() < 0.6:
        values = 255 * (values / 255) ** np.exp(rng.uniform(-0.5, 0.5))
    if rng.random() < 0.6:
        values = (values - values.mean()) * rng.uniform(0.6, 1.5) + values.mean() + rng.uniform(-30, 40)
    if rng.random() < 0.3:
        values = values * (1 + rng.normal(0, rng.uniform(0.05, 0.25), values.shape))
    if rng.random() < 0.2:
        values = values * np.linspace(rng.uniform(0.5, 1.2), rng.uniform(0.5, 1.2), values.shape[0])[:, None]
    return values


def _compressed(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    with io.BytesIO() as file:
        Image.fromarray(pixels).save(file, "JPEG", quality=int(rng.integers(35, 95)))
        return np.asarray(Image.open(file))
