"""The statistics of a picture are what they are called, worked out in plain ways."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from medsharp.data.phantom.simulate import simulate_image
from medsharp.images import DecodedImage
from medsharp.inference.checks.picture import Picture, reduced
from medsharp.inference.checks.statistics import NAMES, statistics_of


def pictures() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(5)
    lesion = simulate_image("A", "malignant", rng, size=150).pixels[:118]
    steps = np.repeat(np.arange(0, 256, 5, dtype=np.uint8), 3)[None] * np.ones((90, 1), dtype=np.uint8)
    steps[20:45, 30:60] = 255
    return {"lesion": lesion, "wide": lesion[:70], "noise": rng.integers(0, 256, (128, 97), np.uint8), "steps": steps}


@pytest.mark.parametrize("name", pictures())
def test_statistics_are_those_worked_out_plainly(name: str) -> None:
    grey = pictures()[name]
    found = dict(zip(NAMES, statistics_of(Picture(DecodedImage(grey, "array"))), strict=True))
    large, small = (reduced(grey, side, enlarge=True) for side in (128, 64))
    values = large.astype(np.float64)
    expected = _levels(values) | _edges(large, 128) | _edges(small, 64) | _spectrum(values) | _lags(values)
    expected |= _blocks(values) | _profile(values)
    assert list(found) == list(NAMES)
    assert set(expected) == set(NAMES)
    assert found == pytest.approx(expected, rel=1e-4, abs=1e-5)


def _levels(grey: np.ndarray) -> dict[str, float]:
    third = np.mean((grey - grey.mean()) ** 3)
    return {"mean": grey.mean() / 64, "deviation": grey.std() / 32, "skewness": third / (grey.std() ** 3 + 50)}


def _edges(grey: np.ndarray, side: int) -> dict[str, float]:
    signed = grey.astype(int)
    across, down = (
        np.array([[signed[y + dy, x + dx] - signed[y, x] for x in range(grey.shape[1] - 1)] for y in _but_last(grey)])
        for dy, dx in ((0, 1), (1, 0))
    )
    size = np.hypot(across, down)
    found = {
        "edge": np.log(size.mean() + 0.3),
        "direction": np.log((np.mean(down**2) + 0.1) / (np.mean(across**2) + 0.1)),
        "edge_peaks": np.log(np.mean(size**2) / (size.mean() ** 2 + 0.1) + 0.1),
        "flat": np.mean(size < 1.5),
        "sharp": np.mean(size > 60),
    }
    kinds = np.zeros(10)
    around = ((-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1))
    for y in range(1, grey.shape[0] - 1):
        for x in range(1, grey.shape[1] - 1):
            ring = [signed[y + dy, x + dx] > signed[y, x] + 2 for dy, dx in around]
            turns = sum(one != other for one, other in zip(ring, [*ring[1:], ring[0]], strict=True))
            kinds[sum(ring) if turns <= 2 else 9] += 1
    found |= {f"pattern_{number}": share for number, share in enumerate(kinds / kinds.sum())}
    return {f"{key}_{side}": float(value) for key, value in found.items()}


def _but_last(grey: np.ndarray) -> range:
    return range(grey.shape[0] - 1)


def _spectrum(grey: np.ndarray) -> dict[str, float]:
    height, width = grey.shape
    power = np.abs(np.fft.fft2((grey - grey.mean()) * np.outer(np.hanning(height), np.hanning(width)))) ** 2
    down, across = np.meshgrid(np.fft.fftfreq(height), np.fft.fftfreq(width), indexing="ij")
    radius, angle = np.hypot(down, across), np.degrees(np.arctan2(np.abs(down), np.abs(across)))
    edges = (0.015, 0.03, 0.06, 0.12, 0.2, 0.3, 0.5)
    bands = [power[(radius >= low) & (radius < high)].sum() for low, high in itertools.pairwise(edges)]
    found = {f"band_{number}": np.log(band / (sum(bands) + 1) + 1e-4) for number, band in enumerate(bands)}
    for name, low, high in (("coarse", 0.03, 0.12), ("fine", 0.12, 0.4)):
        inside = (radius >= low) & (radius < high)
        thirds = [
            power[inside & (angle >= start) & (angle < start + 30 + (start == 60))].sum() for start in (0, 30, 60)
        ]
        found |= {
            f"{name}_{third}": share / (sum(thirds) + 1)
            for third, share in zip(("across", "oblique", "down"), thirds, strict=True)
        }
    return {key: float(value) for key, value in found.items()}


def _lags(grey: np.ndarray) -> dict[str, float]:
    centred, variance = grey - grey.mean(), grey.var() + 1
    across = {f"lag_x_{lag}": np.mean(centred[:, lag:] * centred[:, :-lag]) / variance for lag in (1, 2, 4, 8)}
    return across | {f"lag_y_{lag}": np.mean(centred[lag:] * centred[:-lag]) / variance for lag in (1, 2, 4, 8)}


def _blocks(grey: np.ndarray) -> dict[str, float]:
    blocks = [grey[y : y + 8, x : x + 8] for y in _whole(grey.shape[0]) for x in _whole(grey.shape[1])]
    means, deviations = np.array([block.mean() for block in blocks]), np.array([block.std() for block in blocks])
    lit = means > 15
    growth = np.corrcoef(means, deviations)[0, 1] if means.std() > 1 and deviations.std() > 0.5 else 0.0
    found = {"speckle_growth": growth, "lit": lit.mean(), "uneven": np.log1p(means.std())}
    for share in (10, 50, 90):
        found[f"speckle_{share}"] = np.log1p(np.quantile(deviations[lit], share / 100))
        found[f"ratio_{share}"] = np.quantile(deviations[lit] / (means[lit] + 5), share / 100)
    return {key: float(value) for key, value in found.items()}


def _whole(side: int) -> range:
    return range(0, side // 8 * 8, 8)


def _profile(grey: np.ndarray) -> dict[str, float]:
    rows, columns, whole = grey.mean(axis=1), grey.mean(axis=0), grey.mean() + 5
    depth, sides = ([part.mean() / whole for part in np.array_split(means, 6)] for means in (rows, columns))
    found = {f"depth_{number}": value for number, value in enumerate(depth)}
    found |= {"left": sides[0], "right": sides[5], "middle": (sides[2] + sides[3]) / 2}
    found |= {"rows": np.log1p(rows.std()), "columns": np.log1p(columns.std())}
    found["asymmetry"] = np.mean(np.abs(np.array(sides) - sides[::-1]))
    return {key: float(value) for key, value in found.items()}
