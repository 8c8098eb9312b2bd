"""What bodies do to an ultrasound image: attenuation, shadows, haze, speckle.

Attenuation, shadow and haze after Tupper and Gagné, Revisiting data augmentation for ultrasound images (TMLR 2025,
arXiv:2501.13193); here the shadow follows the beam instead of being a blob. All of them take the middle of the upper
edge for the probe.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from medsharp.data.augmentation.base import GreyTransform, distance_from_probe, resized, scanned


class RandomDepthAttenuation(GreyTransform):
    """`image exp(-r d)`, `r` up to `rate`, `d` the distance from the probe in sides."""

    def __init__(self, rate: float, prob: float = 0.5) -> None:
        super().__init__(prob)
        self.rate = rate

    def change(self, image: np.ndarray) -> np.ndarray:
        """Draw the rate; a quarter of the largest at least, so that it can be seen."""
        rate = np.float32(self.R.uniform(self.rate / 4, self.rate))
        return image * np.exp(-rate * distance_from_probe(image.shape[-1]))


class RandomShadow(GreyTransform):
    """A dark band below a reflector, as wide as it, along the beam.

    `image (1 - s exp(-(a / w)^2 / 2) / (1 + exp(-(d - d0) / 0.02)))`, with `a` the distance across the beam, `d` the
    depth and `d0` that of the reflector.
    """

    def __init__(self, strength: float, width: float, prob: float = 0.5) -> None:
        super().__init__(prob)
        self.strength = strength
        self.width = width

    def change(self, image: np.ndarray) -> np.ndarray:
        """Draw place, depth, width and strength."""
        side = image.shape[-1]
        across = np.linspace(0, 1, side, dtype=np.float32)
        middle, start = self.R.uniform(0.1, 0.9), self.R.uniform(0.1, 0.6)
        width = self.R.uniform(self.width / 4, self.width)
        strength = self.R.uniform(self.strength / 2, self.strength)
        # Beams of a curved or a steered probe spread: the band leans away from the middle with depth.
        lean = (middle - 0.5) * self.R.uniform(0.0, 0.4)
        place = middle + lean * (across[:, None] - start)
        band = np.exp(-0.5 * ((across[None] - place) / width) ** 2)
        onset = 1 / (1 + np.exp(-(across[:, None] - start) / 0.02))
        return image * (1 - strength * band * onset).astype(np.float32)


class RandomHaze(GreyTransform):
    """A bright, uneven veil at some distance from the probe; the black around the scan stays black."""

    def __init__(self, strength: float, prob: float = 0.5) -> None:
        super().__init__(prob)
        self.strength = strength

    def change(self, image: np.ndarray) -> np.ndarray:
        """Draw distance, depth and strength of the veil."""
        side = image.shape[-1]
        radius, depth = self.R.uniform(0.05, 0.8), self.R.uniform(0.05, 0.2)
        strength = self.R.uniform(self.strength / 3, self.strength)
        ring = np.exp(-0.5 * ((distance_from_probe(side) - np.float32(radius)) / np.float32(depth)) ** 2)
        uneven = 1 + 0.35 * resized(self.noise((8, 8)), (side, side), Image.Resampling.BICUBIC)
        return image + np.float32(255 * strength) * ring * np.clip(uneven, 0, 2) * scanned(image)


class RandomSpeckle(GreyTransform):
    """Multiplicative noise of a random grain, wider across the beam than along it."""

    def __init__(self, amount: float, prob: float = 0.5) -> None:
        super().__init__(prob)
        self.amount = amount

    def change(self, image: np.ndarray) -> np.ndarray:
        """Multiply by `1 + amount noise`, the noise interpolated from a coarser grid."""
        side = image.shape[-1]
        axial = self.R.uniform(1.0, 2.5)
        lateral = axial * self.R.uniform(1.0, 1.8)
        coarse = self.noise((max(2, round(side / axial)), max(2, round(side / lateral))))
        noise = resized(coarse, (side, side), Image.Resampling.BILINEAR)
        return image * (1 + np.float32(self.R.uniform(self.amount / 4, self.amount)) * noise)
