"""A breast in cross-section: layers, septa, fasciae, ducts, and one lesion, as maps that a scanner can look at."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw
from scipy.ndimage import gaussian_filter

from medsharp.data.phantom.lesions import Lesion
from medsharp.data.phantom.texture import Field, Grid, follow, smooth_curve, smooth_field

# Mean backscatter in dB relative to glandular tissue, and attenuation in dB/cm/MHz (one way).
BACKSCATTER_DB = {"skin": -2.0, "fat": -11.0, "gland": 0.0, "muscle": -11.0}
ATTENUATION = {"skin": 1.2, "fat": 0.55, "gland": 0.85, "muscle": 0.9}
# Mean level of a lesion relative to fat, which is what readers compare it with.
LESION_DB = {"anechoic": -20.0, "hypoechoic": -8.5, "isoechoic": -1.5, "heterogeneous": -6.0}
# Two-way excess over the whole lesion at 10 MHz, in dB: what shows below it.
POSTERIOR_DB = {"enhancement": 8.0, "none": 0.0, "shadow": -16.0}


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
    # Deeper layers sag together and only a little: the chest wall is stiff.
    sag = 1.1 * smooth_curve(grid, 34.0, rng) + _tilt(grid, 0.05, rng)
    skin = 1.5 + 0.12 * smooth_curve(grid, 16.0, rng) + 0.3 * float(rng.normal())
    fat = skin + np.maximum(1.0, breast.fat_mm + 1.5 * smooth_curve(grid, 9.0, rng) + 0.6 * sag)
    gland = np.maximum(fat + 2.0, breast.fat_mm + breast.gland_mm + 0.8 * smooth_curve(grid, 16.0, rng) + sag)
    retro = gland + np.maximum(0.5, 2.0 + 0.7 * smooth_curve(grid, 20.0, rng))
    muscle = retro + float(rng.uniform(6.0, 11.0)) + 0.6 * smooth_curve(grid, 25.0, rng)

    glandular = _between(z, fat, gland, 0.5)
    muscular = _between(z, retro, muscle, 0.3)
    cutaneous = _between(z, np.full_like(skin, -1.0), skin, 0.2)
    fatty = np.float32(1) - cutaneous
    # Glandular tissue is broken up by fat lobules that run along the layer; the denser the fewer.
    course = 0.55 * fat + 0.1 * gland
    lobules = follow(smooth_field(grid, (2.2, 6.5), rng) + 0.6 * smooth_field(grid, (0.9, 2.0), rng), course, grid)
    islands = _step(lobules - 1.4, 0.25) * _between(z, skin + 1.0, fat, 0.6)
    glandular = np.maximum(glandular * _step(lobules + 2.6 * (breast.density - 0.3), 0.4), 0.7 * islands)

    fine = follow(smooth_field(grid, (0.35, 1.1), rng), course, grid)
    strands = follow(smooth_field(grid, (0.8, 3.6), rng), course, grid)
    striae = follow(smooth_field(grid, (0.75, 13.0), rng), retro, grid)
    clouds = smooth_field(grid, (5.0, 7.0), rng)
    level = BACKSCATTER_DB["fat"] + 1.2 * clouds + 1.4 * fine
    level += glandular * (BACKSCATTER_DB["gland"] - BACKSCATTER_DB["fat"] + 2.4 * strands + 2.2 * fine)
    level += muscular * (BACKSCATTER_DB["muscle"] - BACKSCATTER_DB["fat"] + 2.2 * striae + 1.5 * fine)
    level += cutaneous * (BACKSCATTER_DB["skin"] - BACKSCATTER_DB["fat"])
    beyond = np.maximum(z - muscle[None, :], 0.0)
    level -= np.minimum(beyond * np.float32(rng.uniform(0.8, 4.0)) - 2.0 * striae * (beyond > 0), 24.0)

    # Connective tissue lies where smooth fields change sign: sheets that wrap lobules, branch and end.
    septa = follow(
        smooth_field(grid, (3.2, 13.0), rng), _tilt(grid, 0.25, rng) + 2.0 * smooth_curve(grid, 14.0, rng), grid
    )
    sheets = (
        _ridge(septa, 0.5, clouds + 0.2, grid)
        * fatty
        * (1 - muscular)
        * (beyond == 0)
        * np.float32(rng.uniform(0.4, 1.1))
    )
    sheets += _ridge(strands, 0.45, clouds[::-1], grid) * glandular * np.float32(0.6)
    sheets += _ridge(striae, 0.4, clouds[:, ::-1] - 0.3, grid) * muscular * np.float32(rng.uniform(0.4, 1.1))
    sheets += _ridge(striae, 0.4, clouds[::-1] - 0.7, grid) * (beyond > 0) * np.float32(0.2)
    for curve, brightness in ((skin, 0.8), (fat, 0.6), (gland, 0.5), (retro, 1.3), (retro + 0.8, 0.7), (muscle, 1.2)):
        _trace(sheets, curve, brightness, grid, rng)
    level += np.float32(10.0) * np.minimum(sheets, 1.4)
    specular = sheets * np.float32(0.45)
    # The face of the transducer and the skin's entry echo.
    specular[: max(1, round(0.3 / grid.step_mm))] += np.float32(rng.uniform(0.1, 0.9))

    attenuation = np.full(level.shape, ATTENUATION["fat"], dtype=np.float32)
    for share, name in ((glandular, "gland"), (muscular, "muscle"), (cutaneous, "skin")):
        attenuation += share * np.float32(ATTENUATION[name] - ATTENUATION["fat"])
    # Patients differ, and so do neighbouring paths through one breast: vertical bands of light and dark.
    attenuation *= np.float32(np.exp(0.12 * rng.normal())) * (1 + np.float32(0.08) * smooth_curve(grid, 5.0, rng))
    return _insert(lesion, grid, (skin, gland), level, specular, attenuation, rng)


def _tilt(grid: Grid, slope: float, rng: np.random.Generator) -> Field:
    return (grid.x[0] - grid.width_mm / 2) * np.float32(slope * rng.normal())


def _step(value: Field, softness: float) -> Field:
    return np.clip(value / np.float32(2 * softness) + np.float32(0.5), 0.0, 1.0)


def _between(z: Field, top: Field, bottom: Field, softness: float) -> Field:
    return np.minimum(_step(z - top[None, :], softness), _step(bottom[None, :] - z, softness))


def _ridge(field: Field, thickness_mm: float, gate: Field, grid: Grid) -> Field:
    """Return 1 where `field` changes sign along depth, over `thickness_mm`, fading with the smooth `gate`.

    Only the slope along depth counts, so that steep sheets grow thin and vanish, as they do when sound passes by them.
    """
    slope = np.abs(np.diff(field, axis=0, append=field[-1:])) * np.float32(0.5 * thickness_mm / grid.step_mm)
    return np.maximum(0, 1 - np.square(field / (slope + np.float32(0.01)))) * _step(gate, 0.5)


def _trace(sheets: Field, curve: Field, brightness: float, grid: Grid, rng: np.random.Generator) -> None:
    """Draw a fascia along a curve in place; its brightness comes and goes."""
    strength = np.float32(brightness) * np.clip(0.6 + 0.5 * smooth_curve(grid, 4.0, rng), 0.0, 1.4)
    place = curve / np.float32(grid.step_mm) + 0.07 * smooth_curve(grid, 2.5, rng) / np.float32(grid.step_mm)
    row = np.floor(place).astype(np.intp)
    within = (row >= 0) & (row < grid.rows - 2)
    columns, row, share = np.flatnonzero(within), row[within], (place - row)[within]
    for offset, weight in ((0, 1 - share), (1, np.ones_like(share)), (2, share)):
        sheets[row + offset, columns] += strength[within] * weight


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
    centre_x = float(np.clip(rng.normal(0.5, 0.09), 0.25, 0.75)) * grid.width_mm
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
    softness = {"circumscribed": 0.15, "indistinct": 1.5, "microlobulated": 0.25, "angular": 0.35, "spiculated": 0.4}
    mask = inside > 0
    uneven = 0.1 if lesion.margin == "circumscribed" else 0.3
    ragged = inside + np.float32(uneven) * smooth_field(grid, (1.1, 1.4), rng)
    share = _step(ragged, softness[lesion.margin] * float(rng.uniform(0.8, 1.6)))

    target = BACKSCATTER_DB["fat"] + LESION_DB[lesion.echo_pattern] + 1.5 * float(rng.normal())
    spread = {"anechoic": 1.0, "hypoechoic": 1.5, "isoechoic": 1.2, "heterogeneous": 3.6}[lesion.echo_pattern]
    grains = 0.75 * smooth_field(grid, (1.8, 2.8), rng) + 0.65 * smooth_field(grid, (0.7, 1.2), rng)
    interior = target + spread * grains
    if lesion.halo:
        ring = np.exp(-np.square((inside + 1.2) / 1.3)) * (inside < 0.4)
        level = level + ring * np.clip(3.0 - level, 0, 9)
    level = level + share * (interior - level)
    specular = specular * (1 - share)
    if lesion.margin in ("circumscribed", "microlobulated"):
        # A capsule mirrors where the beam meets it squarely: at the top and at the bottom.
        square_on = np.square(v / np.maximum(radius, 1e-3)) * np.clip(
            0.4 + 0.7 * smooth_curve(grid, 4.0, rng), 0.0, 1.2
        )
        capsule = np.exp(-np.square(inside / np.float32(0.2))) * square_on
        specular = specular + np.float32(rng.uniform(0.0, 0.7)) * capsule
        level = level + np.float32(rng.uniform(0.0, 9.0)) * capsule
    if lesion.margin == "spiculated":
        level = _spiculate(level, grid, (centre_x, centre_z), (half_x, half_z), rng)
    if lesion.calcifications:
        inner = np.flatnonzero(inside > 0.2 * min(half_x, half_z))
        spots = rng.choice(inner, size=int(rng.integers(3, 11))) if inner.size else inner
        specular.flat[spots] += rng.uniform(1.5, 5.0, size=spots.size).astype(np.float32)

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

    radius = np.ones_like(theta) + harmonics(range(2, 6), 0.05)
    if lesion.shape == "irregular":
        radius += harmonics(range(2, 7), 0.15)
    if lesion.margin == "microlobulated":
        count = int(rng.integers(9, 15))
        radius += 0.09 * np.abs(np.sin(count * theta / 2 + rng.uniform(0, np.pi))) - 0.05
    elif lesion.margin == "angular":
        radius += harmonics(range(4, 9), 0.12)
    elif lesion.margin in ("spiculated", "indistinct"):
        radius += harmonics(range(5, 13), 0.08)
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
    rays = gaussian_filter(np.asarray(canvas, dtype=np.float32) / 255, 0.2 / grid.step_mm, truncate=2.0)
    return level - rays * np.clip(level + 17.0, 0, 11)
