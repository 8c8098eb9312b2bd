"""A mask marks the same pixels however it is coded: no coding reads as "no lesion" without a word."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image

from medsharp.images import ImageError, read_marks

Make = Callable[..., bytes]

LESION = np.zeros((40, 50), dtype=bool)
LESION[10:20, 12:30] = True


def coded(background: Any, lesion: Any, kind: type = np.uint8) -> np.ndarray:
    """Return [H, W] of two values, or [H, W, C] of two colours."""
    where = LESION[..., None] if np.ndim(lesion) else LESION
    return np.where(where, lesion, background).astype(kind)


@pytest.mark.parametrize("background", [0, 1, 7])
@pytest.mark.parametrize("lesion", [1, 2, 3, 31, 60, 100, 128, 200, 255])
def test_the_brighter_of_two_greys_is_marked(picture: Make, background: int, lesion: int) -> None:
    if lesion > background:
        assert np.array_equal(read_marks(picture(coded(background, lesion))).pixels, LESION)


@pytest.mark.parametrize("kind", [np.uint16, np.int16, np.int32, np.float32])
@pytest.mark.parametrize("lesion", [1, 2, 255, 4095, 32767])
def test_masks_of_any_type_are_read(tiff: Make, kind: type, lesion: int) -> None:
    assert np.array_equal(read_marks(tiff(coded(0, lesion, kind))).pixels, LESION)


def test_classes_are_all_marked_but_the_first(picture: Make, tiff: Make) -> None:
    classes = coded(0, 1)
    classes[10:15, 12:30] = 2
    classes[12, 13] = 5
    for data in (picture(classes), picture(classes.astype(np.uint16)), tiff(classes.astype(np.float32))):
        assert np.array_equal(read_marks(data).pixels, LESION)
    red = np.stack([classes, 0 * classes, 0 * classes], axis=-1)
    assert np.array_equal(read_marks(picture(red)).pixels, LESION)


def test_lossless_webp_keeps_classes(picture: Make) -> None:
    assert np.array_equal(read_marks(picture(coded(0, 1), "WEBP", lossless=True)).pixels, LESION)


def test_palettes_are_read_by_their_colours_or_else_their_indices(picture: Make) -> None:
    indices = coded(0, 1)
    for colours in ([(0, 0, 0), (255, 255, 255)], [(0, 0, 0), (128, 0, 0)], [(0, 0, 0), (1, 1, 1)], [(0, 0, 0)] * 2):
        palette = Image.fromarray(indices, "P")
        palette.putpalette([part for colour in colours for part in colour])
        assert np.array_equal(read_marks(picture(palette)).pixels, LESION)
    reversed_order = Image.fromarray(1 - indices, "P")
    reversed_order.putpalette([255, 255, 255, 0, 0, 0])
    assert np.array_equal(read_marks(picture(reversed_order)).pixels, LESION)


def test_a_palette_of_eight_bits_in_a_tiff_is_read_by_its_colours(tiff: Make) -> None:
    colours = ("H", [255, 0] + [0] * 254)  # of red, and so of green and blue
    palette = (colours[0], colours[1] * 3)
    assert np.array_equal(read_marks(tiff(1 - coded(0, 1), photometric=3, t320=palette)).pixels, LESION)


def test_one_bit_is_read_and_its_polarity_kept(picture: Make, tiff: Make) -> None:
    assert np.array_equal(read_marks(picture(Image.fromarray(LESION))).pixels, LESION)
    packed = np.packbits(~LESION, axis=1).tobytes()
    assert np.array_equal(read_marks(tiff(coded(0, 1), bits=1, photometric=0, data=packed)).pixels, LESION)
    assert np.array_equal(read_marks(tiff(coded(65535, 0, np.uint16), photometric=0)).pixels, LESION)


@pytest.mark.parametrize("colour", [(0, 0, 0), (255, 255, 255), (255, 0, 0)])
@pytest.mark.parametrize("opaque", [255, 128, 1])
def test_transparency_over_one_colour_is_the_mask(picture: Make, colour: Any, opaque: int) -> None:
    rgba = coded((0, 0, 0, 0), (*colour, opaque))
    assert np.array_equal(read_marks(picture(rgba)).pixels, LESION)
    everywhere = coded((*colour, 0), (*colour, opaque))
    assert np.array_equal(read_marks(picture(everywhere)).pixels, LESION)


def test_transparency_that_is_the_same_everywhere_says_nothing(picture: Make) -> None:
    for opaque in (0, 255):
        assert np.array_equal(read_marks(picture(coded((0, 0, 0, opaque), (255, 255, 255, opaque)))).pixels, LESION)


def test_coloured_lesions_are_marked_on_any_grey(picture: Make) -> None:
    for grey in ((0, 0, 0), (255, 255, 255)):
        assert np.array_equal(read_marks(picture(coded(grey, (255, 0, 0)))).pixels, LESION)
    both = coded((0, 0, 0), (255, 0, 0))
    both[10:15, 12:30] = (0, 255, 0)
    assert np.array_equal(read_marks(picture(both)).pixels, LESION)


@pytest.mark.parametrize("top", [255, 100])
def test_smoothed_edges_are_cut_at_the_middle(picture: Make, top: int) -> None:
    values = coded(0, top)
    values[10:20, 11], values[10:20, 30] = top * 2 // 5, top * 3 // 5
    want = LESION.copy()
    want[10:20, 30] = True
    marks = read_marks(picture(values))
    assert np.array_equal(marks.pixels, want)
    assert marks.doubts == ()
    deep = read_marks(picture(values.astype(np.uint16) * 257))
    assert np.array_equal(deep.pixels, want)


@pytest.mark.parametrize(
    ("kind", "options"), [("JPEG", {"quality": 60}), ("WEBP", {"quality": 30}), ("TIFF", {"compression": "jpeg"})]
)
def test_noise_of_lossy_compression_is_no_lesion(picture: Make, kind: str, options: dict[str, Any]) -> None:
    blocks = np.zeros((64, 64), dtype=np.uint8)
    blocks[16:32, 16:40] = 255
    marks = read_marks(picture(blocks, kind, **options))
    assert np.array_equal(marks.pixels, blocks > 0)
    noise = np.random.default_rng(0).integers(0, 9, (64, 64), dtype=np.uint8)
    assert not read_marks(picture(noise, kind, **options)).pixels.any()


def test_empty_and_full_masks_stay_so(picture: Make) -> None:
    empty, full = read_marks(picture(coded(0, 0))), read_marks(picture(coded(255, 255)))
    assert not empty.pixels.any()
    assert empty.doubts == ()
    assert full.pixels.all()
    assert full.doubts == ("it is 255 everywhere",)
    assert read_marks(picture(coded(65535, 65535, np.uint16))).pixels.all()
    numbered = read_marks(picture(coded(1, 1)))  # a background may have the number 1
    assert not numbered.pixels.any()
    assert numbered.doubts == ("it is 1 everywhere",)


def test_inverted_masks_and_grey_areas_are_doubted(picture: Make) -> None:
    assert read_marks(picture(coded(255, 0))).doubts == ("its border is marked: perhaps it is inverted",)
    areas = coded(0, 255)
    areas[25:35, 20:40] = 85
    marks = read_marks(picture(areas))
    assert np.array_equal(marks.pixels, LESION)
    assert marks.doubts == ("areas of grey 85 are not marked",)
    assert read_marks(picture(coded(0, 255))).doubts == ()


def test_small_spots_of_grey_are_no_areas(picture: Make) -> None:
    spot = coded(0, 255)
    spot[30:33, 5:8] = 85
    assert read_marks(picture(spot)).doubts == ()


def test_colour_noise_of_lossy_compression_is_no_lesion(picture: Make) -> None:
    grey = np.zeros((400, 400, 3), dtype=np.uint8)
    grey[100:200, 100:300] = 255
    noisy = grey.copy()
    noisy[300, 300] = (60, 0, 0)
    marked = read_marks(picture(noisy, "JPEG", quality=100, subsampling=0)).pixels
    assert np.array_equal(marked, grey[..., 0] > 0)


def test_masks_in_dicom_are_read_by_the_same_rules(dicom: Make) -> None:
    for values in (coded(0, 1), coded(0, 255), coded(0, 2, np.uint16), coded(0, 4095, np.uint16)):
        assert np.array_equal(read_marks(dicom(values)).pixels, LESION)


def test_mask_that_cannot_be_read_is_one_sentence() -> None:
    with pytest.raises(ImageError, match=r"mask\.png is not a PNG"):
        read_marks(b"these are words", name="mask.png")
