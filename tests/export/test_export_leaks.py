"""A bundle knows the images that it was made with by their hashes, and says so of a data set that has them."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from medsharp.bundle import read_bundle
from medsharp.data import Manifest, tie_duplicates
from medsharp.data.manifest import DatasetInfo, make_table
from medsharp.errors import InputError
from medsharp.inference.leaks import leaks, write_hashes


def picture(seed: int) -> Image.Image:
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(30, 200, (12, 14), dtype=np.uint8))
    coarse = coarse.resize((112, 96), Image.Resampling.BICUBIC)
    return Image.fromarray(np.clip(np.asarray(coarse) + rng.integers(-25, 25, (96, 112)), 0, 255).astype(np.uint8))


def data_set(folder: Path, pictures: list[Image.Image], split: str = "") -> Manifest:
    folder.mkdir()
    rows = []
    for number, image in enumerate(pictures):
        image.save(folder / f"{number}.png")
        rows.append(
            {"image": f"{number}.png", "label": "benign", "split": split or ("train", "val", "test")[number % 3]}
        )
    return tie_duplicates(Manifest(make_table(rows), DatasetInfo("d", ("benign", "malignant")), folder))


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """What export writes of pictures 0, 3, 6, 9 (learned), 1, 4, 7, 10 (chosen by) and 2, 5, 8, 11 (tested)."""
    write_hashes(tmp_path / "bundle", data_set(tmp_path / "own", [picture(number) for number in range(12)]))
    return tmp_path / "bundle"


def test_hashes_are_of_training_and_validation_images_only(bundle: Path) -> None:
    assert len((bundle / "training_images.sha256").read_text().split()) == 4
    lines = [line.split() for line in (bundle / "training_images.dhash").read_text().splitlines()]
    assert sorted(split for _, split in lines) == ["train"] * 4 + ["val"] * 4
    assert all(len(digits) == 128 and int(digits, 16) >= 0 for digits, _ in lines)


def test_fresh_and_tested_images_are_no_leak(bundle: Path, tmp_path: Path) -> None:
    pictures = [picture(number) for number in (2, 5, 100, 101)]
    assert leaks(bundle, data_set(tmp_path / "fresh", pictures, "test")) == ()


def test_copies_near_copies_and_validation_images_are_told_apart(bundle: Path, tmp_path: Path) -> None:
    smaller = picture(3).filter(ImageFilter.GaussianBlur(0.5)).resize((90, 77))
    mirrored = picture(6).transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    pictures = [picture(200), picture(0), smaller, mirrored, picture(4), picture(201)]
    exact, near, chosen = leaks(bundle, data_set(tmp_path / "mixed", pictures, "test"))
    assert exact.startswith("LEAK: the model was trained on 1 of these images (such as row 3, 1.png); these figures")
    assert near.startswith("LEAK: 2 more of these images (such as row 4, 2.png) are, or nearly are")
    assert "images that it was trained on" in near
    assert chosen.startswith("LEAK: 1 more of these images (such as row 6, 4.png) are, or nearly are")
    assert "by which its epoch or threshold was chosen" in chosen


def test_images_left_out_of_the_evaluation_are_no_leak(bundle: Path, tmp_path: Path) -> None:
    manifest = data_set(tmp_path / "mixed", [picture(0), picture(200)], "test")
    table = manifest.table.copy()
    table.loc[0, "exclude"] = "not wanted"
    assert leaks(bundle, manifest.replace(table=table)) == ()


def test_run_without_the_column_gives_the_same_hashes(bundle: Path, tmp_path: Path) -> None:
    sides = ("train", "val", "test")
    rows = [{"image": f"{n}.png", "label": "benign", "split": sides[n % 3]} for n in range(12)]
    info = DatasetInfo("d", ("benign", "malignant"))
    manifest = tie_duplicates(Manifest(make_table(rows), info, tmp_path / "own"))
    write_hashes(tmp_path / "again", manifest.replace(table=manifest.table.drop(columns="dhash")))
    for name in ("training_images.sha256", "training_images.dhash"):
        assert (tmp_path / "again" / name).read_bytes() == (bundle / name).read_bytes()


def test_bundle_without_perceptual_hashes_is_still_checked_by_files(bundle: Path, tmp_path: Path) -> None:
    (bundle / "training_images.dhash").unlink()
    manifest = data_set(tmp_path / "mixed", [picture(0), picture(4)], "test")
    (sentence,) = leaks(bundle, manifest)
    assert "trained on 1 of these images" in sentence
    (bundle / "training_images.sha256").unlink()
    assert leaks(bundle, manifest) == ()


def test_damaged_hashes_are_a_sentence(bundle: Path, tmp_path: Path) -> None:
    (bundle / "training_images.dhash").write_text("12zz train\n")
    with pytest.raises(InputError, match=r"training_images\.dhash is not a line of 128 digits"):
        leaks(bundle, data_set(tmp_path / "mixed", [picture(0)], "test"))


def test_shipped_bundle_knows_busi(real_data: Path, tmp_path: Path) -> None:
    folder = Path(__file__).resolve().parents[2] / "models" / "busi-resnet18"
    spec = read_bundle(folder)
    lines = [line.split()[1] for line in (folder / "training_images.dhash").read_text().splitlines()]
    assert {split: lines.count(split) for split in ("train", "val")} == {
        split: spec.training.images[split] for split in ("train", "val")
    }
    learned = set((folder / "training_images.sha256").read_text().split())
    source = tie_duplicates(
        Manifest(
            make_table([{"image": f"benign/benign ({n}).png", "label": "benign"} for n in range(1, 40)]),
            DatasetInfo("BUSI", ("benign", "malignant")),
            real_data / "Dataset_BUSI_with_GT",
        )
    )
    copies = source.included[source.included["sha256"].isin(learned)]
    assert len(copies) > 10
    (tmp_path / "resaved").mkdir()
    for number, name in enumerate(copies["image"]):
        Image.open(source.path(name)).convert("L").resize((230, 190)).save(tmp_path / "resaved" / f"{number}.jpg")
    resaved = tie_duplicates(
        Manifest(
            make_table([{"image": f"{n}.jpg", "label": "benign"} for n in range(len(copies))]),
            DatasetInfo("copies", ("benign", "malignant")),
            tmp_path / "resaved",
        )
    )
    (sentence,) = leaks(folder, resaved)
    assert int(sentence.split()[1]) >= 0.9 * len(resaved.included)
    shutil.rmtree(tmp_path / "resaved")
