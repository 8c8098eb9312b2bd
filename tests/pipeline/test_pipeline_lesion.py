"""Training on the lesion alone: by mask or box, anew when either changes, with one sentence where both are missing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom.dataset import Dataset

from medsharp.data.lesion import doubts_of_place, lesion_area, read_box, within
from medsharp.data.manifest import read_manifest
from medsharp.data.pipeline import ImageDataset, make_dataset
from medsharp.errors import InputError
from medsharp.images import Box, DecodedImage, ImageLimits, read_image, read_marks
from medsharp.preprocess import PreprocessSpec, preprocess

SPEC = PreprocessSpec(32, "lesion", margin=0.5)
PIXELS = np.random.default_rng(0).integers(30, 200, (80, 100), dtype=np.uint8)

REGION = Box(50, 80, 150, 200)


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
    image = DecodedImage(np.zeros((100, 120), dtype=np.uint8), "DICOM", region=REGION, size=(200, 300))
    # As large as the screen, or twice as large, as some tools draw.
    for factor in (1, 2):
        Image.fromarray(np.kron(mask, np.ones((factor, factor), dtype=np.uint8))).save(tmp_path / "mask.png")
        area = lesion_area([tmp_path / "mask.png"], image)
        assert area.shape == (100, 120)
        assert np.argwhere(area).min(axis=0).tolist() == [10, 20]
        assert area.sum() == 30 * 40


@pytest.mark.parametrize("factor", [1, 2, 3])
def test_mask_of_the_region_alone_is_scaled_and_not_cut(tmp_path: Path, factor: int) -> None:
    """Twice as large as the region, it is larger than where the region ends on the screen."""
    mask = np.zeros((100, 120), dtype=np.uint8)
    mask[70:90, 30:80] = 255
    Image.fromarray(np.kron(mask, np.ones((factor, factor), dtype=np.uint8))).save(tmp_path / "mask.png")
    for size in ((200, 300), (200, 240)):  # of the region's shape too
        image = DecodedImage(np.zeros((100, 120), dtype=np.uint8), "DICOM", region=REGION, size=size)
        if size != (factor * 100, factor * 120):
            assert np.array_equal(lesion_area([tmp_path / "mask.png"], image), mask > 0)


def test_part_that_was_asked_for_keeps_its_place_in_the_whole(
    tmp_path: Path, save_dicom: Callable[..., Dataset]
) -> None:
    mask = np.zeros((96, 96), dtype=np.uint8)
    mask[20:40, 30:60] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    item = Dataset()
    item.RegionSpatialFormat = item.RegionDataType = 1
    item.RegionLocationMinX0, item.RegionLocationMinY0, item.RegionLocationMaxX1, item.RegionLocationMaxY1 = (
        4,
        6,
        90,
        70,
    )
    save_dicom(tmp_path / "scan.dcm", SequenceOfUltrasoundRegions=[item])
    cropped = read_image(tmp_path / "scan.dcm")
    assert cropped.region == (6, 4, 71, 91)
    assert cropped.whole == (96, 96)
    for image in (DecodedImage(np.zeros((96, 96), dtype=np.uint8), "PNG"), cropped):
        part = image.part(Box(10, 20, 60, 70))
        down, across = (0, 0) if image.region is None else image.region[:2]
        expected = mask[10 + down : 60 + down, 20 + across : 70 + across] > 0
        assert part.whole == (96, 96)
        assert np.array_equal(lesion_area([tmp_path / "mask.png"], part), expected)


def photographed(pixels: np.ndarray, file: Path, orientation: int) -> Path:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(file, exif=exif)
    return file


@pytest.mark.parametrize("kind", ["png", "jpg", "tif"])
@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_mask_drawn_on_an_image_as_stored_on_its_side_is_turned_with_it(
    tmp_path: Path, orientation: int, kind: str
) -> None:
    """Its tool saw the pixels and not EXIF's orientation; a tag that the mask has itself is believed."""
    lesion = np.zeros(PIXELS.shape, dtype=np.uint8)
    lesion[5:25, 60:95] = 255  # far from the middle: no two orientations have it at one place
    image = read_image(photographed(PIXELS, tmp_path / f"scan.{kind}", orientation))
    tagged = photographed(lesion, tmp_path / "tagged.png", orientation)
    Image.fromarray(lesion).save(tmp_path / "stored.png")
    Image.fromarray(np.kron(lesion, np.ones((2, 2), dtype=np.uint8))).save(tmp_path / "larger.png")
    expected = lesion_area([tagged], image)
    Image.fromarray(expected).save(tmp_path / "upright.png")
    assert expected.shape == image.pixels.shape == (100, 80)
    assert expected.sum() == 20 * 35
    for name in ("stored.png", "larger.png", "upright.png"):
        assert np.array_equal(lesion_area([tmp_path / name], image), expected), name


def test_mask_on_its_side_on_an_image_that_is_not_is_refused_and_squares_are_stretched(tmp_path: Path) -> None:
    image = DecodedImage(PIXELS, "PNG")
    for shape in ((100, 80), (50, 40), (200, 160)):
        Image.fromarray(np.full(shape, 255, dtype=np.uint8)).save(tmp_path / "mask.png")
        words = rf"mask\.png: a mask of {shape[1]} x {shape[0]} pixels lies on its side on an image of 100 x 80"
        with pytest.raises(InputError, match=words):
            lesion_area([tmp_path / "mask.png"], image)
    # A tag says why it is on its side, and so that it is to stay so.
    tagged = photographed(np.full((80, 100), 255, dtype=np.uint8), tmp_path / "tagged.png", 6)
    turned = read_image(photographed(PIXELS, tmp_path / "scan.png", 8))
    assert lesion_area([tagged], turned).all()
    with pytest.raises(InputError, match="lies on its side"):
        lesion_area([tagged], image)
    # Its tag says how it is stored, and that is another way than the image's.
    upside_down = photographed(np.full((80, 100), 255, dtype=np.uint8), tmp_path / "upside_down.png", 3)
    with pytest.raises(InputError, match="lies on its side"):
        lesion_area([upside_down], turned)
    for shape in ((64, 64), (40, 50), (81, 100)):
        Image.fromarray(np.full(shape, 255, dtype=np.uint8)).save(tmp_path / "mask.png")
        assert lesion_area([tmp_path / "mask.png"], image).all()
    nearly_square = DecodedImage(np.zeros((100, 101), dtype=np.uint8), "PNG")
    Image.fromarray(np.full((64, 64), 255, dtype=np.uint8)).save(tmp_path / "mask.png")
    assert lesion_area([tmp_path / "mask.png"], nearly_square).all()


def test_mask_whose_size_does_not_tell_its_orientation_is_doubtful(tmp_path: Path) -> None:
    Image.fromarray(PIXELS).save(tmp_path / "mask.png")
    marks = read_marks(tmp_path / "mask.png")
    doubts = []
    for orientation in range(1, 9):
        image = read_image(photographed(PIXELS, tmp_path / "scan.png", orientation))
        own = read_marks(photographed(PIXELS, tmp_path / "own.png", orientation))
        doubts.append(bool(doubts_of_place(image, marks)))
        assert not doubts_of_place(image, own)
    assert doubts == [False, True, True, True, False, False, False, False]
    square = read_image(photographed(PIXELS[:, :80], tmp_path / "scan.png", 6))
    assert doubts_of_place(square, marks)


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
