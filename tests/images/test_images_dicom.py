"""DICOM objects of every transfer syntax and photometric interpretation give the right grey; nothing else leaves."""

from __future__ import annotations

import io
import logging
import traceback
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread, dcmwrite
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.pixels import convert_color_space
from pydicom.pixels.decoders.base import Decoder
from pydicom.uid import (
    HEVCM10P51,
    HEVCMP51,
    JPEG2000MC,
    MPEG2MPHLF,
    MPEG2MPML,
    MPEG4HP41,
    MPEG4HP42STEREOF,
    UID,
    DeflatedExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    RLELossless,
)

from medsharp.images import ImageError, ImageLimits, is_dicom, read_frames, read_image
from medsharp.images.codestream import read_jpeg2000_header
from medsharp.images.dicom import NEEDED, Clip, open_dicom

GREY = np.add.outer(np.arange(40), np.arange(50)).astype(np.uint8) * 2
BLUR = np.full((40, 50), 90, dtype=np.uint8)
Make = Callable[..., bytes]


def example(name: str) -> bytes:
    return Path(str(get_testdata_file(name, download=False))).read_bytes()


def region(box: tuple[int, int, int, int], spatial: int = 1, kind: int = 1) -> Dataset:
    item = Dataset()
    item.RegionSpatialFormat, item.RegionDataType = spatial, kind
    item.RegionLocationMinX0, item.RegionLocationMinY0, item.RegionLocationMaxX1, item.RegionLocationMaxY1 = box
    return item


def test_monochrome_is_read_and_inverted_where_it_says_so(dicom: Make) -> None:
    assert np.array_equal(read_image(dicom(GREY)).pixels, GREY)
    assert np.array_equal(read_image(dicom(GREY, "MONOCHROME1")).pixels, 255 - GREY)
    assert read_image(dicom(GREY)).flags == ("dicom",)


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian])
def test_uncompressed_syntaxes_give_the_same_pixels(dicom: Make, syntax: Any) -> None:
    values = np.arange(2000, dtype=np.uint16).reshape(40, 50) * 32
    dataset = dcmread(io.BytesIO(dicom(values)))
    dataset.file_meta.TransferSyntaxUID = syntax
    stream = io.BytesIO()
    dataset.save_as(stream, implicit_vr=syntax.is_implicit_VR)
    assert np.array_equal(read_image(stream.getvalue()).pixels, read_image(dicom(values)).pixels)


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless])
def test_lossless_compression_gives_the_same_pixels(dicom: Make, syntax: Any) -> None:
    assert np.array_equal(read_image(dicom(GREY, syntax=syntax)).pixels, GREY)


@pytest.mark.parametrize(
    "name", ["MR_small_bigendian.dcm", "MR_small_RLE.dcm", "MR_small_jp2klossless.dcm", "MR_small_jpeg_ls_lossless.dcm"]
)
def test_lossless_sixteen_bits_are_as_uncompressed(name: str) -> None:
    assert np.array_equal(read_image(example(name)).pixels, read_image(example("MR_small.dcm")).pixels)


@pytest.mark.parametrize("name", ["SC_rgb_jpeg_gdcm.dcm", "SC_rgb_gdcm_KY.dcm"])
def test_lossless_colour_is_as_by_run_lengths(name: str) -> None:
    """JPEG lossless (process 14, selection value 1) and JPEG 2000 of the picture that SC_rgb_rle.dcm holds."""
    assert np.array_equal(read_image(example(name)).pixels, read_image(example("SC_rgb_rle.dcm")).pixels)


@pytest.mark.parametrize(
    "name",
    [
        "SC_rgb_dcmtk_+eb+cr.dcm",  # JPEG baseline of RGB
        "SC_rgb_dcmtk_+eb+cy+np.dcm",  # of YBR_FULL_422
        "SC_rgb_jpeg_lossy_gdcm.dcm",  # of YBR_FULL
        "SC_rgb_jls_lossy_line.dcm",  # near-lossless JPEG-LS, interleaved by line
        "SC_rgb_jls_lossy_sample.dcm",  # by sample
        "SC_ybr_full_422_uncompressed.dcm",
    ],
)
def test_lossy_colour_is_near(name: str) -> None:
    difference = read_image(example(name)).pixels.astype(int) - read_image(example("SC_rgb_rle.dcm")).pixels
    assert np.abs(difference).mean() < 2


def test_jpeg_of_twelve_bits_is_read() -> None:
    image = read_image(example("JPGExtended.dcm"))
    assert image.flags == ("dicom", "modality NM, not ultrasound", "16-bit")
    assert image.pixels.std() > 0


def test_compression_without_its_decoder_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Decoder, "available_plugins", ("pillow",))
    with pytest.raises(ImageError, match=r"JPEG Extended.*pip install 'medsharp\[dicom\]'"):
        read_image(example("JPGExtended.dcm"))


@pytest.mark.parametrize(
    ("syntax", "kind"),
    [
        (MPEG2MPML, "MPEG-2"),
        (MPEG2MPHLF, "MPEG-2"),
        (MPEG4HP41, "MPEG-4"),
        (MPEG4HP42STEREOF, "MPEG-4"),
        (HEVCMP51, "HEVC"),
        (HEVCM10P51, "HEVC"),
    ],
)
def test_a_video_is_refused_as_one(dicom: Make, syntax: UID, kind: str) -> None:
    """Whatever of it is asked for, and before its frames, of which there may be thousands, are counted."""
    data = dicom(GREY[None], syntax=syntax, encoded=[b"\0\0\1\xb3" + bytes(60)], NumberOfFrames=90_000)
    expected = rf"^clip\.dcm is a video \({kind}\), which is not read; export it as single images"
    for read in (read_image, lambda *one, **more: next(read_frames(*one, **more))):
        with pytest.raises(ImageError, match=expected):
            read(data, name="clip.dcm")


@pytest.mark.parametrize(
    ("syntax", "how"),
    [
        (JPEG2000MC, "as JPEG 2000 Part 2 Multi-component Image Compression, which"),
        (UID("1.2.840.10008.1.2.4.204"), "as JPIP HTJ2K Referenced, which"),
        (UID("1.2.826.0.1.99"), "in a way that"),
    ],
)
def test_a_compression_that_nothing_reads_is_said(dicom: Make, syntax: UID, how: str) -> None:
    if syntax.is_private:  # which cannot be written
        data = dicom(GREY).replace(b"1.2.840.10008.1.2.1\0", syntax.encode().ljust(20, b"\0"), 1)
    else:
        data = dicom(GREY, syntax=syntax, encoded=[bytes(64)])
    with pytest.raises(ImageError, match=rf"^scan\.dcm is stored {how} is not read; export it uncompressed"):
        read_image(data, name="scan.dcm")


def test_grey_jpeg_is_as_the_picture_inside(dicom: Make, picture: Make) -> None:
    jpeg = picture(GREY, "JPEG", quality=90)
    image = read_image(dicom(GREY, syntax=JPEGBaseline8Bit, encoded=[jpeg]))
    assert np.array_equal(image.pixels, np.asarray(Image.open(io.BytesIO(jpeg))))


def test_window_is_applied_as_the_standard_says(dicom: Make) -> None:
    values = np.linspace(0, 4095, 40 * 50).reshape(40, 50).astype(np.uint16)
    image = read_image(dicom(values, WindowCenter=1000, WindowWidth=1000, BitsStored=12, HighBit=11))
    assert image.flags == ("dicom", "16-bit")
    expected = np.rint(255 * np.clip((values - 999.5) / 999 + 0.5, 0, 1))
    assert np.array_equal(image.pixels, expected)


def test_whole_window_of_eight_bits_changes_nothing(dicom: Make) -> None:
    assert np.array_equal(read_image(dicom(GREY, WindowCenter=128, WindowWidth=256)).pixels, GREY)


@pytest.mark.parametrize("function", ["LINEAR_EXACT", "SIGMOID"])
def test_window_functions(dicom: Make, function: str) -> None:
    image = read_image(dicom(GREY, WindowCenter=[100, 5], WindowWidth=[80, 5], VOILUTFunction=function))
    place = (GREY.astype(float) - 100) / 80
    expected = np.clip(place + 0.5, 0, 1) if function == "LINEAR_EXACT" else 1 / (1 + np.exp(-4 * place))
    assert np.array_equal(image.pixels, np.rint(255 * expected))


def test_rescaled_and_signed_values_span_the_range(dicom: Make) -> None:
    values = np.linspace(-32768, 32767, 2000).reshape(40, 50).astype(np.int16)
    image = read_image(dicom(values, RescaleSlope=0.5, RescaleIntercept=-1000, RescaleType="US"))
    assert np.array_equal(image.pixels, np.rint((values.astype(float) + 32768) / 65535 * 255))


def test_voi_table_goes_before_a_window(dicom: Make) -> None:
    table = Dataset()
    table.LUTDescriptor, table.LUTData = [256, 0, 16], ((255 - np.arange(256)) * 257).astype("<u2").tobytes()
    image = read_image(dicom(GREY, VOILUTSequence=[table], WindowCenter=10, WindowWidth=10))
    assert np.array_equal(image.pixels, 255 - GREY)


@pytest.mark.parametrize("interpretation", ["RGB", "YBR_FULL"])
@pytest.mark.parametrize("planar", [0, 1])
def test_colour_becomes_luminance(dicom: Make, interpretation: str, planar: int) -> None:
    rgb = np.stack([GREY, GREY // 2, 255 - GREY], axis=-1)
    stored = rgb if interpretation == "RGB" else convert_color_space(rgb, "RGB", "YBR_FULL")
    stored = np.moveaxis(stored, -1, 0) if planar else stored
    data = dicom(rgb, interpretation, PlanarConfiguration=planar)
    dataset = dcmread(io.BytesIO(data))
    dataset.PixelData = np.ascontiguousarray(stored).tobytes()
    stream = io.BytesIO()
    dataset.save_as(stream)
    image = read_image(stream.getvalue())
    assert image.flags == ("dicom", "colour")
    expected = np.asarray(Image.fromarray(rgb).convert("L")).astype(int)
    assert np.abs(image.pixels - expected).max() <= (0 if interpretation == "RGB" else 2)


def test_sixteen_bit_colour_is_scaled_not_cut(dicom: Make) -> None:
    rgb = np.repeat(GREY[..., None], 3, axis=-1)
    assert np.array_equal(read_image(dicom(rgb.astype(np.uint16) * 257, "RGB")).pixels, GREY)


@pytest.mark.parametrize("bits", [8, 16])
def test_palette_becomes_luminance(dicom: Make, bits: int) -> None:
    attributes: dict[str, Any] = {}
    for colour in ("Red", "Green", "Blue"):
        table = np.arange(256)[::-1] * (257 if bits == 16 else 1)
        attributes[f"{colour}PaletteColorLookupTableDescriptor"] = [256, 0, bits]
        attributes[f"{colour}PaletteColorLookupTableData"] = table.astype(f"<u{bits // 8}").tobytes()
    image = read_image(dicom(GREY, "PALETTE COLOR", **attributes))
    assert np.array_equal(image.pixels, 255 - GREY)
    assert image.flags == ("dicom",)


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, RLELossless, JPEG2000Lossless])
def test_sharpest_frame_is_chosen_and_said(dicom: Make, syntax: Any) -> None:
    clip = np.stack([BLUR, GREY // 2, np.where(np.indices((40, 50)).sum(axis=0) % 9 < 4, 60, 140).astype(np.uint8)])
    data = dicom(clip, NumberOfFrames=3, **({"syntax": syntax} if syntax.is_encapsulated else {}))
    image = read_image(data)
    assert np.array_equal(image.pixels, clip[2])
    assert image.frame == 3
    assert "frame 3 of 3, the sharpest" in image.flags
    for number in (1, 2, 3):
        assert np.array_equal(read_image(data, frame=number).pixels, clip[number - 1])
    assert [frame.frame for frame in read_frames(data)] == [1, 2, 3]
    assert all(np.array_equal(frame.pixels, pixels) for frame, pixels in zip(read_frames(data), clip, strict=True))


def test_brighter_frame_is_not_taken_for_a_sharper_one(dicom: Make) -> None:
    noise = np.random.default_rng(0).integers(0, 100, (40, 50), dtype=np.uint8)
    blurred = np.asarray(Image.fromarray(noise).resize((10, 8), Image.Resampling.BOX).resize((50, 40)))
    clip = np.stack([noise, np.minimum(blurred.astype(int) * 2, 255).astype(np.uint8)])
    assert read_image(dicom(clip, NumberOfFrames=2)).frame == 1


def test_only_the_frame_asked_for_is_decoded(dicom: Make, picture: Make) -> None:
    good = picture(GREY, "JPEG", quality=95)
    data = dicom(
        np.stack([GREY] * 3), NumberOfFrames=3, syntax=JPEGBaseline8Bit, encoded=[good[:200], good, good[:-300]]
    )
    assert np.abs(read_image(data, frame=2).pixels.astype(int) - GREY).mean() < 3
    with pytest.raises(ImageError):
        read_image(data, frame=1)
    with pytest.raises(ImageError):
        read_image(data)


@pytest.mark.parametrize(("frame", "words"), [(0, "has 3 frames; there is no frame 0"), (4, "there is no frame 4")])
def test_frame_that_does_not_exist_is_a_sentence(dicom: Make, frame: int, words: str) -> None:
    with pytest.raises(ImageError, match=words):
        read_image(dicom(np.stack([GREY] * 3), NumberOfFrames=3), frame=frame)


def test_ultrasound_region_is_cropped_to_and_can_be_switched_off(dicom: Make) -> None:
    screen = np.zeros((100, 120), dtype=np.uint8)
    screen[:10, :60] = 255  # a banner
    screen[20:60, 30:80] = GREY
    data = dicom(screen, SequenceOfUltrasoundRegions=[region((30, 20, 79, 59))])
    image = read_image(data)
    assert np.array_equal(image.pixels, GREY)
    assert image.flags == ("dicom", "cropped to the ultrasound region")
    whole = read_image(data, region=False)
    assert np.array_equal(whole.pixels, screen)
    assert whole.flags == ("dicom",)


def test_largest_tissue_region_is_used_and_others_are_not(dicom: Make) -> None:
    screen = np.arange(12_000, dtype=np.uint16).reshape(100, 120).astype(np.uint8)
    items = [
        region((0, 0, 119, 99), spatial=2),  # M-mode
        region((0, 0, 118, 98), kind=2),  # colour flow
        region((0, 0, 29, 29)),
        region((40, 10, 89, 69)),
        region((50, 20, 54, 24)),
    ]
    assert np.array_equal(read_image(dicom(screen, SequenceOfUltrasoundRegions=items)).pixels, screen[10:70, 40:90])


@pytest.mark.parametrize(
    "items",
    [
        [],
        [region((0, 0, 49, 39))],  # the whole image
        [region((0, 0, 5, 5))],  # too small
        [region((30, 30, 10, 10))],  # upside down
        [region((0, 0, 49, 39), kind=3)],
    ],
)
def test_without_a_usable_region_the_image_is_whole(dicom: Make, items: list[Dataset]) -> None:
    image = read_image(dicom(GREY, SequenceOfUltrasoundRegions=items))
    assert image.flags == ("dicom",)
    assert np.array_equal(image.pixels, GREY)


def test_region_beyond_the_image_ends_at_its_edge(dicom: Make) -> None:
    data = dicom(GREY, SequenceOfUltrasoundRegions=[region((10, 5, 4000, 4000))])
    assert np.array_equal(read_image(data).pixels, GREY[5:, 10:])


def test_colour_outside_the_region_is_not_the_images(dicom: Make) -> None:
    screen = np.repeat(np.pad(GREY, ((20, 0), (0, 0)))[..., None], 3, axis=-1)
    screen[:20] = (255, 120, 0)
    image = read_image(dicom(screen, "RGB", SequenceOfUltrasoundRegions=[region((0, 20, 49, 59))]))
    assert "colour" not in image.flags
    assert np.array_equal(image.pixels, GREY)


@pytest.mark.parametrize(
    ("attributes", "limits", "words"),
    [
        ({"NumberOfFrames": 3}, ImageLimits(max_frames=2), "has 3 frames; the most is 2"),
        ({"NumberOfFrames": 3}, ImageLimits(max_clip_pixels=5999), "3 frames of 50 x 40 pixels; the most is 5999"),
        ({"NumberOfFrames": 3}, ImageLimits(max_pixels=1999), "is 50 x 40 pixels"),
        ({"NumberOfFrames": 3}, ImageLimits(max_side=49), "the most is 49 a side"),
        ({"NumberOfFrames": -3}, ImageLimits(), "has no frames"),
        ({"NumberOfFrames": 2_000_000_000}, ImageLimits(), "the most is 2000"),
    ],
)
def test_limits_are_checked_before_anything_is_decoded(
    dicom: Make, monkeypatch: pytest.MonkeyPatch, attributes: dict[str, Any], limits: ImageLimits, words: str
) -> None:
    monkeypatch.setattr("pydicom.pixels.decoders.base.Decoder.as_array", lambda *a, **k: pytest.fail("decoded"))
    frames = attributes["NumberOfFrames"]
    dataset = dcmread(io.BytesIO(dicom(np.stack([GREY] * 3), NumberOfFrames=3)))
    dataset.NumberOfFrames = frames
    stream = io.BytesIO()
    dataset.save_as(stream)
    with pytest.raises(ImageError, match=words):
        read_image(stream.getvalue(), name="scan.dcm", limits=limits)


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, RLELossless])
def test_clip_that_nobody_waits_for_is_not_decoded_to_its_end(
    dicom: Make, syntax: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = dicom(np.stack([GREY] * 6), NumberOfFrames=6, syntax=syntax)
    decoded: list[int] = []
    decode = Clip._decode

    def counted(self: Clip, number: int, encoded: bytes | None) -> Any:
        decoded.append(number)
        return decode(self, number, encoded)

    monkeypatch.setattr(Clip, "_decode", counted)
    with pytest.raises(ImageError, match=r"^clip\.dcm is not waited for any longer$"):
        read_image(clip, name="clip.dcm", wanted=lambda: len(decoded) < 3)
    assert decoded == [1, 2, 3]
    assert "of 6, the sharpest" in str(read_image(clip, wanted=lambda: True).flags)
    assert len(decoded) == 9


def test_one_frame_of_a_clip_too_large_to_decode_whole_is_read(dicom: Make) -> None:
    data = dicom(np.stack([GREY] * 3), NumberOfFrames=3)
    assert np.array_equal(read_image(data, frame=2, limits=ImageLimits(max_clip_pixels=5999)).pixels, GREY)


@pytest.mark.parametrize("kind", ["JPEG", "JPEG2000"])
def test_compressed_frame_larger_than_it_says_is_refused_before_decoding(
    dicom: Make, picture: Make, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    syntax = JPEGBaseline8Bit if kind == "JPEG" else JPEG2000Lossless
    bomb = picture(np.zeros((800, 900), dtype=np.uint8), kind)
    data = dicom(GREY, syntax=syntax, encoded=[bomb])
    monkeypatch.setattr("pydicom.pixels.decoders.base.Decoder.as_array", lambda *a, **k: pytest.fail("decoded"))
    with pytest.raises(ImageError, match="cannot be decoded"):
        read_image(data)


def test_deflated_bomb_is_refused_before_it_is_unpacked(dicom: Make) -> None:
    plain = dicom(GREY)
    dataset = dcmread(io.BytesIO(plain))
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    stream = io.BytesIO()
    dataset.save_as(stream)
    deflated = stream.getvalue()
    start = 144 + int.from_bytes(deflated[140:144], "little")
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    bomb = deflated[:start] + packer.compress(bytes(8 * 2**20)) + packer.flush()
    assert len(bomb) < 10_000
    # Whole, without its 128 bytes before the mark, and without the mark.
    for cut in (0, 128, 132):
        with pytest.raises(ImageError, match="unpacked, has 1 MiB; the most is 1 MiB"):
            read_image(bomb[cut:], name="scan.dcm", limits=ImageLimits(max_bytes=2**20))
        assert np.array_equal(read_image(deflated[cut:]).pixels, GREY)


def test_nothing_of_the_patient_leaves(
    dicom: Make, caplog: pytest.LogCaptureFixture, recwarn: pytest.WarningsRecorder, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    good = dicom(GREY, PatientBirthDate="19701231", StudyDescription="SECRET STUDY", WindowCenter=1, WindowWidth=2)
    damaged = [
        good[:-500],
        good.replace(b"MONOCHROME2 ", b"SECRET      "),
        good.replace(b"19701231", b"SECRET!!"),
        dicom(GREY, BitsStored=999),
        dicom(GREY, NumberOfFrames=None, PixelRepresentation=7),
    ]
    said = [repr(read_image(good).flags)]
    for data in damaged:
        try:
            said.append(repr(read_image(data, name="scan.dcm")))
        except ImageError as error:
            said += [str(error), repr(error.__cause__), *traceback.format_exception(error)]
    heard = " ".join([*said, caplog.text, *(str(warning.message) for warning in recwarn), *capfd.readouterr()])
    assert "SECRET" not in heard.upper()
    assert "1970" not in heard


def test_no_attribute_of_the_patient_is_parsed(dicom: Make) -> None:
    data = dicom(GREY, PatientBirthDate="19701231", StudyDescription="SECRET STUDY")
    held = open_dicom(data, "scan.dcm", ImageLimits(), region=True).dataset
    assert {element.keyword for element in held} <= set(NEEDED)
    assert "SECRET" not in str(held)
    assert not any("Patient" in keyword for keyword in NEEDED)


def test_object_without_an_image_is_a_sentence() -> None:
    with pytest.raises(ImageError, match=r"plan\.dcm is a DICOM object without an image"):
        read_image(example("rtplan.dcm"), name="plan.dcm")


def test_object_without_preamble_is_known_by_its_first_element(dicom: Make) -> None:
    whole = dicom(GREY)
    dataset = dcmread(io.BytesIO(whole))
    dataset["PixelData"].VR = "OB"  # bytes, which no byte order swaps
    assert is_dicom(whole)
    for data in (whole[128:], whole[132:]):
        assert is_dicom(data)
        assert np.array_equal(read_image(data, name="scan").pixels, GREY)
    for implicit, little in ((True, True), (False, True), (False, False)):
        stream = io.BytesIO()
        # Without file meta information either.
        dcmwrite(stream, Dataset(dataset), implicit_vr=implicit, little_endian=little)
        assert is_dicom(stream.getvalue())
        assert np.array_equal(read_image(stream.getvalue(), name="scan").pixels, GREY)


def test_compressed_pixels_without_file_meta_information_are_refused(dicom: Make) -> None:
    dataset = dcmread(io.BytesIO(dicom(GREY, syntax=RLELossless)))
    stream = io.BytesIO()
    dcmwrite(stream, Dataset(dataset), implicit_vr=False, little_endian=True)
    with pytest.raises(ImageError, match="scan is a DICOM object that cannot be decoded"):
        read_image(stream.getvalue(), name="scan")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "BMP", "WEBP", "GIF"])
def test_pictures_and_words_are_no_dicom(picture: Make, kind: str) -> None:
    assert not is_dicom(picture(GREY, kind))
    assert not is_dicom(b"image,label,patient\na.png,benign,1\n")
    assert not is_dicom(b"")
    assert not is_dicom(b"\x08\x00\x00\x00" + b"\xff" * 200)


@pytest.mark.parametrize(("value", "flagged"), [("YES", True), ("NO", False), ("", False)])
def test_burned_in_annotation_is_said(dicom: Make, value: str, flagged: bool) -> None:
    assert ("burned-in annotation" in read_image(dicom(GREY, BurnedInAnnotation=value)).flags) == flagged


@pytest.mark.parametrize(
    ("modality", "flagged"), [("MG", True), ("CT", True), ("US", False), ("OT", False), ("", False)]
)
def test_other_modality_is_said(dicom: Make, modality: str, flagged: bool) -> None:
    flags = read_image(dicom(GREY, Modality=modality)).flags
    assert (f"modality {modality}, not ultrasound" in flags) == flagged


def test_samples_at_the_upper_end_of_their_words_are_shifted_down(dicom: Make) -> None:
    twelve = GREY.astype(np.uint16) * 16
    shown = read_image(dicom(twelve, BitsStored=12, HighBit=11)).pixels
    assert np.array_equal(read_image(dicom((twelve << 4).astype(np.uint16), BitsStored=12, HighBit=15)).pixels, shown)
    by_runs = dicom((twelve << 4).astype(np.uint16), syntax=RLELossless, BitsStored=12, HighBit=15)
    assert np.array_equal(read_image(by_runs).pixels, shown)
    below = (twelve.astype(np.int16) - 2048).astype(np.int16)
    moved = dicom((below << 4).astype(np.int16), BitsStored=12, HighBit=15)
    assert np.array_equal(read_image(moved).pixels, shown)
    for values in (twelve, below):
        with pytest.raises(ImageError, match="cannot be decoded"):
            read_image(dicom(values, BitsStored=12, HighBit=7))


def test_bits_above_the_stored_ones_are_no_brightness(dicom: Make) -> None:
    """Retired overlays lie there."""
    twelve = GREY.astype(np.uint16) * 16
    marked = twelve.copy()
    marked[10:20, 10:20] |= 1 << 14
    plain = read_image(dicom(twelve, BitsStored=12, HighBit=11)).pixels
    assert np.array_equal(read_image(dicom(marked, BitsStored=12, HighBit=11)).pixels, plain)


def test_padding_is_black_in_either_interpretation(dicom: Make) -> None:
    padded = np.clip(GREY, 5, 255).astype(np.uint8)
    padded[:5] = 0
    image = read_image(dicom(padded, "MONOCHROME1", PixelPaddingValue=0))
    assert (image.pixels[:5] == 0).all()
    assert np.array_equal(image.pixels[5:], 255 - padded[5:])
    signed = (padded.astype(np.int16) - 2000).astype(np.int16)
    window = {"WindowCenter": -1872, "WindowWidth": 256, "PixelPaddingValue": -2000, "PixelPaddingRangeLimit": -1990}
    image = read_image(dicom(signed, "MONOCHROME1", **window))
    assert (image.pixels[padded <= 10] == 0).all()
    assert np.array_equal(image.pixels[padded > 10], (255 - padded)[padded > 10])


def test_negative_slope_turns_black_into_white(dicom: Make) -> None:
    image = read_image(dicom(GREY, RescaleSlope=-1, RescaleIntercept=255, RescaleType="US"))
    assert np.array_equal(image.pixels, 255 - GREY)


def test_stream_of_more_bits_than_its_object_has_is_refused(dicom: Make, picture: Make) -> None:
    deep = picture(GREY.astype(np.uint16) * 257, "JPEG2000", no_jp2=True, irreversible=False)
    with pytest.raises(ImageError, match="cannot be decoded"):
        read_image(dicom(GREY, syntax=JPEG2000Lossless, encoded=[deep]))


def test_tiles_are_counted_before_anything_is_decoded(dicom: Make, picture: Make) -> None:
    tiled = bytearray(picture(np.tile(GREY, (3, 3)), "JPEG2000", no_jp2=True, irreversible=False, tile_size=(50, 40)))
    assert read_jpeg2000_header(bytes(tiled)).tiles == 9
    tiled[24:32] = (1).to_bytes(4, "big") * 2  # XTsiz and YTsiz: a tile a pixel
    assert read_jpeg2000_header(bytes(tiled)).tiles == 18_000
    with pytest.raises(ImageError, match=r"cannot be decoded \(ValueError\)"):
        read_image(dicom(np.tile(GREY, (3, 3)), syntax=JPEG2000Lossless, encoded=[bytes(tiled)]))
