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

_FLAT, _SHARP = 1.5, 60.0
"""Grey levels a pixel: an edge below is none, one above is as sharp as drawn."""

_BANDS = (0.015, 0.03, 0.06, 0.12, 0.2, 0.3, 0.5)
"""Limits of the bands of spatial frequency, cycles a pixel."""

_DIRECTED = ((0.03, 0.12), (0.12, 0.4))


def statistics_of(picture: Picture) -> np.ndarray:
    """Return the statistics of an image, float64 [K], in the order of `NAMES`."""
    large = reduced(picture.grey, SIDE, enlarge=True)
    small = reduced(picture.grey, SIDE // 2, enlarge=True)
    grey = large.astype(np.float32)
    mean = float(grey.mean())
    centred = grey - grey.mean()
    squares = centred * centred
    variance = float(squares.mean())
    parts = (
        _grey(mean, variance, centred * squares),
        _edges(large),
        _edges(small),
        _spectrum(centred),
        _autocorrelation(centred, variance),
        _blocks(grey),
        _profile(grey, mean),
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


def _grey(mean: float, variance: float, cubes: np.ndarray) -> np.ndarray:
    """Mean, deviation and skewness. Shares of single levels would tell one hospital's screen from another's."""
    deviation = float(np.sqrt(variance))
    return np.array([mean / 64, deviation / 32, float(cubes.mean()) / (deviation**3 + 50)])


def _edges(grey: np.ndarray) -> np.ndarray:
    """How strong edges are, whether they lie across the beam, and which local patterns there are."""
    signed = grey.astype(np.int16)
    corner = signed[:-1, :-1]
    across = (signed[:-1, 1:] - corner).astype(np.float32)
    down = (signed[1:, :-1] - corner).astype(np.float32)
    across *= across
    down *= down
    squares = across + down
    mean = float(np.sqrt(squares).mean())
    direction = np.log((float(down.mean()) + 0.1) / (float(across.mean()) + 0.1))
    peaks = np.log(float(squares.mean()) / (mean**2 + 0.1) + 0.1)
    flat, sharp = (np.count_nonzero(beyond) / squares.size for beyond in (squares < _FLAT**2, squares > _SHARP**2))
    return np.array([np.log(mean + 0.3), direction, peaks, flat, sharp, *_patterns(grey)])


def _patterns(grey: np.ndarray) -> np.ndarray:
    """Shares of the ten rotation-invariant uniform local binary patterns of eight neighbours."""
    rows, columns = grey.shape[0] - 2, grey.shape[1] - 2
    darkest = np.minimum(grey[1:-1, 1:-1], 255 - _NOISE) + np.uint8(_NOISE)
    codes = np.zeros((rows, columns), dtype=np.uint8)
    for bit, (y, x) in enumerate(((0, 1), (0, 2), (1, 2), (2, 2), (2, 1), (2, 0), (1, 0), (0, 0))):
        brighter = (grey[y : y + rows, x : x + columns] > darkest).view(np.uint8)
        codes |= np.left_shift(brighter, bit, out=brighter)
    return np.bincount(_KINDS, np.bincount(codes.ravel(), minlength=256), minlength=10) / codes.size


def _kinds() -> np.ndarray:
    """Return the kind of each local pattern, a bit for each neighbour of a ring: int [256]."""
    bits = np.arange(256)[:, None] >> np.arange(8) & 1
    turns = (bits != np.roll(bits, 1, axis=1)).sum(axis=1)
    return np.where(turns <= 2, bits.sum(axis=1), 9)


_KINDS = _kinds()


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


def _spectrum(centred: np.ndarray) -> np.ndarray:
    """Share of the power in each band, in logarithms; of a coarse and a fine band by direction."""
    window, band, directed, bands = _frequencies(*centred.shape)
    found = np.fft.rfft2(centred * window)
    power = found.real**2 + found.imag**2
    power[:, 1:] *= 2  # the half that a real image's spectrum leaves out
    by_band = np.bincount(band.ravel(), power.ravel(), minlength=bands)[1:]
    shares = np.log(by_band / (by_band.sum() + 1) + 1e-4)
    by_direction = np.bincount(directed.ravel(), power.ravel(), minlength=7)[1:].reshape(2, 3)
    return np.concatenate([shares, (by_direction / (by_direction.sum(axis=1, keepdims=True) + 1)).ravel()])


def _autocorrelation(centred: np.ndarray, variance: float) -> np.ndarray:
    """Correlation with the image moved by 1, 2, 4 and 8 pixels: how large speckles are, across and down."""
    lags, (height, width) = (1, 2, 4, 8), centred.shape
    across = [float((centred[:, lag:] * centred[:, :-lag]).mean()) if lag < width else 0.0 for lag in lags]
    down = [float((centred[lag:] * centred[:-lag]).mean()) if lag < height else 0.0 for lag in lags]
    return np.array([*across, *down]) / (variance + 1)


def _blocks(grey: np.ndarray) -> np.ndarray:
    """Speckle in blocks: its deviation, and that over the mean, where there is light; does it grow with the mean?"""
    height, width = (side // _BLOCK * _BLOCK for side in grey.shape)
    cut = grey[:height, :width].reshape(height // _BLOCK, _BLOCK, width // _BLOCK, _BLOCK)
    tiles = cut.swapaxes(1, 2).reshape(-1, _BLOCK * _BLOCK)
    means = tiles.mean(axis=1)
    gaps = tiles - means[:, None]
    deviations = np.sqrt(np.multiply(gaps, gaps, out=gaps).mean(axis=1))
    lit = means > _LIT
    spread, others = float(means.std()), float(deviations.std())
    growth = 0.0
    if spread > 1 and others > 0.5:
        growth = float(((means - means.mean()) * (deviations - deviations.mean())).mean()) / (spread * others)
    speckle, ratio = np.zeros(3), np.zeros(3)
    if lit.sum() > 4:
        speckle = _quantiles(deviations[lit])
        ratio = _quantiles(deviations[lit] / (means[lit] + 5))
    return np.array([growth, *np.log1p(speckle), *ratio, lit.mean(), np.log1p(spread)])


def _quantiles(values: np.ndarray) -> np.ndarray:
    """Return the quantiles .1, .5 and .9; of a few hundred values a sort takes a fifth of `np.quantile`."""
    values = np.sort(values)
    at = np.array((0.1, 0.5, 0.9)) * (len(values) - 1)
    below = at.astype(int)
    return np.asarray(values[below] + (values[np.minimum(below + 1, len(values) - 1)] - values[below]) * (at - below))


def _profile(grey: np.ndarray, mean: float) -> np.ndarray:
    """Brightness by depth, at the sides and in the middle, and how unlike left and right are."""
    rows, columns = grey.mean(axis=1), grey.mean(axis=0)
    depth, sides = _sixths(rows) / (mean + 5), _sixths(columns) / (mean + 5)
    spread = np.log1p([rows.std(), columns.std()])
    return np.array([*depth, sides[0], sides[-1], sides[2:4].mean(), *spread, np.abs(sides - sides[::-1]).mean()])


def _sixths(values: np.ndarray) -> np.ndarray:
    """Return the mean of each of six parts, as `np.array_split` makes them."""
    count, more = divmod(len(values), 6)
    starts = np.arange(6) * count + np.minimum(np.arange(6), more)
    return np.asarray(np.add.reduceat(values, starts) / np.diff(starts, append=len(values)))
