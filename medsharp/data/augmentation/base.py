"""What all transforms of grey values share: chance from MONAI's own state, and a clip to the scale of the image."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from functools import cache
from typing import Any

import numpy as np
from monai.transforms import RandomizableTransform
from PIL import Image


class GreyTransform(RandomizableTransform):
    """A random change of grey values, done with probability `prob`.

    It computes in NumPy and Pillow, on one thread, so that the bytes of a sample depend neither on the number of
    threads nor on the batch that the sample is in.
    """

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Change `image`, float32 [1, S, S] on the scale 0 to 255.

        Raises:
            TypeError: The image is of another type: on uint8 these formulas would wrap round in silence.
        """
        sample = dict(data)
        image = sample["image"]
        if image.dtype != np.float32:
            raise TypeError(f"{type(self).__name__} takes float32 images on the scale 0 to 255, not {image.dtype}")
        self.randomize(None)
        if self._do_transform:
            sample["image"] = np.clip(self.change(image[0]), 0, 255, dtype=np.float32)[None]
        return sample

    def change(self, image: np.ndarray) -> np.ndarray:
        """Return another float32 [S, S]; the caller clips it."""
        raise NotImplementedError

    def noise(self, shape: tuple[int, ...]) -> np.ndarray:
        """Standard normal float32 noise, from this transform's own state."""
        # The generator's float32 normals take half the time of RandomState's.
        return np.random.default_rng(self.R.randint(2**31)).standard_normal(shape, dtype=np.float32)


def resized(image: np.ndarray, size: tuple[int, int], how: Image.Resampling) -> np.ndarray:
    """Resample float32 [H, W] to `size` (height, width)."""
    return np.asarray(Image.fromarray(image).resize(size[::-1], how))


@cache
def distance_from_probe(side: int) -> np.ndarray:
    """Return float32 [S, S], read-only: distance from the middle of the upper edge, in sides."""
    depth = np.linspace(0, 1, side, dtype=np.float32)[:, None]
    across = np.linspace(-0.5, 0.5, side, dtype=np.float32)[None]
    distance = np.hypot(depth, across)
    distance.flags.writeable = False
    return distance


def scanned(image: np.ndarray) -> np.ndarray:
    """Return float32 [S, S], 1 in rows and columns that show anything: padding and what was shifted in show nothing."""
    shown = image > 4
    rows, columns = (np.asarray(shown.any(axis=axis), dtype=np.float32) for axis in (1, 0))
    return np.outer(rows, columns)
