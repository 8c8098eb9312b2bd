"""Duplicates are tied or left out, and no tie and no patient is divided by a split."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from medsharp.config import DataConfig
from medsharp.data import Manifest, assert_no_leak, open_dataset, split_manifest, tie_duplicates
from medsharp.data.prepare import prepare_manifest
from medsharp.errors import InputError


def picture(seed: int) -> Image.Image:
    """A smooth random picture: different seeds have hashes far apart."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 255, (12, 14), dtype=np.uint8))
    return coarse.resize((112, 96), Image.Resampling.BICUBIC)


def hospital(root: Path, count: int = 40) -> Path:
    for label in ("benign", "malignant"):
        (root / label).mkdir(parents=True)
    for number in range(count):
        label = "malignant" if number % 3 == 0 else "benign"
        picture(number).save(root / label / f"{number:03d}.png")
    return root


def tied(manifest: Manifest, *names: str) -> bool:
    groups = manifest.table.set_index("image").loc[list(names), "group"]
    return groups.nunique() == 1


def reason(manifest: Manifest, name: str) -> str:
    return str(manifest.table.set_index("image").at[name, "exclude"])


def test_different_pictures_are_not_tied(tmp_path: Path) -> None:
    manifest = tie_duplicates(open_dataset(hospital(tmp_path / "h")))
    assert manifest.table["group"].nunique() == 40
    assert (manifest.table["exclude"] == "").all()
    assert manifest.table["sha256"].str.fullmatch("[0-9a-f]{64}").all()


def test_near_duplicates_share_a_group_mirrored_ones_too(tmp_path: Path) -> None:
    root = hospital(tmp_path / "h")
    picture(1).filter(ImageFilter.GaussianBlur(1)).save(root / "benign" / "blurred.png")
    picture(2).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(root / "benign" / "mirrored.png")
    picture(4).convert("RGB").resize((224, 192)).save(root / "benign" / "larger.jpg", quality=80)
    manifest = tie_duplicates(open_dataset(root))
    assert tied(manifest, "benign/001.png", "benign/blurred.png")
    assert tied(manifest, "benign/002.png", "benign/mirrored.png")
    assert tied(manifest, "benign/004.png", "benign/larger.jpg")
    assert not tied(manifest, "benign/001.png", "benign/002.png")
    assert any("6 near-duplicates tied into 3 groups" in note for note in manifest.notes)


def test_contradictory_duplicates_are_left_out_with_the_other_named(tmp_path: Path) -> None:
    root = hospital(tmp_path / "h")
    picture(1).save(root / "malignant" / "again.png")
    manifest = tie_duplicates(open_dataset(root))
    assert reason(manifest, "benign/001.png") == "contradictory duplicate of malignant/again.png (malignant)"
    assert reason(manifest, "malignant/again.png") == "contradictory duplicate of benign/001.png (benign)"


def test_exact_copy_is_left_out_and_the_first_stays(tmp_path: Path) -> None:
    root = hospital(tmp_path / "h")
    (root / "benign" / "copy.png").write_bytes((root / "benign" / "001.png").read_bytes())
    manifest = tie_duplicates(open_dataset(root))
    assert reason(manifest, "benign/copy.png") == "exact duplicate of benign/001.png"
    assert reason(manifest, "benign/001.png") == ""


def test_unreadable_and_constant_images_are_left_out_with_the_reason(tmp_path: Path) -> None:
    root = hospital(tmp_path / "h")
    (root / "benign" / "empty.png").write_bytes(b"")
    (root / "benign" / "text.png").write_text("not an image")
    for name in ("flat1.png", "flat2.png"):
        Image.new("L", (60, 60), 7).save(root / "malignant" / name)
    manifest = tie_duplicates(open_dataset(root))
    assert "empty.png is empty" in reason(manifest, "benign/empty.png")
    assert "text.png is not a PNG" in reason(manifest, "benign/text.png")
    assert reason(manifest, "malignant/flat1.png") == "constant image"
    assert any("2 of 44 images left out: unreadable" in note for note in manifest.notes)


def test_only_unreadable_images_are_an_error(tmp_path: Path) -> None:
    for label in ("benign", "malignant"):
        (tmp_path / label).mkdir()
        (tmp_path / label / "1.png").write_bytes(b"")
    with pytest.raises(InputError, match="no image can be used"):
        tie_duplicates(open_dataset(tmp_path))


@pytest.mark.parametrize("folds", [None, 4])
def test_split_never_divides_a_patient_and_keeps_the_balance(tmp_path: Path, folds: int | None) -> None:
    manifest = tie_duplicates(open_dataset(hospital(tmp_path / "h", 120)))
    table = manifest.table.copy()
    table["patient"] = [str(number // 2) for number in range(120)]
    table["group"] = "patient " + table["patient"]
    split = split_manifest(manifest.replace(table=table), folds=folds, seed=3)
    assert split.table.groupby("patient")["split"].nunique().max() == 1
    share = split.table["label"].eq("malignant").mean()
    for part, size in (("train", 84), ("val", 18), ("test", 18)) if folds is None else (("val", 30), ("test", 30)):
        rows = split.of_split(part)
        assert len(rows) == pytest.approx(size, abs=5)
        assert rows["label"].eq("malignant").mean() == pytest.approx(share, abs=0.12)


def test_split_depends_on_the_seed_and_not_on_the_order_of_rows(tmp_path: Path) -> None:
    manifest = tie_duplicates(open_dataset(hospital(tmp_path / "h", 60)))
    shuffled = manifest.replace(table=manifest.table.sample(frac=1, random_state=1))
    one, two, other = split_manifest(manifest), split_manifest(shuffled), split_manifest(manifest, seed=1)
    sides = [m.table.set_index("image")["split"].sort_index() for m in (one, two, other)]
    assert sides[0].equals(sides[1])
    assert not sides[0].equals(sides[2])


def test_folds_test_every_image_once(tmp_path: Path) -> None:
    manifest = tie_duplicates(open_dataset(hospital(tmp_path / "h", 60)))
    tested = [
        name for fold in range(4) for name in split_manifest(manifest, folds=4, fold=fold).of_split("test")["image"]
    ]
    assert sorted(tested) == sorted(manifest.table["image"])


def test_split_that_a_manifest_gives_is_kept_and_checked(tmp_path: Path) -> None:
    manifest = tie_duplicates(open_dataset(hospital(tmp_path / "h", 60)))
    split = split_manifest(manifest)
    assert split_manifest(split, seed=99).table["split"].equals(split.table["split"])
    table = split.table.copy()
    table["group"] = ["shared"] * 60
    with pytest.raises(InputError, match="same group is on two sides"):
        split_manifest(split.replace(table=table))


@pytest.mark.parametrize("column", ["group", "patient", "sha256"])
def test_leak_is_refused_and_its_rows_are_named(tmp_path: Path, column: str) -> None:
    manifest = split_manifest(tie_duplicates(open_dataset(hospital(tmp_path / "h", 60))))
    assert_no_leak(manifest)
    table = manifest.table.copy()
    one = table.index[table["split"] == "train"][0]
    other = table.index[table["split"] == "test"][0]
    table.loc[[one, other], column] = "same"
    with pytest.raises(InputError, match=f"same {column} is on two sides: row") as caught:
        assert_no_leak(manifest.replace(table=table))
    assert table.at[one, "image"] in str(caught.value)
    assert table.at[other, "image"] in str(caught.value)


def test_too_few_images_of_a_class_is_a_sentence(tmp_path: Path) -> None:
    root = hospital(tmp_path / "h", 30)
    for file in sorted((root / "malignant").iterdir())[2:]:
        file.unlink()
    with pytest.raises(InputError, match="class malignant has only 2"):
        prepare_manifest(DataConfig(path=str(root)))


def with_columns(manifest: Manifest, **columns: list[str]) -> Manifest:
    table = manifest.table.copy()
    for name, values in columns.items():
        table[name] = values
    return manifest.replace(table=table)


def test_patients_of_two_sites_with_one_number_are_two(tmp_path: Path) -> None:
    manifest = open_dataset(hospital(tmp_path / "h", 6))
    tie = tie_duplicates(with_columns(manifest, patient=["1"] * 6, site=["A", "A", "A", "B", "B", "B"]))
    assert list(tie.table["group"]) == ["patient 1, A"] * 3 + ["patient 1, B"] * 3
    one = tie_duplicates(with_columns(manifest, patient=["1"] * 6, site=["A"] * 6))
    assert set(one.table["group"]) == {"patient 1"}


def test_groups_that_are_given_are_kept_and_grow_by_patients_and_near_duplicates(tmp_path: Path) -> None:
    root = hospital(tmp_path / "h", 6)
    picture(1).filter(ImageFilter.GaussianBlur(1)).save(root / "benign" / "blurred.png")
    manifest = open_dataset(root)
    names = list(manifest.table["image"])
    given = ["g" if name in {"benign/001.png", "malignant/000.png"} else "" for name in names]
    patients = ["p" if name in {"malignant/000.png", "malignant/003.png"} else "" for name in names]
    tie = tie_duplicates(with_columns(manifest, group=given, patient=patients))
    members = set(tie.table.loc[tie.table["group"] == "g", "image"])
    assert members == {"benign/001.png", "benign/blurred.png", "malignant/000.png", "malignant/003.png"}


def test_prepared_manifest_counts_what_each_split_has(tmp_path: Path) -> None:
    manifest = prepare_manifest(DataConfig(path=str(hospital(tmp_path / "h", 60))))
    train = manifest.of_split("train")
    benign, malignant = (int((train["label"] == label).sum()) for label in ("benign", "malignant"))
    sentence = f"train: {len(train)} images of {len(train)} groups (benign {benign}, malignant {malignant})"
    assert sentence in manifest.notes


def test_busi_duplicates_are_found(real_data: Path) -> None:
    manifest = tie_duplicates(open_dataset(real_data / "Dataset_BUSI_with_GT", classes=("benign", "malignant")))
    for one, other in ((433, 145), (131, 51), (399, 93), (406, 94)):
        assert f"malignant ({other})" in reason(manifest, f"benign/benign ({one}).png")
        assert f"benign ({one})" in reason(manifest, f"malignant/malignant ({other}).png")
    assert len(manifest.included) == 639
    assert any("near-duplicates tied into" in note for note in manifest.notes)


def test_busbra_split_keeps_patients_whole(real_data: Path) -> None:
    manifest = prepare_manifest(DataConfig(path=str(real_data / "BUSBRA")))
    assert manifest.included.groupby("patient")["split"].nunique().max() == 1


def test_group_that_says_that_there_is_none_is_none(tmp_path: Path) -> None:
    manifest = open_dataset(hospital(tmp_path / "h", 4))
    tie = tie_duplicates(with_columns(manifest, group=["n/a", "-", "g", "G "]))
    assert list(tie.table["group"]) == [*tie.table["image"][:2], "g", "g"]


def test_what_patients_were_taken_for_is_said_by_rows_and_not_by_name(tmp_path: Path) -> None:
    manifest = open_dataset(hospital(tmp_path / "h", 8))
    patients = ["Ann B", "ann b", "n/a", "", "7", "7", "1.2E+11", "8"]
    sites = ["A", "A", "A", "A", "A", "", "A", "A"]
    tie = tie_duplicates(with_columns(manifest, patient=patients, site=sites))
    assert tie.notes[-5:] == (
        "1 patients are written in several ways, each taken as one (such as rows 2 and 3)",
        "1 patients have rows with a site and rows without (such as rows 6 and 7): all rows of such a number count as "
        "one patient",
        "patient 'n/a' in 1 rows is taken as not known; each such image counts by itself",
        "the patient of 1 of 8 images is not known; each of them counts by itself",
        "the patient of 1 images is a number that a spreadsheet shortened, such as 1.2E+11 (such as row 8): several "
        "patients may be one here",
    )
    groups = list(tie.table["group"])
    assert groups[0] == groups[1]
    assert groups[4] == groups[5]
    assert len(set(groups)) == 6
