"""Ultrasound of other organs, simulated: the phantom's speckle in the coarse anatomy of a kidney, a thyroid, a carotid.

The model knows none of them. Only what a check of the picture can see is drawn: layers, borders, vessels, the fan of a
curved probe; a person would take none of these images for a patient's.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from PIL import Image

from medsharp.data.phantom.acoustics import to_grey
from medsharp.data.phantom.anatomy import Tissue
from medsharp.data.phantom.scanner import HOSPITALS, Scanner
from medsharp.data.phantom.texture import Field, Grid, smooth_curve, smooth_field
from medsharp.inference.checks.benchmark.made import Maker

_OVERSAMPLING = 1.5
_SIDE = 256

_ABDOMINAL = replace(
    HOSPITALS["B"],
    name="simulated curved 3.5 MHz",
    frequency_mhz=3.5,
    lateral_mm=1.8,
    focus_mm=70.0,
    noise_db=-62.0,
    compounding=0.2,
)
"""A probe for the abdomen: deep, coarse."""


def kidney(rng: np.random.Generator) -> np.ndarray:
    """A kidney under the liver, in a fan: dark pyramids in the cortex, a bright sinus."""
    depth = float(rng.uniform(100, 150))
    grid = _grid(depth, depth * float(rng.uniform(1.0, 1.3)))
    level = -4.0 + 1.2 * smooth_field(grid, (6, 9), rng)  # the liver
    for _ in range(int(rng.integers(3, 8))):  # its vessels
        level -= 14 * _ellipse(grid, rng.uniform(0.1, 0.9), rng.uniform(0.15, 0.5), (1.5, rng.uniform(2, 9)), rng)
    across, down, tilt = rng.uniform(0.4, 0.6), rng.uniform(0.5, 0.65), rng.normal(0, 0.25)
    length = float(rng.uniform(42, 58))
    cortex = _ellipse(grid, across, down, (0.45 * length, length), rng, tilt)
    sinus = _ellipse(grid, across, down, (0.16 * length, 0.55 * length), rng, tilt)
    level += cortex * (-3.0 + smooth_field(grid, (3, 3), rng))
    for angle in np.linspace(0, 2 * np.pi, int(rng.integers(7, 11)), endpoint=False):
        right, deep = 0.7 * length * np.cos(angle) / grid.width_mm, 0.3 * length * np.sin(angle) / grid.depth_mm
        level -= 5 * _ellipse(grid, across + right, down + deep, (3.5, 4.5), rng) * cortex
    level += sinus * (11.0 + 2.5 * smooth_field(grid, (2, 5), rng))
    specular = 0.5 * _edge(cortex) + 0.8 * _line(grid, down * grid.depth_mm + 0.6 * length, 1.2, rng)
    return _fan(_shown(level, specular, 0.6, _ABDOMINAL.adjusted(rng), grid, rng), rng)


def thyroid(rng: np.random.Generator) -> np.ndarray:
    """A lobe beside the trachea, across: an even bright gland, dark muscles above, the carotid as a black disc."""
    scanner = _linear(rng)
    grid = _grid(float(rng.uniform(30, 42)), float(rng.uniform(36, 46)))
    level = -9.0 + 1.5 * smooth_field(grid, (0.9, 5), rng)
    muscles = _below(grid, 4.5, rng) - _below(grid, float(rng.uniform(7, 10)), rng)
    level += muscles * (-4.0 + 3.0 * smooth_field(grid, (0.6, 9), rng))
    side = 1 if rng.random() < 0.5 else -1
    lobe = _ellipse(grid, 0.5, 0.45, (rng.uniform(6, 10), rng.uniform(8, 12)), rng)
    level += lobe * (10.0 - 0.2 * level)
    artery = _ellipse(grid, 0.5 + side * 0.36, 0.5, (3.2, 3.4), rng)
    level -= artery * 26
    trachea = _ellipse(grid, 0.5 - side * 0.45, 0.5, (8, 9), rng)
    specular = 1.1 * _edge(artery) + 1.4 * _edge(trachea) + 0.6 * _line(grid, 4.5, 0.4, rng)
    level -= np.maximum.accumulate(trachea, axis=0) * 18  # air throws a shadow
    return _shown(level, specular, 0.7, scanner, grid, rng)


def carotid(rng: np.random.Generator) -> np.ndarray:
    """The artery along its course: a black tube between two bright walls, muscle above."""
    scanner = _linear(rng)
    grid = _grid(float(rng.uniform(30, 45)), float(rng.uniform(36, 42)))
    level = -8.0 + 1.5 * smooth_field(grid, (0.8, 7), rng)
    level += (1 - _below(grid, float(rng.uniform(9, 13)), rng)) * 3.0 * smooth_field(grid, (0.5, 10), rng)
    top, wide = float(rng.uniform(14, 18)), float(rng.uniform(5.5, 7.5))
    course = top + 0.6 * smooth_curve(grid, 18.0, rng) + (grid.x[0] - grid.width_mm / 2) * rng.normal(0, 0.06)
    inside = _step(grid.z - course, 0.3) * _step(course + wide - grid.z, 0.3)
    level -= inside * 24
    specular = np.zeros_like(level)
    for place, strength in ((0.0, 0.9), (wide, 1.3), (wide + 0.9, 0.8)):  # of the far wall intima and adventitia
        specular += strength * np.exp(-np.square((grid.z - course - place) / 0.18))
    return _shown(level, specular, 0.7, scanner, grid, rng)


ORGANS: tuple[Maker, ...] = (kidney, thyroid, carotid)
"""Kinds of ultrasound that the model knows nothing of; nothing is fitted on them."""


def _linear(rng: np.random.Generator) -> Scanner:
    """One of the phantom's scanners, which look at necks too."""
    return HOSPITALS[sorted(HOSPITALS)[int(rng.integers(len(HOSPITALS)))]].adjusted(rng)


def _grid(depth_mm: float, width_mm: float) -> Grid:
    step = max(depth_mm, width_mm) / _SIDE / _OVERSAMPLING
    return Grid(round(depth_mm / step), round(width_mm / step), step)


def _step(value: Field, softness_mm: float) -> Field:
    return np.asarray(np.clip(value / np.float32(2 * softness_mm) + np.float32(0.5), 0, 1), dtype=np.float32)


def _below(grid: Grid, depth_mm: float, rng: np.random.Generator) -> Field:
    """Share that lies below a layer's border [rows, columns]."""
    return _step(grid.z - depth_mm - 0.5 * smooth_curve(grid, 14.0, rng), 0.3)


def _ellipse(
    grid: Grid,
    across: float,
    down: float,
    halves_mm: tuple[float, float],
    rng: np.random.Generator,
    tilt: float | None = None,
) -> Field:
    """Share that lies in an ellipse [rows, columns].

    Args:
        grid: The plane.
        across: Its centre, as a share of the plane's width.
        down: The same of its depth.
        halves_mm: Half its height and half its width.
        rng: Of its tilt, where none is given.
        tilt: In radians.
    """
    tilt = float(rng.normal(0, 0.2)) if tilt is None else tilt
    x, z = grid.x - np.float32(across * grid.width_mm), grid.z - np.float32(down * grid.depth_mm)
    u, v = (x * np.cos(tilt) + z * np.sin(tilt)) / halves_mm[1], (z * np.cos(tilt) - x * np.sin(tilt)) / halves_mm[0]
    return _step((1 - np.hypot(u, v)) * min(halves_mm), 0.4)


def _edge(share: Field) -> Field:
    """How strongly a border mirrors: where it lies across the beam."""
    return np.asarray(np.abs(np.gradient(share, axis=0)) * 4, dtype=np.float32).clip(0, 1)


def _line(grid: Grid, depth_mm: float, thick_mm: float, rng: np.random.Generator) -> Field:
    return np.exp(-np.square((grid.z - depth_mm - 1.5 * smooth_curve(grid, 20.0, rng)) / thick_mm))


def _shown(
    level: Field, specular: Field, attenuation: float, scanner: Scanner, grid: Grid, rng: np.random.Generator
) -> np.ndarray:
    """Return what a scanner shows of it: uint8 [H, W], the longer side `_SIDE`."""
    maps = np.float32(0) * level
    tissue = Tissue(
        level.astype(np.float32), specular.astype(np.float32), (maps + attenuation).astype(np.float32), maps, maps > 0
    )
    grey = Image.fromarray(to_grey(tissue, scanner, grid, rng).astype(np.float32))
    size = round(grid.columns / _OVERSAMPLING), round(grid.rows / _OVERSAMPLING)
    return np.clip(np.rint(np.asarray(grey.resize(size, Image.Resampling.BICUBIC))), 0, 255).astype(np.uint8)


def _fan(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Black out what lies outside of a curved probe's fan: uint8 [H, W]."""
    height, width = picture.shape
    rows, columns = np.mgrid[:height, :width]
    above = height * float(rng.uniform(0.3, 0.5))  # the centre of the probe's curve
    radius = np.hypot(rows + above, columns - width / 2)
    angle = np.abs(np.arctan2(columns - width / 2, rows + above))
    inside = (radius > above * 1.05) & (radius < height + above * 0.9) & (angle < rng.uniform(0.5, 0.65))
    return np.where(inside, picture, 0).astype(np.uint8)
