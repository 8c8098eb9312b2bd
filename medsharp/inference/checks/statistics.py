"""Statistics that tell an ultrasound image from anything else: grey levels, edges, texture, spectrum, speckle, depth.

Ultrasound is layered across the beam, speckled everywhere at a few pixels' size, and darker with depth; photographs,
text, radiographs and slices of other scanners are not. All of it is measured at one size, so that a screen's resolution
does not matter. Sources: speckle and its ratio of mean to deviation, Wagner et al., IEEE Trans Sonics Ultrason 30,
1983; local binary patterns, Ojala et al., IEEE TPAMI 24, 2002; spectra of natural images, Field, J Opt Soc Am A 4,
1987.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from medsharp.inference.checks.picture import Picture, reduced

SIDE = 128
"""Longest side in pixels at which the statistics are taken, and half of it."""

_BLOCK = 8
_LIT = 15
_NOISE = 2
"""Grey levels by which a neighbour must be brighter to count in a local pattern."""

_BANDS = (0.015, 0.03, 0.06, 0.12, 0.2, 0.3, 0.5)
"""Limits of the bands of spatial frequency, cycles a pixel."""

_DIRECTED = ((0.03, 0.12), (0.12, 0.4))


def statistics_of(picture: Picture) -> np.ndarray:
    """Return the statistics of an image, float64 [K], in the order of `NAMES`."""
    large = reduced(picture.grey, SIDE, enlarge=True)
    small = reduced(picture.grey, SIDE // 2, enlarge=True)
    grey = large.astype(np.float32)
    parts = (
        _grey(grey),
        _edges(large),
        _edges(small),
        _spectrum(grey),
        _autocorrelation(grey),
        _blocks(grey),
        _profile(grey),
    )
    return np.concatenate(parts).astype(np.float64)


_EDGE_NAMES = ("edge", "direction", "edge_peaks", "flat", "sharp", *(f"pattern_{number}" for number in range(10)))
NAMES = (
    *("mean", "deviation", "skewness"),
    *(f"{name}_{SIDE}" for name in _EDGE_NAMES),
    *(f"{name}_{SIDE // 2}" for name in _EDGE_NAMES),
    *(f"band_{number}" for number in range(len(_BANDS) - 1)),
    *(f"{band}_{third}" for band in ("coarse", "fine") for third in ("across", "oblique", "down")),
    *(f"lag_{axis}_{lag}" for axis in "xy" for lag in (1, 2, 4, 8)),
    *("speckle_growth", "speckle_10", "speckle_50", "speckle_90", "ratio_10", "ratio_50", "ratio_90", "lit", "uneven"),
    *(f"depth_{number}" for number in range(6)),
    *("left", "right", "middle", "rows", "columns", "asymmetry"),
)
"""What the statistics are, in their order."""


def _grey(grey: np.ndarray) -> np.ndarray:
    """Mean, deviation and skewness. Shares of single levels would tell one hospital's screen from another's."""
    mean, deviation = float(grey.mean()), float(grey.std())
    centred = grey - mean
    # A product: NumPy's power of 3 takes 70 times as long.
    third = float((centred * centred * centred).mean())
    return np.array([mean / 64, deviation / 32, third / (deviation**3 + 50)])


def _edges(grey: np.ndarray) -> np.ndarray:
    """How strong edges are, whether they lie across the beam, and which local patterns there are."""
    signed = grey.astype(np.int16)
    corner = signed[:-1, :-1]
    across = (signed[:-1, 1:] - corner).astype(np.float32)
    down = (signed[1:, :-1] - corner).astype(np.float32)
    squares = across**2 + down**2
    size = np.sqrt(squares)
    mean = float(size.mean())
    direction = np.log((float((down**2).mean()) + 0.1) / (float((across**2).mean()) + 0.1))
    peaks = np.log(float(squares.mean()) / (mean**2 + 0.1) + 0.1)
    shares = (np.log(mean + 0.3), direction, peaks, (size < 1.5).mean(), (size > 60).mean())
    return np.array([*shares, *_patterns(signed)])


def _patterns(grey: np.ndarray) -> np.ndarray:
    """Shares of the ten rotation-invariant uniform local binary patterns of eight neighbours."""
    rows, columns = grey.shape[0] - 2, grey.shape[1] - 2
    centre = grey[1:-1, 1:-1] + _NOISE
    ring = ((0, 1), (0, 2), (1, 2), (2, 2), (2, 1), (2, 0), (1, 0), (0, 0))
    brighter = np.stack([grey[y : y + rows, x : x + columns] > centre for y, x in ring])
    turns = (brighter != np.roll(brighter, 1, axis=0)).sum(axis=0)
    codes = np.where(turns <= 2, brighter.sum(axis=0), 9)
    return np.bincount(codes.ravel(), minlength=10) / codes.size


@lru_cache(maxsize=64)
def _frequencies(height: int, width: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """Return window, band of each frequency, and directed part of each, -1 for none, of an image's half spectrum."""
    window = np.hanning(height)[:, None] * np.hanning(width)
    down, across = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None]
    radius = np.hypot(down, across)
    band = np.digitize(radius, _BANDS) - 1
    band[(radius < _BANDS[0]) | (radius >= _BANDS[-1])] = -1
    third = np.minimum((np.arctan2(np.abs(down), across) / (np.pi / 6)).astype(int), 2)
    directed = np.full(radius.shape, -1)
    for number, (low, high) in enumerate(_DIRECTED):
        inside = (radius >= low) & (radius < high)
        directed[inside] = number * 3 + third[inside]
    return window.astype(np.float32), band + 1, directed + 1, len(_BANDS)


def _spectrum(grey: np.ndarray) -> np.ndarray:
    """Share of the power in each band, in logarithms; of a coarse and a fine band by direction."""
    window, band, directed, bands = _frequencies(*grey.shape)
    power = np.abs(np.fft.rfft2((grey - grey.mean()) * window)) ** 2
    power[:, 1:] *= 2  # the half that a real image's spectrum leaves out
    by_band = np.bincount(band.ravel(), power.ravel(), minlength=bands)[1:]
    shares = np.log(by_band / (by_band.sum() + 1) + 1e-4)
    by_direction = np.bincount(directed.ravel(), power.ravel(), minlength=7)[1:].reshape(2, 3)
    return np.concatenate([shares, (by_direction / (by_direction.sum(axis=1, keepdims=True) + 1)).ravel()])


def _autocorrelation(grey: np.ndarray) -> np.ndarray:
    """Correlation with the image moved by 1, 2, 4 and 8 pixels: how large speckles are, across and down."""
    centred = grey - grey.mean()
    variance = float((centred**2).mean()) + 1
    across = [float((centred[:, lag:] * centred[:, :-lag]).mean()) for lag in (1, 2, 4, 8) if lag < grey.shape[1]]
    down = [float((centred[lag:] * centred[:-lag]).mean()) for lag in (1, 2, 4, 8) if lag < grey.shape[0]]
    across, down = across + [0.0] * (4 - len(across)), down + [0.0] * (4 - len(down))
    return np.array([*across, *down]) / variance


def _blocks(grey: np.ndarray) -> np.ndarray:
    """Speckle in blocks: its deviation, and that over the mean, where there is light; does it grow with the mean?"""
    height, width = (side // _BLOCK * _BLOCK for side in grey.shape)
    cut = grey[:height, :width].reshape(height // _BLOCK, _BLOCK, width // _BLOCK, _BLOCK)
    tiles = cut.swapaxes(1, 2).reshape(-1, _BLOCK * _BLOCK)
    means, deviations = tiles.mean(axis=1), tiles.std(axis=1)
    lit = means > _LIT
    growth = np.corrcoef(means, deviations)[0, 1] if means.std() > 1 and deviations.std() > 0.5 else 0.0
    speckle, ratio = np.zeros(3), np.zeros(3)
    if lit.sum() > 4:
        speckle = np.quantile(deviations[lit], (0.1, 0.5, 0.9))
        ratio = np.quantile(deviations[lit] / (means[lit] + 5), (0.1, 0.5, 0.9))
    return np.array([growth, *np.log1p(speckle), *ratio, lit.mean(), np.log1p(means.std())])


def _profile(grey: np.ndarray) -> np.ndarray:
    """Brightness by depth, at the sides and in the middle, and how unlike left and right are."""
    rows, columns = grey.mean(axis=1), grey.mean(axis=0)
    whole = float(grey.mean()) + 5
    depth = np.array([part.mean() for part in np.array_split(rows, 6)]) / whole
    sides = np.array([part.mean() for part in np.array_split(columns, 6)]) / whole
    spread = np.log1p([rows.std(), columns.std()])
    return np.array([*depth, sides[0], sides[-1], sides[2:4].mean(), *spread, np.abs(sides - sides[::-1]).mean()])
