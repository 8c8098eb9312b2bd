"""Smooth random curves and fields, the raw material of the simulated anatomy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

Field = np.ndarray


@dataclass(frozen=True)
class Grid:
    """The sampling of one scan plane: `rows` along depth, `columns` across, `step_mm` apart in both directions."""

    rows: int
    columns: int
    step_mm: float

    @property
    def depth_mm(self) -> float:
        """Depth of the plane."""
        return self.rows * self.step_mm

    @property
    def width_mm(self) -> float:
        """Width of the plane."""
        return self.columns * self.step_mm

    @property
    def z(self) -> Field:
        """Depth of each row in mm, float32 [rows, 1]."""
        return ((np.arange(self.rows, dtype=np.float32) + 0.5) * np.float32(self.step_mm))[:, None]

    @property
    def x(self) -> Field:
        """Lateral position of each column in mm, float32 [1, columns]."""
        return ((np.arange(self.columns, dtype=np.float32) + 0.5) * np.float32(self.step_mm))[None, :]


def smooth_field(grid: Grid, cell_mm: tuple[float, float], rng: np.random.Generator) -> Field:
    """Return Gaussian noise with about unit variance that varies over cells of (depth, width) mm, float32."""
    cells = [length / size + 1 for length, size in zip((grid.depth_mm, grid.width_mm), cell_mm, strict=True)]
    rows, columns = (int(np.ceil(count)) + 3 for count in cells)
    coarse = rng.standard_normal((rows, columns), dtype=np.float32)
    top, left = rng.uniform(1.0, 2.0, size=2)
    box = (left, top, left + grid.width_mm / cell_mm[1], top + grid.depth_mm / cell_mm[0])
    wide = Image.fromarray(coarse).resize((grid.columns, grid.rows), Image.Resampling.BICUBIC, box=box)
    return np.asarray(wide) * np.float32(1.35)  # interpolation takes some of the variance


def smooth_curve(grid: Grid, cell_mm: float, rng: np.random.Generator) -> Field:
    """Return a smooth random curve over the columns, about unit variance, float32 [columns]."""
    line = Grid(1, grid.columns, grid.step_mm)
    return smooth_field(line, (1e3, cell_mm), rng)[0]


def follow(field: Field, curve: Field, grid: Grid) -> Field:
    """Shift each column of `field` down by `curve` mm, so that its texture runs along the curve."""
    shift = np.rint(curve / grid.step_mm).astype(np.intp)
    last = grid.rows - 1
    rows = np.abs(np.arange(grid.rows)[:, None] - shift[None, :])  # mirrored at the top and at the bottom
    rows = np.clip(last - np.abs(last - rows), 0, last)
    return np.take_along_axis(field, rows, axis=0)
