"""Training on the lesion alone: by mask or box, anew when either changes, with one sentence where both are missing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medsharp.data.lesion import lesion_area, read_box, within
from medsharp.data.manifest import read_manifest
from medsharp.data.pipeline import ImageDataset, make_dataset
from medsharp.errors import InputError
from medsharp.images import Box, DecodedImage, ImageLimits
from medsharp.preprocess import PreprocessSpec, preprocess

SPEC = PreprocessSpec(32, "lesion", margin=0.5)
PIXELS = np.random.default_rng(0).integers(30, 200, (80, 100), dtype=np.uint8)


def hospital(folder: Path, *rows: str, corner: int = 20) -> Path:
    Image.fromarray(PIXELS).save(folder / "scan.png")
    mask = np.zeros((80, 100), dtype=np.uint8)
    mask[corner : corner + 20, 30:60] = 255
    Image.fromarray(mask).save(folder / "mask.png")
    Image.fromarray(np.zeros((80, 100), dtype=np.uint8)).save(folder / "empty.png")
    (folder / "manifest.csv").write_text("image,label,mask,box\n" + "\n".join(rows) + "\n")
    return folder


def dataset(folder: Path, **options: object) -> ImageDataset:
    manifest = read_manifest(folder)
    return make_dataset(manifest.table, manifest, spec=SPEC, classes=("benign", "malignant"), **options)  # type: ignore[arg-type]


def test_mask_and_box_give_the_same_crop(tmp_path: Path) -> None:
    hospital(tmp_path, "scan.png,benign,mask.png,")
    by_mask = dataset(tmp_path, masks=True)[0]
    expected = preprocess(PIXELS, SPEC, lesion=Box(20, 30, 40, 60))
    assert np.array_equal(by_mask["image"][0].numpy(), expected)
    assert 0.1 < float(by_mask["mask"].mean()) < 0.5
    hospital(tmp_path, 'scan.png,benign,,"30,20,60,40"')
    assert np.array_equal(dataset(tmp_path)[0]["image"][0].numpy(), expected)


def test_cache_notices_another_mask_of_the_same_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "data"
    folder.mkdir()
    first = dataset(hospital(folder, "scan.png,benign,mask.png,"), cache="disk")[0]["image"].clone()
    second = dataset(hospital(folder, "scan.png,benign,mask.png,", corner=40), cache="disk")[0]["image"]
    assert not np.array_equal(first.numpy(), second.numpy())


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("scan.png,benign,,", r"scan\.png: crop: lesion needs a mask or a box, and the manifest names neither"),
        ("scan.png,benign,empty.png,", r"scan\.png: crop: lesion needs a lesion, and its mask is empty"),
        ('scan.png,benign,,"1,2,3"', "must be four whole numbers: left,top,right,bottom"),
        ('scan.png,benign,,"60,20,30,40"', "is empty; write left,top,right,bottom"),
        ('scan.png,benign,,"200,200,210,210"', r"scan\.png: box '200,200,210,210' .*outside the image of 100 x 80"),
        ('scan.png,benign,,"100,20,110,40"', r"scan\.png: box '100,20,110,40' .*outside the image of 100 x 80"),
        ("scan.png,benign,nothere.png,", "nothere.png"),
    ],
)
def test_missing_lesion_is_one_sentence_that_names_the_image(tmp_path: Path, row: str, words: str) -> None:
    hospital(tmp_path, row)
    with pytest.raises(InputError, match=words) as caught:
        dataset(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["30,20,60,40", "30 20 60 40", " 30; 20; 60; 40 "])
def test_box_may_be_separated_by_what_the_table_allows(text: str) -> None:
    assert read_box(text, "scan.png") == (20, 30, 40, 60)


def test_box_outside_the_region_that_an_image_was_cropped_to_is_refused() -> None:
    image = DecodedImage(np.zeros((100, 120), dtype=np.uint8), "DICOM", region=Box(50, 80, 150, 200))
    assert within(Box(60, 90, 70, 95), image, "scan.dcm") == (10, 10, 20, 15)
    assert within(Box(0, 0, 60, 95), image, "scan.dcm") == (0, 0, 10, 15)
    with pytest.raises(InputError, match=r"scan\.dcm: box '0,0,80,50' .* 120 x 100 pixels from the ultrasound region"):
        within(Box(0, 0, 50, 80), image, "scan.dcm")


@pytest.mark.parametrize("colour", [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)])
def test_masks_may_be_painted_in_any_colour(tmp_path: Path, colour: tuple[int, int, int]) -> None:
    painted = np.zeros((80, 100, 3), dtype=np.uint8)
    painted[20:40, 30:60] = colour
    Image.fromarray(painted).save(tmp_path / "mask.png")
    area = lesion_area([tmp_path / "mask.png"], DecodedImage(PIXELS, "PNG"))
    assert area[20:40, 30:60].all()
    assert area.sum() == 20 * 30


def test_mask_of_the_whole_screen_is_cut_as_its_image_was(tmp_path: Path) -> None:
    mask = np.zeros((200, 300), dtype=np.uint8)
    mask[60:90, 100:140] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    image = DecodedImage(np.zeros((100, 120), dtype=np.uint8), "DICOM", region=Box(50, 80, 150, 200))
    area = lesion_area([tmp_path / "mask.png"], image)
    assert area.shape == (100, 120)
    assert np.argwhere(area).min(axis=0).tolist() == [10, 20]
    assert area.sum() == 30 * 40


def test_limits_hold_for_training_too(tmp_path: Path) -> None:
    hospital(tmp_path, "scan.png,benign,mask.png,")
    with pytest.raises(InputError, match="the most is 90 a side"):
        dataset(tmp_path, limits=ImageLimits(max_side=90))


@pytest.mark.parametrize("code", [1, 2, 60, 255])
def test_training_sees_the_lesion_however_its_mask_is_coded(tmp_path: Path, code: int) -> None:
    hospital(tmp_path, "scan.png,benign,mask.png,")
    wanted = dataset(tmp_path, masks=True)[0]
    mask = np.zeros((80, 100), dtype=np.uint8)
    mask[20:40, 30:60] = code
    Image.fromarray(mask).save(tmp_path / "mask.png")
    found = dataset(tmp_path, masks=True)[0]
    assert np.array_equal(found["mask"].numpy(), wanted["mask"].numpy())
    assert np.array_equal(found["image"].numpy(), wanted["image"].numpy())
