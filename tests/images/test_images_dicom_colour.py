"""Colour in DICOM: a compressed stream is believed before its label, and what only a label tells is checked."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydicom.pixels import convert_color_space
from pydicom.uid import ExplicitVRLittleEndian, JPEG2000Lossless, JPEGBaseline8Bit, RLELossless

from medsharp.images import ImageError, read_image

Make = Callable[..., bytes]

RNG = np.random.default_rng(3)
GREY = np.kron(np.clip(RNG.gamma(2.0, 25.0, (8, 10)), 0, 255), np.ones((8, 8))).astype(np.uint8)
RGB = np.stack([GREY] * 3, axis=-1)
RGB[8:24, 8:24] = (200, 40, 20)
WANTED = np.asarray(Image.fromarray(RGB).convert("L")).astype(int)


def jpeg(*, rgb: bool = False, subsampling: int = 0) -> bytes:
    stream = io.BytesIO()
    options = {"keep_rgb": True} if rgb else {"subsampling": subsampling}
    Image.fromarray(RGB).save(stream, "JPEG", quality=98, **options)  # type: ignore[arg-type]
    return stream.getvalue()


def bare(stream: bytes, marker: bytes = b"") -> bytes:
    """Take JFIF's and Adobe's markers out of a JPEG and perhaps put another in."""
    kept, place = stream[:2] + marker, 2
    while stream[place + 1] != 0xDA:
        end = place + 2 + int.from_bytes(stream[place + 2 : place + 4], "big")
        if stream[place + 1] not in (0xE0, 0xEE):
            kept += stream[place:end]
        place = end
    return kept + stream[place:]


def adobe(transform: int) -> bytes:
    return b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00" + bytes([transform])


def numbered(stream: bytes) -> bytes:
    """Call the components R, G and B of a JPEG 1, 2 and 3, as most writers do."""
    frame, scan = stream.index(b"\xff\xc0"), stream.index(b"\xff\xda")
    changed = bytearray(stream)
    for number in range(3):
        changed[frame + 10 + 3 * number] = changed[scan + 5 + 2 * number] = number + 1
    return bytes(changed)


YBR, UNTRANSFORMED = jpeg(), jpeg(rgb=True)


@pytest.mark.parametrize("label", ["RGB", "YBR_FULL", "YBR_FULL_422"])
@pytest.mark.parametrize(
    ("stream", "holds"),
    [
        (YBR, "YBR"),
        (bare(YBR), "YBR"),
        (jpeg(subsampling=2), "YBR"),
        (bare(jpeg(subsampling=1)), "YBR"),
        (bare(YBR, adobe(1)), "YBR"),
        (UNTRANSFORMED, "RGB"),
        (bare(UNTRANSFORMED), "RGB"),
        (bare(numbered(UNTRANSFORMED), adobe(0)), "RGB"),
    ],
    ids=["JFIF", "bare", "JFIF 4:2:0", "bare 4:2:2", "Adobe 1", "RGB", "bare RGB", "Adobe 0"],
)
def test_jpeg_is_decoded_as_its_stream_says(dicom: Make, stream: bytes, holds: str, label: str) -> None:
    image = read_image(dicom(RGB, label, syntax=JPEGBaseline8Bit, encoded=[stream]))
    assert np.abs(image.pixels.astype(int) - WANTED).mean() < 3
    assert ("colour label corrected" in image.flags) == (holds != label[:3])


def test_jpeg_that_does_not_tell_is_decoded_by_its_label(dicom: Make) -> None:
    silent = bare(numbered(UNTRANSFORMED))
    right = read_image(dicom(RGB, "RGB", syntax=JPEGBaseline8Bit, encoded=[silent]))
    assert np.abs(right.pixels.astype(int) - WANTED).mean() < 3
    assert right.flags == ("dicom", "colour")
    wrong = read_image(dicom(RGB, "YBR_FULL", syntax=JPEGBaseline8Bit, encoded=[silent]))
    assert "colour label doubtful" in wrong.flags


def test_planar_configuration_is_that_of_uncompressed_samples(dicom: Make) -> None:
    frames = {JPEGBaseline8Bit: [YBR], RLELossless: None, JPEG2000Lossless: None}
    for syntax, encoded in frames.items():
        data = dicom(RGB, "YBR_FULL_422" if encoded else "RGB", syntax=syntax, encoded=encoded)
        image = read_image(data.replace(b"\x28\x00\x06\x00US\x02\x00\x00\x00", b"\x28\x00\x06\x00US\x02\x00\x01\x00"))
        assert np.abs(image.pixels.astype(int) - WANTED).mean() < 3
    planes = np.ascontiguousarray(np.moveaxis(RGB, -1, 0))
    image = read_image(dicom(RGB, "RGB", PlanarConfiguration=1).replace(RGB.tobytes(), planes.tobytes()))
    assert np.array_equal(image.pixels, WANTED)


@pytest.mark.parametrize("transformed", [True, False])
@pytest.mark.parametrize("label", ["RGB", "YBR_RCT", "YBR_ICT", "YBR_FULL"])
def test_jpeg_2000_is_decoded_as_its_stream_says(dicom: Make, transformed: bool, label: str) -> None:
    samples = RGB if transformed or label != "YBR_FULL" else convert_color_space(RGB, "RGB", "YBR_FULL")
    stream = io.BytesIO()
    Image.fromarray(samples).save(stream, "JPEG2000", no_jp2=True, mct=int(transformed), irreversible=False)
    image = read_image(dicom(RGB, label, syntax=JPEG2000Lossless, encoded=[stream.getvalue()]))
    assert np.abs(image.pixels.astype(int) - WANTED).max() <= 2
    contradicts = label == "YBR_FULL" if transformed else label in ("YBR_RCT", "YBR_ICT")
    assert ("colour label corrected" in image.flags) == contradicts


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, RLELossless])
def test_label_that_only_the_pixels_contradict_is_said(dicom: Make, syntax: str) -> None:
    """Nothing but the label tells what uncompressed samples are: the pixels may not overrule it, but they may doubt."""
    ybr = convert_color_space(RGB, "RGB", "YBR_FULL")
    for samples, label, doubtful in (
        (RGB, "RGB", False),
        (ybr, "YBR_FULL", False),
        (ybr, "RGB", True),
        (RGB, "YBR_FULL", True),
    ):
        image = read_image(dicom(samples, label, syntax=syntax))
        assert ("colour label doubtful" in image.flags) == doubtful
        if not doubtful:
            assert np.abs(image.pixels.astype(int) - WANTED).max() <= 2


def test_colours_of_unread_kinds_are_refused_not_taken_for_rgb(dicom: Make) -> None:
    for label in ("YBR_PARTIAL_422", "YBR_RCT", "HSV", "MONOCHROME2"):
        with pytest.raises(ImageError, match=r"scan\.dcm"):
            read_image(dicom(RGB, label), name="scan.dcm")


def test_palette_is_scaled_by_its_table_not_by_what_a_frame_uses(dicom: Make) -> None:
    """A dark frame uses only entries that would fit 8 bits; its table has 16."""
    levels = (np.arange(256) * 256 + 100).astype(np.uint16)
    attributes = {}
    for colour in ("Red", "Green", "Blue"):
        attributes[f"{colour}PaletteColorLookupTableDescriptor"] = [256, 0, 16]
        attributes[f"{colour}PaletteColorLookupTableData"] = levels.tobytes()
    dark = (GREY > 60).astype(np.uint8)
    assert np.array_equal(read_image(dicom(dark, "PALETTE COLOR", **attributes)).pixels, dark)


@pytest.mark.parametrize(("most", "flags"), [(255, ("dicom", "palette of 8 bits")), (256, ("dicom",)), (0, ("dicom",))])
def test_a_palette_of_sixteen_bits_that_was_stored_as_of_eight_is_said(
    dicom: Make, most: int, flags: tuple[str, ...]
) -> None:
    levels = (np.arange(256) * most // 255).astype("<u2")
    attributes: dict[str, Any] = {}
    for colour in ("Red", "Green", "Blue"):
        attributes[f"{colour}PaletteColorLookupTableDescriptor"] = [256, 0, 16]
        attributes[f"{colour}PaletteColorLookupTableData"] = levels.tobytes()
    image = read_image(dicom(GREY, "PALETTE COLOR", **attributes))
    assert image.flags == flags
    assert np.array_equal(image.pixels, GREY if most == 255 else levels[GREY] // 256)


def test_colour_of_sixteen_bits_keeps_its_upper_half(dicom: Make) -> None:
    image = read_image(dicom(RGB.astype(np.uint16) * 256 + 100, "RGB"))
    assert np.array_equal(image.pixels, WANTED)


def test_subsampling_alone_tells_colour_differences(dicom: Make) -> None:
    stream = io.BytesIO()
    Image.fromarray(RGB).save(stream, "JPEG", qtables=[[2] * 64], subsampling=2)
    image = read_image(dicom(RGB, "RGB", syntax=JPEGBaseline8Bit, encoded=[bare(stream.getvalue())]))
    assert np.abs(image.pixels.astype(int) - WANTED).mean() < 3
    assert "colour label corrected" in image.flags


@pytest.mark.parametrize("label", ["RGB", "YBR_FULL"])
def test_images_in_colour_are_not_doubted(dicom: Make, label: str) -> None:
    """A third of the pixels looks like the other label's grey: a picture may."""
    colourful = RNG.integers(0, 256, RGB.shape, dtype=np.uint8)
    colourful[::3] = (90, 128, 128) if label == "RGB" else (90, 90, 90)
    assert "colour label doubtful" not in read_image(dicom(colourful, label)).flags
