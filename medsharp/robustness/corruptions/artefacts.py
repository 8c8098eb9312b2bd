"""Artefacts of propagation: acoustic shadow, reverberation, haze."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from medsharp.robustness.corruptions.scan import (
    GREY_PER_DB,
    across_of,
    add_decibels,
    depth_of,
    scan_box,
    scan_mask,
    to_grey,
)

_GHOSTS = 4
_DECAY_DB = 4.0


def acoustic_shadow(image: np.ndarray, rng: np.random.Generator, *, decibels: float, width: float) -> np.ndarray:
    """Darken a band from a random depth down, as beneath a calcification, a rib or a gap in the gel.

    Args:
        image: uint8 [H, W].
        rng: Draws where.
        decibels: Loss within the shadow.
        width: Half its width over that of the scan.
    """
    mask = scan_mask(image)
    box = scan_box(mask)
    centre, start = rng.uniform(0.25, 0.75), rng.uniform(0.1, 0.4)
    across, depth = across_of(box, image.shape[1]), depth_of(box, image.shape[0])
    # Flat within and soft at the edges, as a wide aperture sees around what casts it.
    profile = np.exp(-np.power((across - np.float32(centre)) / np.float32(width), 4))
    below = np.clip((depth - np.float32(start)) / np.float32(0.06), 0, 1)
    return add_decibels(image, -np.float32(decibels) * profile * below, mask)


def reverberation(image: np.ndarray, rng: np.random.Generator, *, decibels: float) -> np.ndarray:
    """Add the echoes that go back and forth between probe and skin: bright lines at equal distances.

    Line `k` lies at `k + 1` times the depth of the first interface and is 4 dB weaker than the one before; powers add.

    Args:
        image: uint8 [H, W].
        rng: Draws the depth of the interface, and where along it the lines are strong.
        decibels: Level of the first line above black.
    """
    mask = scan_mask(image)
    box = scan_box(mask)
    depth, across = depth_of(box, image.shape[0]), across_of(box, image.shape[1])
    period, centre, half = rng.uniform(0.09, 0.15), rng.uniform(0.3, 0.7), rng.uniform(0.3, 0.45)
    ripple = ndimage.zoom(rng.standard_normal(9), image.shape[1] / 9, order=1)[: image.shape[1]]
    lateral = -12 * np.square((across - centre) / half) + 1.5 * ripple[None, :]
    power = np.exp(image * np.float32(np.log(10) / 10 / GREY_PER_DB))
    axial = np.zeros_like(depth)
    for ghost in range(_GHOSTS):
        near = np.exp(-0.5 * np.square((depth - np.float32((ghost + 2) * period)) / np.float32(0.006)))
        axial += near * np.float32(10 ** ((decibels - _DECAY_DB * ghost) / 10))
    # Ghosts have speckle, as all echoes.
    speckle = rng.standard_exponential(image.shape, dtype=np.float32)
    power += axial * np.power(10, lateral / 10).astype(np.float32) * speckle
    level = np.float32(10) * np.log10(power) * GREY_PER_DB
    return to_grey(image + mask * (level - image))


def haze(image: np.ndarray, rng: np.random.Generator, *, strength: float) -> np.ndarray:
    """Add a veil of noise on a ring around the probe: `x + strength U exp(-(d - r)^2 / (2 s^2))`.

    The law of usaugment (Tupper and Gagné, 2025), with the width of the ring held at 0.15 and the grain of speckle, as
    white noise would look like a broken cable.

    Args:
        image: uint8 [H, W].
        rng: Draws the radius `r` and the noise `U`, uniform on 0 to 1.
        strength: Over the range of grey levels.
    """
    mask = scan_mask(image)
    box = scan_box(mask)
    depth, across = depth_of(box, image.shape[0]), across_of(box, image.shape[1])
    sideways = (across - np.float32(0.5)) * np.float32(box.width / max(1, box.height))
    distance = np.sqrt(np.square(depth) + np.square(sideways))
    ring = np.exp(-np.square((distance - np.float32(rng.uniform(0.2, 0.7))) / np.float32(0.15)) / 2)
    noise = ndimage.gaussian_filter(rng.random(image.shape, dtype=np.float32), 0.7, mode="nearest", truncate=2.0)
    return to_grey(image + mask * ring * noise * np.float32(255 * strength))
