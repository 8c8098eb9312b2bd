"""Geometry: where the image lies in the input."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from monai.transforms import MapTransform, Randomizable


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
        flip: How often left and right change places, 0 to 1.
    """

    def __init__(
        self,
        degrees: float,
        shear: float,
        zoom: tuple[float, float],
        stretch: float,
        shift: float,
        flip: float = 0.5,
    ) -> None:
        MapTransform.__init__(self, ["image", "mask"], allow_missing_keys=True)
        self.degrees = degrees
        self.shear = shear
        self.zoom = zoom
        self.stretch = stretch
        self.shift = shift
        self.flip = flip

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Transform the float32 [1, S, S] arrays of a sample."""
        sample = dict(data)
        grid = self._grid(sample["image"].shape[-1])
        for key in self.key_iterator(sample):
            moved = F.grid_sample(
                torch.from_numpy(sample[key])[None], grid, mode="bilinear", padding_mode="zeros", align_corners=False
            )[0].numpy()
            sample[key] = (moved >= 0.5).astype(np.float32) if key == "mask" else moved
        return sample

    def _grid(self, side: int) -> torch.Tensor:
        """Return where each output pixel comes from, float32 [1, S, S, 2] as `grid_sample` takes it."""
        angle = np.deg2rad(self.R.uniform(-self.degrees, self.degrees))
        zoom = np.exp(self.R.uniform(*np.log(self.zoom)))
        ratio = np.exp(self.R.uniform(-1, 1) * np.log(self.stretch) / 2)
        shear = self.R.uniform(-self.shear, self.shear)
        flip = -1.0 if self.R.uniform() < self.flip else 1.0
        shift = self.R.uniform(-2 * self.shift, 2 * self.shift, size=2)
        cos, sin = np.cos(angle), np.sin(angle)
        rotate = np.array([[cos, -sin], [sin, cos]])
        scale = np.array([[flip / (zoom * ratio), shear], [0.0, ratio / zoom]])
        matrix = (rotate @ scale).astype(np.float32)
        centres = (np.arange(side, dtype=np.float32) * 2 + 1) / side - 1
        # Sums of a row and a column, which are the same on any number of threads; affine_grid is a matrix product.
        grid = np.empty((1, side, side, 2), dtype=np.float32)
        for axis in range(2):
            row = matrix[axis, 0] * centres + np.float32(shift[axis])
            np.add(row[None], (matrix[axis, 1] * centres)[:, None], out=grid[0, ..., axis])
        return torch.from_numpy(grid)
