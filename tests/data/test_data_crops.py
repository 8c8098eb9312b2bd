"""Crops, zooms and further frames are found; other images are not."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from medsharp.data import open_dataset
from medsharp.data.audit import audit_datasets, write_audit
from medsharp.data.duplicates import crops
from medsharp.data.duplicates.crops import Features, crop_matches, describe, search_crops
from medsharp.data.duplicates.index import same_keys


def speckled(seed: int, size: tuple[int, int] = (200, 240)) -> np.ndarray:
    """A picture with structure at many scales."""
    rng = np.random.default_rng(seed)
    layers = [gaussian_filter(rng.normal(size=size), sigma) * sigma for sigma in (1.2, 2.5, 5, 12)]
    return (128 + 60 * sum(layers)).clip(0, 255).astype(np.uint8)


def cropped(pixels: np.ndarray, rng: np.random.Generator, kind: str) -> tuple[np.ndarray, float]:
    """Cut 70 to 95 % of each side out of an image; `zoomed` and `reduced` change its scale too."""
    height, width = pixels.shape
    share = rng.uniform(0.7, 0.95)
    high, wide = int(height * share), int(width * share)
    y, x = rng.integers(0, height - high + 1), rng.integers(0, width - wide + 1)
    part = Image.fromarray(pixels[y : y + high, x : x + wide])
    factor = {"plain": 1.0, "zoomed": 1 / share, "reduced": 0.7}[kind]
    if factor != 1:
        part = part.resize((round(wide * factor), round(high * factor)), Image.Resampling.BICUBIC)
    return np.asarray(part), share


def pairs(features: list[Features | None]) -> set[tuple[int, int]]:
    return {(match.first, match.second) for match in crop_matches(features)}


@pytest.mark.parametrize("kind", ["plain", "zoomed", "reduced"])
def test_crops_are_found_at_any_scale_and_nothing_else(kind: str) -> None:
    rng = np.random.default_rng(0)
    pictures = [speckled(number) for number in range(12)]
    parts = [cropped(picture, rng, kind)[0] for picture in pictures[:6]]
    found = pairs([describe(pixels) for pixels in (*pictures, *parts)])
    assert found == {(number, 12 + number) for number in range(6)}


def test_scale_and_share_are_told() -> None:
    picture = speckled(1)
    part = picture[20:160, 30:198]  # 70 % of each side
    (match,) = crop_matches([describe(picture), None, describe(part)])
    assert (match.first, match.second, match.kind, match.distance) == (0, 2, "crop", None)
    assert match.similarity > 0.7
    # Both have their longest side at 256 pixels when they are compared.
    told = re.fullmatch(r"(\d+)% of one image is in the other, at scale (.*)", match.detail)
    assert told
    assert int(told[1]) >= 97
    assert float(told[2]) == pytest.approx(1 / 0.7, abs=0.03)


def test_one_banner_on_different_images_makes_no_crop() -> None:
    banner = speckled(99, (40, 240))
    pictures = [np.concatenate([banner, speckled(number, (160, 240))]) for number in range(6)]
    assert pairs([describe(pixels) for pixels in pictures]) == set()


def test_flat_and_tiny_images_are_no_trouble() -> None:
    flat = np.full((100, 100), 7, dtype=np.uint8)
    thin = np.zeros((16, 400), dtype=np.uint8)
    assert crop_matches([describe(flat), describe(thin), None]) == []
    assert crop_matches([]) == []


@pytest.mark.slow
def test_crops_of_real_images_are_found_again(real_data: Path) -> None:
    rng = np.random.default_rng(0)
    pictures: list[np.ndarray] = []
    for name in ("Dataset_BUSI_with_GT", "BUSBRA"):
        manifest = open_dataset(real_data / name)
        for image in rng.permutation(manifest.table["image"].to_numpy())[:40]:
            pictures.append(np.asarray(Image.open(manifest.path(image)).convert("L")))
    kinds = ["plain", "zoomed", "reduced"]
    parts = [cropped(pictures[number], rng, kinds[number % 3])[0] for number in range(len(pictures))]
    found = pairs([describe(pixels) for pixels in (*pictures, *parts)])
    planted = {(number, len(pictures) + number) for number in range(len(pictures))}
    assert len(planted & found) >= 0.95 * len(planted)
    # Others are of two images of one scene, and their crops.
    assert len(found - planted) <= 0.15 * len(planted)


def copies(count: int) -> list[Features | None]:
    """One picture several times, among others: its spots are alike in all of them."""
    return [describe(speckled(1))] * count + [describe(speckled(number)) for number in range(2, 5)]


def test_spots_that_too_many_share_are_not_compared_and_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    assert search_crops(copies(5)).notes == ()
    monkeypatch.setattr(crops, "_MOST_IN_BUCKET", 4)
    spots = len(describe(speckled(1)).level)
    full = search_crops(copies(4))
    assert len(full.matches) == 6
    assert full.unsearched == 0
    assert full.crowded < spots  # those found again on other levels
    beyond = search_crops(copies(5))
    assert beyond.matches == ()
    assert beyond.unsearched == 5
    assert 5 * spots <= beyond.crowded < 5 * spots + 10  # two more are alike by chance
    assert beyond.spots == 5 * spots + sum(len(describe(speckled(number)).level) for number in range(2, 5))
    assert beyond.notes == (
        f"crops: {beyond.crowded} of {beyond.spots} spots look like more than 4 others and were not compared; 5 "
        "images have no other spots and were not searched",
    )


def test_limit_of_a_bucket_is_met_exactly() -> None:
    key = np.array([7, 3, 7, 3, 7, 5, 3, 3])
    found = {pair for one, other in same_keys(key, most=3) for pair in zip(one.tolist(), other.tolist(), strict=True)}
    assert found == {(0, 2), (2, 4), (0, 4)}
    every = {pair for one, other in same_keys(key) for pair in zip(one.tolist(), other.tolist(), strict=True)}
    assert len(every) == 3 + 6


def test_limit_keeps_the_search_from_growing_with_the_square() -> None:
    key = np.zeros(201, dtype=np.int64)
    assert crops._MOST_IN_BUCKET == 200
    assert not list(same_keys(key, most=crops._MOST_IN_BUCKET))
    assert sum(len(one) for one, _ in same_keys(key[:200], most=crops._MOST_IN_BUCKET)) == 200 * 199 // 2


def test_audit_says_what_was_not_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(8):
        label = "malignant" if number % 2 else "benign"
        (tmp_path / "data" / label).mkdir(parents=True, exist_ok=True)
        pixels = speckled(1).copy()
        pixels[:60, :60] = speckled(10 + number)[:60, :60]
        Image.fromarray(pixels).save(tmp_path / "data" / label / f"{number}.png")
    manifest = open_dataset(tmp_path / "data")
    assert audit_datasets([manifest]).unsearched == ()
    monkeypatch.setattr(crops, "_MOST_IN_BUCKET", 4)
    found = audit_datasets([manifest])
    (sentence,) = found.unsearched
    assert sentence.startswith("crops: ")
    write_audit(found, tmp_path / "out")
    assert sentence in (tmp_path / "out/audit.html").read_text(encoding="utf-8")
