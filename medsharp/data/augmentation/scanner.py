"""What scanners and screens do to an image: gain, resolution, noise; and a box left out."""

from __future__ import annotations

import numpy as np
from PIL import Image

from medsharp.data.augmentation.base import GreyTransform, resized, scanned


class RandomGain(GreyTransform):
    """`255 gain (image / 255)^gamma`: what a sonographer's gain and a scanner's grey map do."""

    def __init__(self, gamma: float, gain: float, prob: float = 1.0) -> None:
        super().__init__(prob)
        self.gamma = gamma
        self.gain = gain

    def change(self, image: np.ndarray) -> np.ndarray:
        """Draw log gamma and log gain uniformly."""
        gamma, gain = np.exp(self.R.uniform(-1, 1, size=2) * np.log([self.gamma, self.gain]))
        # Bilinear resampling may leave a negative rounding error, whose power would be no number.
        shares = np.maximum(image, 0) * np.float32(1 / 255)
        return np.power(shares, np.float32(gamma)) * np.float32(255 * gain)


class RandomDepthGain(GreyTransform):
    """A smooth gain along depth, as a wrong time-gain compensation makes it."""

    def __init__(self, amount: float, prob: float = 0.5) -> None:
        super().__init__(prob)
        self.amount = amount

    def change(self, image: np.ndarray) -> np.ndarray:
        """Interpolate four gains over depth."""
        knots = self.R.uniform(-self.amount, self.amount, size=4)
        curve = np.interp(np.linspace(0, 3, image.shape[0]), np.arange(4), knots)
        return image * (1 + curve.astype(np.float32))[:, None]


class RandomResolution(GreyTransform):
    """Blur, sharpen, or resample from fewer pixels: other probes, other screens."""

    def __init__(self, lowest: float, prob: float = 0.4) -> None:
        super().__init__(prob)
        self.lowest = lowest

    def change(self, image: np.ndarray) -> np.ndarray:
        """Choose one of the three."""
        kind = self.R.randint(3)
        if kind == 0:
            fewer = max(2, round(image.shape[0] * self.R.uniform(self.lowest, 0.95)))
            return resized(resized(image, (fewer, fewer), Image.Resampling.BOX), image.shape, Image.Resampling.BILINEAR)
        strength = np.float32(self.R.uniform(0.3, 1.0))
        return image + (strength if kind == 1 else -strength) * (_blurred(image) - image)


class RandomNoise(GreyTransform):
    """Additive Gaussian noise; `amount` is the largest standard deviation in grey levels.

    Black stays black, as what surrounds a scan does: `network.normalization: image` tells it from tissue by that.
    """

    def __init__(self, amount: float, prob: float = 0.5) -> None:
        super().__init__(prob)
        self.amount = amount

    def change(self, image: np.ndarray) -> np.ndarray:
        """Add noise of a random strength."""
        return np.where(image > 0, image + np.float32(self.R.uniform(0, self.amount)) * self.noise(image.shape), image)


class RandomErasing(GreyTransform):
    """Fill a box with the image's mean, where the scan is."""

    def __init__(self, largest: float, prob: float = 0.25) -> None:
        super().__init__(prob)
        self.largest = largest

    def change(self, image: np.ndarray) -> np.ndarray:
        """Draw a box of at most `largest` of the side."""
        side = image.shape[-1]
        height, width = (max(1, int(side * self.R.uniform(0.05, self.largest))) for _ in range(2))
        top, left = self.R.randint(0, side - height), self.R.randint(0, side - width)
        box = np.zeros(image.shape, dtype=bool)
        box[top : top + height, left : left + width] = True
        return np.where(box & (scanned(image) > 0), image.mean(), image)


def _blurred(image: np.ndarray) -> np.ndarray:
    """Return the mean over 3 x 3 pixels, edges repeated."""
    wide = np.pad(image, 1, mode="edge")
    rows = wide[:-2] + wide[1:-1] + wide[2:]
    return (rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:]) * np.float32(1 / 9)
