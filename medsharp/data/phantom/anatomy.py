"""A breast in cross-section: layers, septa, fasciae, ducts, and one lesion, as maps that a scanner can look at."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from medsharp.data.phantom.lesions import Lesion
from medsharp.data.phantom.texture import Field, Grid, follow, smooth_curve, smooth_field

# Mean backscatter in dB relative to glandular tissue, and attenuation in dB/cm/MHz (one way).
BACKSCATTER_DB = {"skin": 3.0, "fat": -10.0, "gland": 0.0, "muscle": -10.0}
ATTENUATION = {"skin": 1.2, "fat": 0.55, "gland": 0.85, "muscle": 0.9}
# Mean level of a lesion relative to fat, which is what readers compare it with.
LESION_DB = {"anechoic": -26.0, "hypoechoic": -8.5, "isoechoic": -1.5, "heterogeneous": -6.0}
# Two-way excess over the whole lesion at 10 MHz, in dB: what shows below it.
POSTERIOR_DB = {"enhancement": 7.0, "none": 0.0, "shadow": -13.0}


@dataclass(frozen=True)
class Breast:
    """The composition of one patient's breast; both views share it.

    Attributes:
        fat_mm: Mean thickness of the subcutaneous fat.
        gland_mm: Mean thickness of the fibroglandular layer.
        density: 0 (fatty) to 1 (dense): how much of the middle layer is glandular tissue.
    """

    fat_mm: float
    gland_mm: float
    density: float


@dataclass(frozen=True)
class Tissue:
    """What the sound meets, each float32 [rows, columns], except the mask.

    Attributes:
        backscatter_db: Mean scattered level relative to glandular tissue.
        specular: Amplitude of mirror-like reflection at interfaces, relative to glandular scatter.
        attenuation: In dB/cm/MHz.
        shading_db: Two-way excess of level that lesions lay on what lies below, at 10 MHz.
        mask: bool, the lesion.
    """

    backscatter_db: Field
    specular: Field
    attenuation: Field
    shading_db: Field
    mask: Field


def draw_breast(rng: np.random.Generator) -> Breast:
    """Draw the composition of a breast."""
    density = float(rng.beta(2.0, 1.6))
    return Breast(
        fat_mm=float(rng.uniform(3.5, 9.0) * (1.25 - 0.5 * density)),
        gland_mm=float(rng.uniform(10.0, 18.0)),
        density=density,
    )


def build_tissue(breast: Breast, lesion: Lesion, grid: Grid, rng: np.random.Generator) -> Tissue:
    """Lay out the layers of `breast` on `grid` with `lesion` among them."""
    z = grid.z
    skin = 1.6 + 0.25 * smooth_curve(grid, 14.0, rng) + 0.3 * float(rng.normal())
    fat = skin + np.maximum(1.5, breast.fat_mm + 1.6 * smooth_curve(grid, 11.0, rng) + _tilt(grid, 0.06, rng))
    gland = fat + np.maximum(3.0, breast.gland_mm + 2.0 * smooth_curve(grid, 13.0, rng) + _tilt(grid, 0.08, rng))
    retro = gland + np.maximum(0.6, 2.5 + 1.2 * smooth_curve(grid, 12.0, rng))
    muscle = retro + float(rng.uniform(7.0, 13.0)) + 1.0 * smooth_curve(grid, 25.0, rng)

    glandular = _between(z, fat, gland, 0.5, grid)
    muscular = _between(z, retro, muscle, 0.3, grid)
    cutaneous = _between(z, np.full_like(skin, -1.0), skin, 0.2, grid)
    # Glandular tissue is broken up by fat lobules that run along the layer; the denser the fewer.
    lobules = follow(smooth_field(grid, (2.2, 6.0), rng) + 0.6 * smooth_field(grid, (1.0, 2.2), rng), fat, grid)
    glandular = glandular * _step(lobules + 2.2 * (breast.density - 0.35), 0.35)
    # Islands of gland reach up into the fat.
    glandular = np.maximum(glandular, 0.7 * _between(z, skin, fat, 0.8, grid) * _step(lobules - 1.5, 0.2))

    strands = follow(smooth_field(grid, (0.7, 3.5), rng), fat, grid)
    striae = follow(smooth_field(grid, (0.55, 9.0), rng), retro, grid)
    clouds = smooth_field(grid, (5.0, 7.0), rng)
    level = BACKSCATTER_DB["fat"] + 1.3 * clouds + 0.9 * strands
    level = level + glandular * (BACKSCATTER_DB["gland"] - BACKSCATTER_DB["fat"] + 2.6 * strands)
    level = level + muscular * (BACKSCATTER_DB["muscle"] - BACKSCATTER_DB["fat"] + 3.5 * striae - 2.0)
    level = level + cutaneous * (BACKSCATTER_DB["skin"] - BACKSCATTER_DB["fat"])
    level = level - 14.0 * _step(z - muscle[None, :], 0.8)
    attenuation = np.full(level.shape, ATTENUATION["fat"], dtype=np.float32)
    for share, name in ((glandular, "gland"), (muscular, "muscle"), (cutaneous, "skin")):
        attenuation += share * np.float32(ATTENUATION[name] - ATTENUATION["fat"])

    specular = _interfaces(grid, {"skin": skin, "fat": fat, "gland": gland, "retro": retro, "muscle": muscle}, rng)
    return _insert(lesion, grid, (skin, gland), level, specular, attenuation, rng)


def _tilt(grid: Grid, slope: float, rng: np.random.Generator) -> Field:
    return (grid.x[0] - grid.width_mm / 2) * np.float32(slope * rng.normal())


def _step(value: Field, softness: float) -> Field:
    return np.clip(value / np.float32(2 * softness) + np.float32(0.5), 0.0, 1.0)


def _between(z: Field, top: Field, bottom: Field, softness: float, grid: Grid) -> Field:
    return np.minimum(_step(z - top[None, :], softness), _step(bottom[None, :] - z, softness))


def _interfaces(grid: Grid, layers: dict[str, Field], rng: np.random.Generator) -> Field:
    """Draw what reflects like a mirror: skin, septa, fasciae, strands of connective tissue."""
    canvas = Image.new("L", (grid.columns, grid.rows))
    draw = ImageDraw.Draw(canvas)
    columns = np.arange(0, grid.columns, 3)

    def trace(curve: Field, brightness: float, keep: float = 0.0) -> None:
        gate = smooth_curve(grid, 5.0, rng)[columns] > keep - 2.0
        rows = curve[columns] / grid.step_mm
        for i in range(len(columns) - 1):
            if gate[i]:
                ends = (int(columns[i]), float(rows[i]), int(columns[i + 1]), float(rows[i + 1]))
                draw.line(ends, fill=int(brightness))

    def strand(x0: float, z0: float, dx: float, dz: float, bow: float, brightness: float) -> None:
        t = np.linspace(0.0, 1.0, 9)
        x = (x0 + dx * t) / grid.step_mm
        y = (z0 + dz * t + bow * 4 * t * (1 - t)) / grid.step_mm
        draw.line(list(zip(x.tolist(), y.tolist(), strict=True)), fill=int(brightness))

    def level_at(name: str, x: float) -> float:
        return float(layers[name][int(np.clip(x / grid.step_mm, 0, grid.columns - 1))])

    # Cooper's ligaments: long bows across the fat, rising from the gland to the skin.
    for _ in range(int(rng.integers(4, 10))):
        x0 = float(rng.uniform(-8.0, grid.width_mm))
        length = float(rng.uniform(8.0, 20.0))
        top, bottom = level_at("skin", x0), level_at("fat", x0 + length)
        start, end = rng.uniform(0.05, 1.0, size=2)
        strand(
            x0, top + start * (bottom - top), length, (end - start) * (bottom - top), rng.normal(), rng.uniform(60, 200)
        )
    for _ in range(int(rng.integers(50, 90))):
        x0 = float(rng.uniform(-4.0, grid.width_mm))
        top, bottom = level_at("fat", x0), level_at("gland", x0)
        depth = top + rng.beta(1.2, 1.2) * (bottom - top)
        strand(x0, depth, rng.uniform(1.5, 8.0), 0.6 * rng.normal(), 0.5 * rng.normal(), rng.uniform(30, 150))
    for _ in range(int(rng.integers(10, 26))):
        share = float(rng.uniform(0.08, 1.0))
        curve = layers["retro"] + share * (layers["muscle"] - layers["retro"]) + 0.3 * smooth_curve(grid, 9.0, rng)
        trace(curve, rng.uniform(25, 120), keep=float(rng.uniform(1.2, 2.4)))
    trace(layers["skin"], 150, keep=0.2)
    trace(layers["fat"], 110, keep=1.5)
    trace(layers["gland"], 110, keep=1.6)
    trace(layers["retro"], 220, keep=0.8)
    trace(layers["retro"] + 0.7, 130, keep=1.4)
    trace(layers["muscle"], 210, keep=1.2)
    lines = np.asarray(canvas, dtype=np.float32) * np.float32(6.0 / 255)
    # The face of the transducer and the skin's entry echo.
    lines[: max(1, round(0.35 / grid.step_mm))] += np.float32(3.0)
    return lines


def _insert(
    lesion: Lesion,
    grid: Grid,
    layers: tuple[Field, Field],
    level: Field,
    specular: Field,
    attenuation: Field,
    rng: np.random.Generator,
) -> Tissue:
    """Put the lesion into the maps, within the box that it and its surroundings need."""
    long, short = lesion.size_mm / 2, lesion.size_mm / 2 * lesion.aspect
    half_x, half_z = (long, short) if lesion.orientation == "parallel" else (short, long)
    centre_x = float(np.clip(rng.normal(0.5, 0.11), 0.22, 0.78)) * grid.width_mm
    column = int(centre_x / grid.step_mm)
    skin, gland = float(layers[0][column]), float(layers[1][column])
    lowest = grid.depth_mm - half_z * 1.15 - 2.0
    centre_z = float(np.clip(skin + rng.beta(2.0, 2.0) * (gland - skin), skin + 1.1 * half_z + 0.8, max(lowest, skin)))

    angle = float(rng.normal(0.0, 0.12))
    x, z = grid.x - np.float32(centre_x), grid.z - np.float32(centre_z)
    u = (x * np.cos(angle) + z * np.sin(angle)) / half_x
    v = (z * np.cos(angle) - x * np.sin(angle)) / half_z
    u, v = u.astype(np.float32), v.astype(np.float32)
    theta, radius = np.arctan2(v, u), np.hypot(u, v)
    outline = _outline(lesion, rng)
    contour = np.interp(theta, np.linspace(-np.pi, np.pi, outline.size), outline).astype(np.float32)
    # Signed distance to the margin in mm, positive inside.
    inside = (contour - radius) * np.float32(min(half_x, half_z))
    softness = {"circumscribed": 0.15, "indistinct": 1.3, "microlobulated": 0.25, "angular": 0.35, "spiculated": 0.4}
    share = _step(inside, softness[lesion.margin])
    mask = inside > 0

    target = BACKSCATTER_DB["fat"] + LESION_DB[lesion.echo_pattern] + 1.5 * float(rng.normal())
    spread = {"anechoic": 1.0, "hypoechoic": 1.5, "isoechoic": 1.2, "heterogeneous": 4.5}[lesion.echo_pattern]
    interior = target + spread * smooth_field(grid, (1.6, 2.2), rng)
    if lesion.halo:
        ring = np.exp(-np.square((inside + 1.0) / 1.1)) * (inside < 0.4)
        level = level + ring * np.clip(3.0 - level, 0, 9)
    level = level + share * (interior - level)
    specular = specular * (1 - share)
    if lesion.margin in ("circumscribed", "microlobulated"):
        # A capsule mirrors where the beam meets it squarely: at the top and at the bottom.
        capsule = np.exp(-np.square(inside / np.float32(0.22))) * np.square(v / np.maximum(radius, 1e-3))
        specular = specular + np.float32(rng.uniform(0.3, 1.6)) * capsule
    if lesion.margin == "spiculated":
        level = _spiculate(level, grid, (centre_x, centre_z), (half_x, half_z), rng)
    if lesion.calcifications:
        inner = np.flatnonzero(inside > 0.2 * min(half_x, half_z))
        spots = rng.choice(inner, size=int(rng.integers(3, 11))) if inner.size else inner
        specular.flat[spots] += rng.uniform(3.0, 12.0, size=spots.size).astype(np.float32)

    excess = POSTERIOR_DB[lesion.posterior] * float(rng.uniform(0.6, 1.3)) + float(rng.normal())
    thickness = np.maximum(mask.sum(axis=0).max() * grid.step_mm, 1.0)
    shading = share * np.float32(excess / thickness * grid.step_mm)
    if lesion.margin == "circumscribed":
        # Refraction at the flanks of a smooth mass throws thin shadows.
        flank = np.exp(-np.square(inside / 0.5)) * np.square(u / np.maximum(radius, 1e-3))
        shading = shading - np.float32(0.03 * rng.uniform(0.0, 1.5)) * flank
    return Tissue(
        backscatter_db=level.astype(np.float32),
        specular=specular.astype(np.float32),
        attenuation=attenuation,
        shading_db=shading.astype(np.float32),
        mask=mask,
    )


def _outline(lesion: Lesion, rng: np.random.Generator) -> Field:
    """Return the relative radius of the margin around the lesion, over -pi to pi."""
    theta = np.linspace(-np.pi, np.pi, 361)

    def harmonics(orders: range, height: float) -> Field:
        waves = np.zeros_like(theta)
        for order in orders:
            waves += rng.normal() * np.cos(order * theta + rng.uniform(0, 2 * np.pi)) / np.sqrt(len(orders))
        return height * waves

    radius = np.ones_like(theta) + harmonics(range(2, 4), 0.04)
    if lesion.shape == "irregular":
        radius += harmonics(range(2, 7), 0.17)
    if lesion.margin == "microlobulated":
        count = int(rng.integers(9, 15))
        radius += 0.07 * np.abs(np.sin(count * theta / 2 + rng.uniform(0, np.pi))) - 0.04
    elif lesion.margin == "angular":
        radius += harmonics(range(4, 9), 0.09)
    elif lesion.margin in ("spiculated", "indistinct"):
        radius += harmonics(range(5, 13), 0.06)
    radius[-1] = radius[0]
    return np.clip(radius, 0.5, 1.5)


def _spiculate(
    level: Field,
    grid: Grid,
    centre: tuple[float, float],
    halves: tuple[float, float],
    rng: np.random.Generator,
) -> Field:
    """Draw the dark rays by which a spiculated mass pulls at its surroundings."""
    canvas = Image.new("L", (grid.columns, grid.rows))
    draw = ImageDraw.Draw(canvas)
    for _ in range(int(rng.integers(9, 17))):
        theta = rng.uniform(0, 2 * np.pi)
        near, far = 0.8, rng.uniform(1.25, 1.8)
        side = theta + 0.09
        points = [
            (centre[0] + near * halves[0] * np.cos(theta - 0.09), centre[1] + near * halves[1] * np.sin(theta - 0.09)),
            (centre[0] + far * halves[0] * np.cos(theta), centre[1] + far * halves[1] * np.sin(theta)),
            (centre[0] + near * halves[0] * np.cos(side), centre[1] + near * halves[1] * np.sin(side)),
        ]
        draw.polygon([(a / grid.step_mm, b / grid.step_mm) for a, b in points], fill=255)
    rays = np.asarray(canvas, dtype=np.float32) / 255
    return level - rays * np.clip(level + 17.0, 0, 12)
