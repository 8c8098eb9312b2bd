"""Manifests and sources: what is read, and what is refused with which sentence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medsharp.data import open_dataset, read_manifest, write_manifest
from medsharp.errors import InputError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of two classes with six images each, one with a mask."""
    rng = np.random.default_rng(0)
    root = tmp_path / "hospital"
    for label in ("benign", "malignant"):
        (root / label).mkdir(parents=True)
        for number in range(6):
            Image.fromarray(rng.integers(0, 255, (40, 50), dtype=np.uint8)).save(root / label / f"{number}.png")
    Image.new("L", (50, 40), 255).save(root / "benign" / "0_mask.png")
    return root


def manifest_of(folder: Path, rows: list[str], header: str = "image,label", about: str = "") -> Path:
    path = folder / "manifest.csv"
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    if about:
        (folder / "manifest.yaml").write_text(about, encoding="utf-8")
    return path


def test_folder_of_classes_lists_images_and_ties_masks_to_them(folder: Path) -> None:
    manifest = open_dataset(folder)
    assert manifest.info.classes == ("benign", "malignant")
    assert len(manifest.table) == 12
    first = manifest.table.iloc[0]
    assert (first["image"], first["mask"]) == ("benign/0.png", "benign/0_mask.png")


def test_manifest_is_read_back_as_written_also_away_from_its_images(folder: Path, tmp_path: Path) -> None:
    manifest = open_dataset(folder)
    write_manifest(manifest, tmp_path / "elsewhere")
    again = read_manifest(tmp_path / "elsewhere")
    assert again.table.equals(manifest.table)
    assert again.info == manifest.info
    assert again.path(again.table.at[0, "image"]).is_file()


@pytest.mark.parametrize("about", ["", "name: ours\nroot: hospital\n"])
def test_manifest_is_found_by_a_relative_path(folder: Path, about: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = manifest_of(folder, ["benign/0.png,benign", "malignant/0.png,malignant"])
    monkeypatch.chdir(folder.parent)
    if about:  # beside the images' folder instead of in it
        path = path.rename(folder.parent / "manifest.csv")
        path.with_name("manifest.yaml").write_text(about, encoding="utf-8")
    manifest = read_manifest(path.relative_to(folder.parent))
    assert manifest.path("benign/0.png").is_file()
    monkeypatch.chdir(folder.parent.parent)
    assert len(open_dataset(path.relative_to(folder.parent.parent)).table) == 2


def test_extra_columns_are_kept_and_a_byte_order_mark_is_no_part_of_a_name(folder: Path) -> None:
    path = folder / "manifest.csv"
    path.write_text("\ufeffimage,label,age\nbenign/0.png,benign,51\nmalignant/0.png,malignant,62\n", encoding="utf-8")
    assert list(read_manifest(path).table["age"]) == ["51", "62"]


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("benign/1.png,benin", r"row 3: label 'benin' is not one of benign, malignant; did you mean benign\?"),
        ("../secret.png,benign", r"row 3: path '../secret\.png' must stay inside"),
        ("/etc/passwd,benign", "row 3: path '/etc/passwd' must stay inside"),
        ("C:\\scans\\1.png,benign", "row 3: path .* must stay inside"),
        ("benign/0.png,benign", r"row 3: image 'benign/0\.png' stands in row 2 already"),
        ("./benign/0.png,malignant", r"row 3: image '\./benign/0\.png' stands in row 2 already"),
        ("benign/99.png,benign", r"row 3: image 'benign/99\.png' is not in"),
        ("benign/1.png", "row 3: 1 values for 2 columns"),
        (",benign", "row 3: no image is named"),
        ("outside.png,benign", r"row 3: 'outside\.png' is a link that leaves"),
    ],
)
def test_wrong_row_is_named_with_its_number(folder: Path, tmp_path: Path, row: str, words: str) -> None:
    (tmp_path / "secret.png").write_bytes(b"")
    (folder / "outside.png").symlink_to(tmp_path / "secret.png")
    path = manifest_of(folder, ["benign/0.png,benign", row], about="name: ours\nclasses: [benign, malignant]\n")
    with pytest.raises(InputError, match=words):
        read_manifest(path)


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ("picture,label", "no column 'image'"),
        ("image,Label", r"no column 'label'; did you mean Label\?"),
        ("image;label", "separated by semicolons"),
        ("image,label,label", "same column twice"),
    ],
)
def test_wrong_header_is_a_sentence(folder: Path, header: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        read_manifest(manifest_of(folder, ["benign/0.png,benign"], header))


@pytest.mark.parametrize("content", [b"", b"image,label\n", b"\xff\xfei\x00m\x00"])
def test_empty_or_foreign_file_is_a_sentence(folder: Path, content: bytes) -> None:
    path = folder / "manifest.csv"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"manifest\.csv"):
        read_manifest(path)


def test_images_of_classes_not_used_stay_visible_with_the_reason(folder: Path) -> None:
    (folder / "normal").mkdir()
    Image.new("L", (40, 40)).save(folder / "normal" / "1.png")
    manifest = open_dataset(folder, classes=("benign", "malignant"))
    assert len(manifest.table) == 13
    assert len(manifest.included) == 12
    assert list(manifest.table.loc[manifest.table["label"] == "normal", "exclude"]) == ["class not used: normal"]
    assert any("1 images of class normal" in note for note in manifest.notes)


@pytest.mark.parametrize("label", ["benin", "Benign", "benign "])
def test_a_misspelt_label_is_refused_rather_than_left_out_as_another_class(folder: Path, label: str) -> None:
    path = manifest_of(folder, ["benign/0.png,benign", "malignant/0.png,malignant", f"benign/1.png,{label}"])
    with pytest.raises(InputError, match=rf"row 4: label '{label}' is not one of .*; did you mean benign\?"):
        open_dataset(path, classes=("benign", "malignant"))


def test_asking_for_a_class_without_images_offers_the_nearest(folder: Path) -> None:
    with pytest.raises(InputError, match=r"no images of class 'malignent'.*did you mean malignant\?"):
        open_dataset(folder, classes=("benign", "malignent"))


def test_nothing_there_and_nothing_known_are_sentences(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        open_dataset(tmp_path / "nowhere")
    with pytest.raises(InputError, match="holds no images that are known"):
        open_dataset(tmp_path)
    (tmp_path / "readme.txt").write_text("x")
    with pytest.raises(InputError, match="is a file"):
        open_dataset(tmp_path / "readme.txt")


def test_one_class_only_is_a_sentence(folder: Path) -> None:
    (folder / "malignant").rename(folder.parent / "away")
    with pytest.raises(InputError, match="one class only"):
        open_dataset(folder)


def test_busi_is_recognised_and_counted(real_data: Path, tmp_path: Path) -> None:
    (tmp_path / "unpacked").symlink_to(real_data / "Dataset_BUSI_with_GT")
    for path in (real_data / "Dataset_BUSI_with_GT", tmp_path):
        manifest = open_dataset(path)
        assert manifest.info.name == "BUSI"
        assert manifest.table["label"].value_counts().to_dict() == {"benign": 437, "malignant": 210, "normal": 133}
    assert (manifest.table["mask"].str.count(";") >= 1).sum() == 17
    assert (manifest.table["mask"] == "").sum() == 0


def test_folder_of_several_data_sets_asks_which(real_data: Path) -> None:
    with pytest.raises(InputError, match=r"holds BUSBRA, Dataset_BUSI_with_GT.*; give one of them"):
        open_dataset(real_data)


def test_busbra_is_recognised_with_its_patients(real_data: Path) -> None:
    manifest = open_dataset(real_data / "BUSBRA")
    assert manifest.info.name == "BUS-BRA"
    assert manifest.table["label"].value_counts().to_dict() == {"benign": 1268, "malignant": 607}
    assert manifest.table["patient"].nunique() == 1064
    assert manifest.table["device"].nunique() == 4
    assert (manifest.table["mask"] != "").all()
