"""Whatever is on two sides is refused, and both rows are named with their data set."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from medsharp.data import Manifest, assert_no_leak, open_dataset, split_manifest, tie_duplicates
from medsharp.data.leaks import near_between
from medsharp.errors import InputError


def picture(seed: int) -> Image.Image:
    """Smooth structure with grain on it: different seeds have hashes far apart, and pixels that tell them apart."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(30, 200, (12, 14), dtype=np.uint8)).resize(
        (112, 96), Image.Resampling.BICUBIC
    )
    grain = rng.integers(-25, 25, (96, 112))
    return Image.fromarray(np.clip(np.asarray(coarse) + grain, 0, 255).astype(np.uint8))


def hospital(root: Path, first: int, count: int = 24) -> Manifest:
    for label in ("benign", "malignant"):
        (root / label).mkdir(parents=True)
    for number in range(first, first + count):
        picture(number).save(root / ("malignant" if number % 3 == 0 else "benign") / f"{number:03d}.png")
    return tie_duplicates(open_dataset(root))


def test_different_hospitals_pass(tmp_path: Path) -> None:
    assert_no_leak(hospital(tmp_path / "one", 0), hospital(tmp_path / "two", 100))


def test_same_file_in_two_data_sets_is_refused(tmp_path: Path) -> None:
    one, two = hospital(tmp_path / "one", 0), hospital(tmp_path / "two", 20)
    with pytest.raises(
        InputError, match=r"the same file is in two data sets: one, row .*, and 3 more pairs so"
    ) as caught:
        assert_no_leak(one, two)
    assert "two, row" in str(caught.value)
    named = str(caught.value).split("(")[1].split(")")[0]
    assert one.table.at[int(str(caught.value).split("row ")[1].split(" ")[0]) - 2, "image"] == named


@pytest.mark.parametrize("change", ["smaller", "mirrored", "jpeg"])
def test_near_duplicate_in_two_data_sets_is_refused(tmp_path: Path, change: str) -> None:
    one = hospital(tmp_path / "one", 0)
    two = hospital(tmp_path / "two", 100)
    image = picture(4)
    name = "again.jpg" if change == "jpeg" else "again.png"
    if change == "smaller":
        image = image.filter(ImageFilter.GaussianBlur(0.5)).resize((90, 77))
    elif change == "mirrored":
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    image.save(tmp_path / "two/benign" / name)
    two = tie_duplicates(open_dataset(tmp_path / "two"))
    with pytest.raises(InputError, match="near-duplicates are in two data sets") as caught:
        assert_no_leak(one, two)
    rows = {
        m.info.name: int(m.table.index[m.table["image"] == image][0]) + 2
        for m, image in ((one, "benign/004.png"), (two, f"benign/{name}"))
    }
    assert f"one, row {rows['one']} (benign/004.png)" in str(caught.value)
    assert f"two, row {rows['two']} (benign/{name})" in str(caught.value)


def test_equal_hashes_of_different_pictures_pass(tmp_path: Path) -> None:
    one, two = hospital(tmp_path / "one", 0), hospital(tmp_path / "two", 100)
    table = two.table.copy()
    table["dhash"] = one.table["dhash"].to_numpy()
    assert_no_leak(one, two.replace(table=table))


def test_leak_within_a_manifest_names_data_set_rows_and_images(tmp_path: Path) -> None:
    manifest = split_manifest(hospital(tmp_path / "one", 0, 40))
    table = manifest.table.copy()
    sides = [int(table.index[table["split"] == split][0]) for split in ("train", "test")]
    table.loc[sides, "group"] = "same"
    with pytest.raises(InputError, match="one: the same group is on two sides: row") as caught:
        assert_no_leak(manifest.replace(table=table))
    for row, split in zip(sides, ("train", "test"), strict=True):
        assert f"row {row + 2} ({table.at[row, 'image']}) in {split}" in str(caught.value)


def test_hash_that_is_none_names_its_row(tmp_path: Path) -> None:
    one, two = hospital(tmp_path / "one", 0), hospital(tmp_path / "two", 100)
    table = two.table.copy()
    table.loc[3, "dhash"] = "12"
    with pytest.raises(InputError, match="two, row 5: dhash must be 128 hexadecimal digits"):
        assert_no_leak(one, two.replace(table=table))


def test_near_pairs_are_between_the_two_sides_only() -> None:
    rng = np.random.default_rng(0)
    one = rng.integers(0, 256, (20, 2, 32), dtype=np.uint8)
    other = rng.integers(0, 256, (30, 2, 32), dtype=np.uint8)
    one[3] = one[4]
    other[7] = one[5]
    other[7, 0, 0] ^= 7
    other[9, 1] = one[6, 0]
    assert near_between(one, other) == [(5, 7), (6, 9)]
    assert near_between(one[:0], other) == []
