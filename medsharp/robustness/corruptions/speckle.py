"""Speckle: more of it, or smoothed away by the scanner's software."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from medsharp.robustness.corruptions.scan import GREY_PER_DB, scan_mask, to_grey


def speckle_statistics(image: np.ndarray, rng: np.random.Generator, *, share: float) -> np.ndarray:
    """Add fully developed speckle with a grain of its own.

    The echo's envelope is multiplied by `R^share`, `R` Rayleigh with the correlation of a point-spread function: on the
    screen, `share` times `20 log10 R` dB is added (Wagner et al., IEEE Trans. Sonics Ultrason. 30, 1983).

    Args:
        image: uint8 [H, W].
        rng: Draws the speckle.
        share: 1 adds as much as an image without any averaging has, 5.6 dB.
    """
    grain = max(0.6, 0.005 * min(image.shape))
    parts = rng.standard_normal((2, *image.shape), dtype=np.float32)
    for axis, sigma in ((1, 0.6 * grain), (2, grain)):
        parts = ndimage.gaussian_filter1d(parts, sigma, axis=axis, mode="nearest", truncate=2.5)
    power = np.square(parts[0]) + np.square(parts[1])
    decibels = np.float32(10) * np.log10(power / power.mean() + np.float32(1e-3))
    # Its mean is -2.5 dB; a scanner's operator would not leave the image darker.
    decibels -= decibels.mean()
    return to_grey(image + scan_mask(image) * (np.float32(share) * GREY_PER_DB * decibels))


def speckle_reduction(image: np.ndarray, rng: np.random.Generator, *, deviation: float) -> np.ndarray:
    """Smooth what varies no more than speckle does, and keep edges (Lee, IEEE Trans. PAMI 2, 1980).

    `m + k (x - m)` with `k = max(0, v - deviation^2) / v`, mean `m` and variance `v` over a window of 3 % of the side.

    Args:
        image: uint8 [H, W].
        rng: Not used.
        deviation: Of what counts as speckle, in grey levels.
    """
    window = max(3, round(0.03 * min(image.shape)) | 1)
    values = image.astype(np.float32)
    mean = ndimage.uniform_filter(values, window, mode="nearest")
    variance = np.maximum(ndimage.uniform_filter(np.square(values), window, mode="nearest") - np.square(mean), 1e-3)
    kept = np.maximum(variance - np.float32(deviation**2), 0) / variance
    return to_grey(mean + kept * (values - mean))
