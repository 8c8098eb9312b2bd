"""What is black and what is white comes from type, tag or declaration; what nobody tells is refused or flagged."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from medsharp.errors import InputError
from medsharp.images import ImageError, ValueRange, read_frames, read_image, read_range
from medsharp.images.values import WORTH_SAYING
from serve.page.cards import _FLAGS

Make = Callable[..., bytes]

RNG = np.random.default_rng(1)
GREY = np.clip(RNG.gamma(2.0, 25.0, (40, 48)), 0, 255).astype(np.uint8)
GREY[0, 0] = 255
WIDE = GREY.astype(np.uint16) * 257
TWELVE = ValueRange(0.0, 4095.0)


@pytest.mark.parametrize("big", [False, True], ids=["little", "big"])
@pytest.mark.parametrize("deflate", [False, True], ids=["plain", "deflated"])
def test_sixteen_bits_span_their_type(tiff: Make, big: bool, deflate: bool) -> None:
    image = read_image(tiff(WIDE, big=big, deflate=deflate))
    assert np.array_equal(image.pixels, GREY)
    assert image.flags == ("16-bit",)
    assert image.range == (0.0, 65535.0)


def test_eight_bits_are_as_they_are_whatever_is_declared(picture: Make, tiff: Make) -> None:
    for data in (picture(GREY), tiff(GREY), tiff(GREY, t340=("B", 0), t341=("B", 100), t281=("H", 100))):
        image = read_image(data, value_range=ValueRange(0.0, 100.0))
        assert np.array_equal(image.pixels, GREY)
        assert image.flags == ()


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_one_brighter_pixel_changes_no_other(picture: Make, kind: str) -> None:
    frame = RNG.integers(200, 4000, (40, 48)).astype(np.uint16)
    shown = []
    for top in (255, 256, 4095, 4096, 65535):
        frame[0, 0] = top
        shown.append(read_image(picture(frame, kind)))
    assert all(np.array_equal(image.pixels[1:], shown[0].pixels[1:]) for image in shown)
    assert [("upper bits unused" in image.flags) for image in shown] == [True, True, True, True, False]


def test_declared_range_scales_every_image_alike(picture: Make, tiff: Make) -> None:
    values = np.linspace(0, 4095, GREY.size).reshape(GREY.shape)
    for data in (picture(values.astype(np.uint16)), tiff(values.astype(np.int16)), tiff(values.astype(np.int32))):
        image = read_image(data, value_range=TWELVE)
        assert np.abs(image.pixels - values / 4095 * 255).max() <= 0.6
        assert image.flags == ("16-bit",)
        assert image.range == TWELVE
    floats = tiff((values - 4095).astype(np.float32))
    image = read_image(floats, value_range=ValueRange(-4095.0, 0.0))
    assert np.abs(image.pixels - values / 4095 * 255).max() <= 0.6
    assert image.flags == ("floating-point",)


def test_values_beyond_the_declared_range_are_cut_and_said(tiff: Make) -> None:
    values = np.full((40, 48), 1000, dtype=np.int16)
    values[0, :3] = (-5, 2000, 4000)
    image = read_image(tiff(values), value_range=ValueRange(0.0, 2000.0))
    assert image.pixels[0, :4].tolist() == [0, 255, 255, 128]
    assert image.flags == ("16-bit", "values beyond the declared range")


def test_negative_integers_are_neither_cut_nor_guessed(tiff: Make) -> None:
    values = np.linspace(-1000, 3000, GREY.size).reshape(GREY.shape)
    for kind in (np.int16, np.int32):
        with pytest.raises(ImageError, match=r"scan.tif holds signed integers.*range: \[LOW, HIGH\].*--range"):
            read_image(tiff(values.astype(kind)), name="scan.tif")
    small = tiff((GREY.astype(int) - 128).astype(np.int8))
    with pytest.raises(ImageError, match="signed integers of 8 bits, -128 to 127"):
        read_image(small)
    assert np.array_equal(read_image(small, value_range=ValueRange(-128.0, 127.0)).pixels, GREY)


def test_integers_of_thirty_two_bits_need_a_range(tiff: Make) -> None:
    values = GREY.astype(np.uint32) * 2**24
    with pytest.raises(ImageError, match="unsigned integers of 32 bits, 0 to "):
        read_image(tiff(values))
    image = read_image(tiff(values), value_range=ValueRange(0.0, 255.0 * 2**24))
    assert np.array_equal(image.pixels, GREY)


@pytest.mark.parametrize("top", [1, 255])
def test_floats_of_the_two_usual_ranges_are_read_and_said(tiff: Make, top: int) -> None:
    image = read_image(tiff((GREY / 255 * top).astype(np.float32)))
    assert np.array_equal(image.pixels, GREY)
    assert image.flags == ("floating-point", f"range 0 to {top} assumed")


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.02), (0.0, 20.0), (0.0, 255.5), (-0.01, 1.0), (0, 4095), (-60, 0)])
def test_floats_of_another_range_are_refused(tiff: Make, low: float, high: float) -> None:
    values = np.linspace(low, high, GREY.size, dtype=np.float32).reshape(GREY.shape)
    with pytest.raises(ImageError, match=r"neither 0 to 1 nor 0 to 255.*declare it for the whole data set"):
        read_image(tiff(values))
    assert read_image(tiff(values), value_range=ValueRange(low, high)).pixels[-1, -1] >= 254


def test_what_is_no_number_is_black_and_said(tiff: Make) -> None:
    values = np.full((40, 48), 255.0, dtype=np.float32)
    values[0, :3] = (np.nan, np.inf, -np.inf)
    image = read_image(tiff(values))
    assert image.pixels[0, :4].tolist() == [0, 255, 0, 255]
    assert image.flags == ("floating-point", "range 0 to 255 assumed", "undefined pixels")
    negative = read_image(tiff(values, photometric=0))
    assert negative.pixels[0, :4].tolist() == [0, 0, 255, 0]
    with pytest.raises(ImageError, match="no pixel that is a number"):
        read_image(tiff(np.full((40, 48), np.nan, dtype=np.float32)))


@pytest.mark.parametrize(
    "values",
    [GREY, WIDE, (GREY / 255).astype(np.float32), GREY.astype(np.float32)],
    ids=["8 bits", "16 bits", "floats to 1", "floats to 255"],
)
@pytest.mark.parametrize("deflate", [False, True], ids=["plain", "deflated"])
def test_white_is_zero_is_shown_positive(tiff: Make, values: np.ndarray, deflate: bool) -> None:
    image = read_image(tiff(values, photometric=0, deflate=deflate))
    assert np.array_equal(image.pixels, 255 - GREY)


def test_white_is_zero_of_one_bit_is_shown_positive(tiff: Make) -> None:
    bits = GREY > 60
    for photometric, want in ((1, bits), (0, ~bits)):
        data = tiff(GREY, bits=1, photometric=photometric, data=np.packbits(bits, axis=1).tobytes())
        assert np.array_equal(read_image(data).pixels, want * 255)


def test_kinds_of_tiff_that_are_not_decoded_are_refused_not_misread(tiff: Make) -> None:
    for data in (tiff(WIDE, photometric=0, big=True), tiff(GREY.astype(np.float64)), tiff(GREY.astype(np.float16))):
        with pytest.raises(ImageError, match="damaged or cut off, or of a kind that is not read"):
            read_image(data, name="scan.tif")


def test_twelve_bits_by_the_tag_span_twelve_bits(tiff: Make) -> None:
    values = (GREY.astype(np.uint32) * 4095 // 255).ravel()
    first, second = values[0::2], values[1::2]
    packed = np.stack([first >> 4, (first & 15) << 4 | second >> 8, second & 255], axis=1).astype(np.uint8)
    image = read_image(tiff(GREY, bits=12, data=packed.tobytes()))
    assert np.abs(image.pixels.astype(int) - GREY).max() <= 1
    assert image.range == TWELVE


def test_range_of_a_tag_is_used_and_said(tiff: Make) -> None:
    values = (GREY / 255 * 3000 - 1000).astype(np.float32)
    image = read_image(tiff(values, t340=("f", -1000.0), t341=("f", 2000.0)))
    assert np.abs(image.pixels.astype(int) - GREY).max() <= 1
    assert image.flags == ("floating-point", "range -1000 to 2000 by its tag")
    bits = read_image(tiff(GREY.astype(np.uint16) * 16, t281=("H", 4095)))
    assert np.abs(bits.pixels.astype(int) - GREY).max() <= 1
    assert bits.flags == ("16-bit", "range 0 to 4095 by its tag")
    assert read_image(tiff(values, t340=("f", -1000.0), t341=("f", 2000.0)), value_range=TWELVE).range == TWELVE


def test_largest_value_of_one_image_is_no_range(tiff: Make) -> None:
    """MaxSampleValue is a statistic of the image unless it is that of a number of bits (TIFF 6.0, section 8)."""
    image = read_image(tiff(GREY.astype(np.uint16) * 16, t280=("H", 0), t281=("H", int(GREY.max()) * 16)))
    assert np.array_equal(image.pixels, np.rint(GREY / 257 * 16))


def test_values_that_contradict_their_tag_are_refused(tiff: Make) -> None:
    data = tiff(GREY.astype(np.float32), t340=("f", 0.0), t341=("f", 1.0))
    with pytest.raises(ImageError, match=r"holds values of 0 to 255, beyond its tag's 0 to 1; declare it"):
        read_image(data)


def test_channels_of_sixteen_bits_span_their_type(png: Make, tiff: Make) -> None:
    channels = np.stack([WIDE] * 3, axis=-1)
    opaque = np.stack([WIDE, np.full_like(WIDE, 65535)], axis=-1)
    rows = {2: channels, 4: opaque}
    files = [png(values.astype(">u2").reshape(40, -1).view(np.uint8), 16, kind) for kind, values in rows.items()]
    for data in (*files, tiff(channels), tiff(channels, big=True)):
        image = read_image(data)
        assert np.array_equal(image.pixels, GREY)
        assert image.flags == ("16-bit",)
        with pytest.raises(ImageError, match=r"several channels of 16 bits.*0 to 4095"):
            read_image(data, value_range=TWELVE)
    dark = read_image(tiff((channels // 16).astype(np.uint16)))
    assert dark.flags == ("16-bit", "upper bits unused")


def test_significant_bits_of_a_png_change_nothing(png: Make) -> None:
    """Its samples span the whole depth, however many bits the scanner had (PNG, 11.3.2.7)."""
    values = ((GREY >> 4).astype(np.uint16) * 4369).astype(">u2").view(np.uint8)
    image = read_image(png(values, 16, 0, {b"sBIT": b"\x04"}))
    assert np.array_equal(image.pixels, (GREY >> 4) * 17)


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_transparent_grey_is_black_at_every_depth(png: Make, depth: int) -> None:
    top = 2**depth - 1
    values = np.tile(np.arange(48) % 4 * top // 3, (40, 1))  # 0, a third, two thirds, all
    if depth == 1:
        values = values & 1
    if depth == 16:
        rows = values.astype(">u2").view(np.uint8)
    elif depth == 8:
        rows = values.astype(np.uint8)
    else:
        bits = (values[..., None] >> np.arange(depth - 1, -1, -1)) & 1
        rows = np.packbits(bits.reshape(40, -1), axis=1)
    shown = np.rint(values * 255 / top)
    image = read_image(png(rows, depth, 0))
    assert np.array_equal(image.pixels, shown)
    cleared = read_image(png(rows, depth, 0, {b"tRNS": int(top).to_bytes(2, "big")}))
    assert np.array_equal(cleared.pixels, np.where(values == top, 0, shown))
    assert cleared.flags == (("16-bit", "alpha") if depth == 16 else ("alpha",))


def test_transparent_colour_of_sixteen_bits_is_black(png: Make) -> None:
    channels = np.stack([WIDE] * 3, axis=-1)
    clear = bytes.fromhex(f"{int(WIDE[1, 1]):04x}" * 3)
    image = read_image(png(channels.astype(">u2").reshape(40, -1).view(np.uint8), 16, 2, {b"tRNS": clear}))
    assert np.array_equal(image.pixels, np.where(WIDE[1, 1] == WIDE, 0, GREY))
    assert image.flags == ("alpha", "16-bit")


def test_cmyk_jpeg_is_inverted_where_adobe_says_so(picture: Make) -> None:
    adobe = picture(Image.fromarray(GREY).convert("CMYK"), "JPEG", quality=98)
    assert b"Adobe" in adobe
    at = adobe.index(b"\xff\xee")
    plain = adobe[:at] + adobe[at + 16 :]
    assert np.abs(read_image(adobe).pixels.astype(int) - GREY).mean() < 3
    ink = read_image(plain)  # the same samples, now taken for ink as they stand
    assert "cmyk" in ink.flags
    stored = Image.open(io.BytesIO(adobe))
    inverted = Image.fromarray(255 - np.asarray(stored), "CMYK").convert("RGB")
    assert np.array_equal(ink.pixels, np.asarray(inverted.convert("L")))


@pytest.mark.parametrize("kind", ["TIFF", "PNG", "JPEG", "WEBP"])
def test_orientation_is_applied_and_said(picture: Make, kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    smooth = np.add.outer(np.arange(40), np.arange(48)).astype(np.uint8) * 2
    options: dict[str, Any] = {"lossless": True} if kind == "WEBP" else {}
    image = read_image(picture(smooth, kind, exif=exif, **options))
    assert np.abs(image.pixels.astype(int) - np.rot90(smooth, -1)).max() <= 2
    assert image.flags == ("rotated",)


def test_ranges_are_read_from_lists_and_text() -> None:
    for given in ([0, 4095], (0.0, 4095.0), "0,4095", "[0, 4095]", " 0 ; 4095 ", "0 4095"):
        assert read_range(given, "--range") == TWELVE
    wrong: tuple[Any, ...] = (
        "4095,0",
        "1",
        "0,0",
        "a,b",
        [0, 1, 2],
        [True, False],
        None,
        3,
        {"low": 0},
        "0,inf",
        "nan,1",
    )
    for given in wrong:
        with pytest.raises(InputError, match=r"--range: .* must be two numbers"):
            read_range(given, "--range")


def test_windows_of_dicom_give_way_to_the_declared_range(dicom: Make) -> None:
    values = (np.arange(40 * 48) * 2).reshape(40, 48).astype(np.uint16)
    plain = dicom(values, WindowCenter=100, WindowWidth=50, RescaleSlope=0.5, RescaleIntercept=-10, RescaleType="US")
    image = read_image(plain, value_range=ValueRange(-10.0, 1909.0))
    assert np.abs(image.pixels - np.arange(40 * 48).reshape(40, 48) / 1919 * 255).max() <= 0.6
    assert image.range == (-10.0, 1909.0)
    eight = dicom(GREY, WindowCenter=100, WindowWidth=50)
    assert np.array_equal(read_image(eight, value_range=TWELVE).pixels, read_image(eight).pixels)
    colour = dicom(np.stack([GREY.astype(np.uint16) * 16] * 3, axis=-1), "RGB")
    assert np.abs(read_image(colour, value_range=ValueRange(0.0, 4080.0)).pixels.astype(int) - GREY).max() <= 1


def test_frames_of_a_clip_share_one_scale(dicom: Make) -> None:
    clip = np.stack([GREY.astype(np.uint16) * 4, GREY.astype(np.uint16) * 4])
    clip[1, 0, 0] = 4095
    first, second = read_frames(dicom(clip, NumberOfFrames=2, BitsStored=12, HighBit=11))
    assert np.array_equal(first.pixels[1:], second.pixels[1:])


def test_sixteen_stored_bits_of_which_twelve_are_used_are_said(dicom: Make) -> None:
    dark = GREY.astype(np.uint16) * 16
    assert "upper bits unused" in read_image(dicom(dark)).flags
    assert "upper bits unused" not in read_image(dicom(dark, BitsStored=12, HighBit=11)).flags
    assert "upper bits unused" not in read_image(dicom(dark, WindowCenter=2048, WindowWidth=4096)).flags
    assert read_image(dicom(dark.astype(np.int16))).flags[-1] == "signed values without a window"


def test_every_doubt_is_explained_in_the_docs_and_on_the_page() -> None:
    page = (Path(__file__).parents[2] / "docs" / "images.md").read_text(encoding="utf-8")
    for flag in WORTH_SAYING:
        assert f"`{flag}`" in page
        assert flag in _FLAGS
