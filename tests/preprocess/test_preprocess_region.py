"""The region rule cuts what stands beside the scan and no lesion; the rules that bundles name never change."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medsharp.data.lesion import lesion_area
from medsharp.data.sources import open_dataset
from medsharp.images import read_image
from medsharp.preprocess import Crop, PreprocessSpec, placement, preprocess

REGION = PreprocessSpec(64, crop="region")


def fixed_screen() -> np.ndarray:
    """A picture made without a random generator, so that no library's change can change it."""
    rows, columns = np.indices((150, 210))
    screen = np.zeros((200, 300), dtype=np.uint8)
    screen[30:180, 50:260] = (rows * 7 + columns * 13 + (rows * columns) % 89) % 180 + 30
    screen[60:120:9, 270:276] = 200  # a ruler
    screen[2:10, 10:120:3] = 220  # text
    return screen


@pytest.mark.parametrize(
    ("crop", "fit", "digest"),
    [
        ("scan", "letterbox", "7aed597d28d73021"),
        ("scan", "stretch", "ec1218b35a5a8689"),
        ("none", "letterbox", "9de8c968828df90a"),
        ("region", "letterbox", "5e18d9d0fc55aa62"),
    ],
)
def test_rules_that_bundles_name_give_the_same_bytes_for_ever(crop: Crop, fit: Any, digest: str) -> None:
    placed = preprocess(fixed_screen(), PreprocessSpec(96, crop, fit))
    assert hashlib.sha256(placed.tobytes()).hexdigest()[:16] == digest


@pytest.mark.parametrize("seed", range(12))
def test_screen_is_cut_to_the_scan(simulated: Any, vendor_screen: Any, seed: int) -> None:
    _, clean, _ = simulated("A", seed)
    top, left, bottom, right = placement(clean, PreprocessSpec(64)).crop
    scan = clean[top:bottom, left:right]
    screen, box = vendor_screen(scan, seed)
    found = placement(screen, REGION).crop
    # Dark rows at the bottom of a scan may go; nothing beside it may stay.
    assert found[0] >= box[0]
    assert found[1] >= box[1]
    assert found[2] <= box[2]
    assert found[3] <= box[3]
    area = (found[2] - found[0]) * (found[3] - found[1])
    assert area > 0.85 * (box[2] - box[0]) * (box[3] - box[1])


@pytest.mark.parametrize("hospital", ["A", "B", "C"])
def test_no_lesion_of_a_simulated_hospital_is_cut(simulated: Any, hospital: str) -> None:
    for seed in range(12):
        screen, _, mask = simulated(hospital, seed)
        top, left, bottom, right = placement(screen, REGION).crop
        assert mask[top:bottom, left:right].sum() >= 0.99 * mask.sum()


def test_ruler_beside_a_simulated_scan_is_cut(simulated: Any) -> None:
    cut = 0
    for seed in range(12):
        screen, _, _ = simulated("C", seed)
        region, scan = placement(screen, REGION).crop, placement(screen, PreprocessSpec(64)).crop
        assert region[3] <= scan[3]
        cut += region[3] < scan[3]
    assert cut >= 6


def test_both_of_two_views_are_kept() -> None:
    rng = np.random.default_rng(0)
    screen = np.zeros((200, 420), dtype=np.uint8)
    screen[20:180, 10:200] = rng.integers(30, 200, (160, 190))
    screen[20:180, 220:410] = rng.integers(30, 200, (160, 190))
    assert placement(screen, REGION).crop == (20, 10, 180, 410)


def test_depth_behind_a_dark_band_is_kept() -> None:
    rng = np.random.default_rng(0)
    screen = np.zeros((200, 300), dtype=np.uint8)
    screen[:90] = rng.integers(30, 200, (90, 300))
    screen[130:] = rng.integers(30, 200, (70, 300))
    assert placement(screen, REGION).crop == (0, 0, 200, 300)


@pytest.mark.parametrize("level", [0, 12, 128, 255])
def test_even_image_is_left_whole(level: int) -> None:
    assert placement(np.full((50, 60), level, dtype=np.uint8), REGION).crop == (0, 0, 50, 60)


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (2, 2), (40, 2)])
def test_smallest_images_are_placed(shape: tuple[int, int]) -> None:
    pixels = np.full(shape, 90, dtype=np.uint8)
    assert preprocess(pixels, REGION).shape == (64, 64)


def _boxes(manifest: Any, row: dict[str, str]) -> tuple[float, float]:
    """Return the share of the lesion and of the image that the rule cuts."""
    image = read_image(manifest.path(row["image"]))
    mask = lesion_area(manifest.masks(row), image)
    top, left, bottom, right = placement(image.pixels, REGION).crop
    lost = 1 - mask[top:bottom, left:right].sum() / max(mask.sum(), 1) if mask.any() else 0.0
    return float(lost), 1 - (bottom - top) * (right - left) / image.pixels.size


@pytest.mark.parametrize("name", ["Dataset_BUSI_with_GT", "BUSBRA"])
def test_no_lesion_of_a_real_data_set_is_cut(real_data: Path, name: str) -> None:
    manifest = open_dataset(real_data / name)
    cuts = np.array([_boxes(manifest, row) for row in manifest.table.iloc[::3].to_dict("records")])
    assert cuts[:, 0].max() == 0
    assert cuts[:, 1].max() < 0.5
    assert 0.001 < cuts[:, 1].mean() < 0.02


def test_real_scan_on_a_vendors_screen_is_found(real_data: Path, vendor_screen: Callable[..., Any]) -> None:
    manifest = open_dataset(real_data / "Dataset_BUSI_with_GT")
    outside, kept = 0, []
    for number, row in enumerate(manifest.table.iloc[::13].to_dict("records")):
        screen, box = vendor_screen(read_image(manifest.path(row["image"])).pixels, number)
        found = placement(screen, REGION).crop
        outside += any((found[0] < box[0], found[1] < box[1], found[2] > box[2], found[3] > box[3]))
        kept.append((found[2] - found[0]) * (found[3] - found[1]) / ((box[2] - box[0]) * (box[3] - box[1])))
    assert outside <= 1
    assert np.median(kept) > 0.97
    assert min(kept) > 0.4
