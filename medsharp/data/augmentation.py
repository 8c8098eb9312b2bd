"""Augmentation recipes: random MONAI transforms that keep what depth means in an ultrasound image."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from monai.transforms import Compose, MapTransform, Randomizable, RandomizableTransform
from torch import Tensor


class RandomPlacement(MapTransform, Randomizable):
    """Flip left and right, rotate, shear, zoom, stretch and shift image and mask in one resampling.

    One affine map instead of one transform each: the speckle is interpolated once. Never upside down, as depth has a
    direction.

    Args:
        degrees: Rotation at most.
        shear: At most, as a tangent.
        zoom: Smallest and largest factor.
        stretch: Largest ratio between the axes' factors.
        shift: At most, as a share of the side.
    """

    def __init__(self, degrees: float, shear: float, zoom: tuple[float, float], stretch: float, shift: float) -> None:
        MapTransform.__init__(self, ["image", "mask"], allow_missing_keys=True)
        self.degrees = degrees
        self.shear = shear
        self.zoom = zoom
        self.stretch = stretch
        self.shift = shift

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Transform the float32 [1, S, S] tensors of a sample."""
        angle = np.deg2rad(self.R.uniform(-self.degrees, self.degrees))
        zoom = np.exp(self.R.uniform(*np.log(self.zoom)))
        ratio = np.exp(self.R.uniform(-1, 1) * np.log(self.stretch) / 2)
        shear = self.R.uniform(-self.shear, self.shear)
        flip = -1.0 if self.R.uniform() < 0.5 else 1.0
        shift = self.R.uniform(-2 * self.shift, 2 * self.shift, size=2)
        cos, sin = np.cos(angle), np.sin(angle)
        rotate = np.array([[cos, -sin], [sin, cos]])
        scale = np.array([[flip / (zoom * ratio), shear], [0.0, ratio / zoom]])
        theta = torch.tensor(np.column_stack([rotate @ scale, shift])[None], dtype=torch.float32)
        sample = dict(data)
        grid = F.affine_grid(theta, [1, *sample["image"].shape], align_corners=False)
        for key in self.key_iterator(sample):
            moved = F.grid_sample(sample[key][None], grid, mode="bilinear", padding_mode="zeros", align_corners=False)[
                0
            ]
            sample[key] = (moved >= 0.5).float() if key == "mask" else moved
        return sample


class _OnImage(RandomizableTransform):
    """A random change of grey values, done with probability `prob`."""

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Change `image`, float32 [1, S, S] on the scale 0 to 255."""
        sample = dict(data)
        self.randomize(None)
        if self._do_transform:
            sample["image"] = self.change(sample["image"]).clamp(0, 255)
        return sample

    def change(self, image: Tensor) -> Tensor:
        raise NotImplementedError

    def noise(self, *shape: int) -> Tensor:
        """Standard normal float32 noise from this transform's own state."""
        return torch.from_numpy(self.R.standard_normal(shape).astype(np.float32))


class RandomGammaAndGain(_OnImage):
    """`255 gain (image / 255)^gamma`: what a sonographer's gain and a scanner's grey map do."""

    def __init__(self, gamma: float, gain: float, prob: float = 1.0) -> None:
        super().__init__(prob)
        self.gamma = gamma
        self.gain = gain

    def change(self, image: Tensor) -> Tensor:
        """Draw log gamma and log gain uniformly."""
        gamma, gain = np.exp(self.R.uniform(-1, 1, size=2) * np.log([self.gamma, self.gain]))
        return (image / 255).clamp_min(1e-6).pow(float(gamma)) * (255 * float(gain))


class RandomDepthGain(_OnImage):
    """A smooth gain along depth, as a wrong time-gain compensation makes it."""

    def __init__(self, amount: float, prob: float = 0.5) -> None:
        super().__init__(prob)
        self.amount = amount

    def change(self, image: Tensor) -> Tensor:
        """Interpolate four gains over depth."""
        knots = torch.from_numpy(self.R.uniform(-self.amount, self.amount, size=(1, 1, 4)).astype(np.float32))
        curve = F.interpolate(knots, size=image.shape[-2], mode="linear", align_corners=True)
        return image * (1 + curve.transpose(1, 2))


class RandomSpeckle(_OnImage):
    """Multiplicative noise of a random grain size."""

    def __init__(self, amount: float, prob: float = 0.5) -> None:
        super().__init__(prob)
        self.amount = amount

    def change(self, image: Tensor) -> Tensor:
        """Multiply by `1 + amount * noise`, the noise interpolated from a coarser grid."""
        side = image.shape[-1]
        grain = self.R.uniform(1.0, 3.0)
        coarse = self.noise(1, 1, max(2, round(side / grain)), max(2, round(side / grain)))
        noise = F.interpolate(coarse, size=image.shape[-2:], mode="bilinear", align_corners=False)[0]
        return image * (1 + self.R.uniform(0, self.amount) * noise)


class RandomNoise(_OnImage):
    """Additive Gaussian noise; `amount` is the largest standard deviation in grey levels."""

    def __init__(self, amount: float, prob: float = 0.5) -> None:
        super().__init__(prob)
        self.amount = amount

    def change(self, image: Tensor) -> Tensor:
        """Add noise of a random strength."""
        return image + self.R.uniform(0, self.amount) * self.noise(*image.shape)


class RandomResolution(_OnImage):
    """Blur, sharpen, or resample at a lower resolution: other probes, other screens."""

    def __init__(self, lowest: float, prob: float = 0.4) -> None:
        super().__init__(prob)
        self.lowest = lowest

    def change(self, image: Tensor) -> Tensor:
        """Choose one of the three."""
        kind = self.R.randint(3)
        if kind == 0:
            small = F.interpolate(image[None], scale_factor=self.R.uniform(self.lowest, 0.95), mode="area")
            return F.interpolate(small, size=image.shape[-2:], mode="bilinear", align_corners=False)[0]
        blurred = F.avg_pool2d(image[None], 3, stride=1, padding=1, count_include_pad=False)[0]
        strength = self.R.uniform(0.3, 1.0)
        return image + (strength if kind == 1 else -strength) * (blurred - image)


class RandomErasing(_OnImage):
    """Black out a small box, as a burned-in marker or a shadow hides a part."""

    def __init__(self, largest: float, prob: float = 0.3) -> None:
        super().__init__(prob)
        self.largest = largest

    def change(self, image: Tensor) -> Tensor:
        """Fill a box of at most `largest` of the side with the image's mean."""
        side = image.shape[-1]
        height, width = (int(side * self.R.uniform(0.05, self.largest)) for _ in range(2))
        top, left = self.R.randint(0, side - height), self.R.randint(0, side - width)
        erased = image.clone()
        erased[..., top : top + height, left : left + width] = image.mean()
        return erased


AUGMENTATIONS: dict[str, Callable[[], Compose]] = {
    "none": lambda: Compose([]),
    "light": lambda: Compose([RandomPlacement(5, 0.0, (0.95, 1.05), 1.0, 0.04), RandomGammaAndGain(1.15, 1.1)]),
    "standard": lambda: Compose(
        [
            RandomPlacement(10, 0.08, (0.85, 1.2), 1.1, 0.08),
            RandomGammaAndGain(1.35, 1.3),
            RandomResolution(0.6, prob=0.3),
            RandomNoise(10.0),
        ]
    ),
    "strong": lambda: Compose(
        [
            RandomPlacement(12, 0.1, (0.7, 1.4), 1.35, 0.13),
            RandomGammaAndGain(1.6, 1.4),
            RandomDepthGain(0.35),
            RandomSpeckle(0.25),
            RandomResolution(0.45, prob=0.5),
            RandomNoise(12.0),
            RandomErasing(0.2, prob=0.25),
        ]
    ),
}
"""Recipes by name; each call makes a fresh one."""
