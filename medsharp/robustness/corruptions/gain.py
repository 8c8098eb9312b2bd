"""Settings of the receiver: gain, time gain, attenuation that is not made up for, and display range."""

from __future__ import annotations

import numpy as np

from medsharp.robustness.corruptions.scan import add_decibels, depth_of, scan_box, scan_mask, to_grey

SLIDERS = 8
"""Time-gain sliders of a usual console."""


def gain(image: np.ndarray, rng: np.random.Generator, *, decibels: float) -> np.ndarray:
    """Turn the overall gain.

    Args:
        image: uint8 [H, W].
        rng: Not used.
        decibels: Above 0 is brighter.
    """
    return add_decibels(image, decibels, scan_mask(image))


def time_gain(image: np.ndarray, rng: np.random.Generator, *, decibels: float) -> np.ndarray:
    """Set the time-gain sliders wrongly: bands of depth too bright and too dark.

    Args:
        image: uint8 [H, W].
        rng: Draws the sliders.
        decibels: Root mean square of their errors, whose mean is 0.
    """
    mask = scan_mask(image)
    sliders = rng.standard_normal(SLIDERS)
    sliders -= sliders.mean()
    sliders *= decibels / np.sqrt(np.mean(sliders**2))
    depth = depth_of(scan_box(mask), image.shape[0])
    return add_decibels(image, np.interp(depth, np.linspace(0, 1, SLIDERS), sliders), mask)


def depth_attenuation(image: np.ndarray, rng: np.random.Generator, *, rate: float) -> np.ndarray:
    """Multiply grey levels by `exp(-rate d)` at depth `d` from 0 to 1.

    The law of usaugment (Tupper and Gagné, 2025), with depth counted from a linear probe.

    Args:
        image: uint8 [H, W].
        rng: Not used.
        rate: It draws it between 0 and 3.
    """
    depth = depth_of(scan_box(scan_mask(image)), image.shape[0])
    return to_grey(image * np.exp(-np.float32(rate) * depth))


def display_range(image: np.ndarray, rng: np.random.Generator, *, decibels: float) -> np.ndarray:
    """Show another range of echo levels than 60 dB, about the mean grey level of the scan.

    Args:
        image: uint8 [H, W].
        rng: Not used.
        decibels: Below 60 is harder, above flatter.
    """
    mask = scan_mask(image)
    middle = np.float32((image * mask).sum() / mask.sum())
    change = (image - middle) * np.float32(60 / decibels - 1)
    return to_grey(image + mask * change)
