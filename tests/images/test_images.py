"""Every kind of file ends in grey pixels or in one sentence that names it."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, RLELossless, SecondaryCaptureImageStorage, generate_uid

from medsharp.errors import InputError
from medsharp.images import ImageError, ImageLimits, read_image

GREY = np.add.outer(np.arange(40), np.arange(50)).astype(np.uint8) * 2
NOISE = np.random.default_rng(0).integers(0, 255, (40, 50), dtype=np.uint8)


def encoded(picture: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, format=kind, **options)
    return stream.getvalue()


def dicom(pixels: np.ndarray, interpretation: str = "MONOCHROME2", **attributes: Any) -> bytes:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID, dataset.SOPInstanceUID = SecondaryCaptureImageStorage, meta.MediaStorageSOPInstanceUID
    dataset.PatientName, dataset.PatientID = "Secret^Person", "SECRET-ID"
    frames = attributes.pop("NumberOfFrames", None)
    shape = pixels.shape[1:] if frames else pixels.shape
    dataset.Rows, dataset.Columns = shape[:2]
    dataset.SamplesPerPixel = 3 if len(shape) == 3 else 1
    if len(shape) == 3:
        dataset.PlanarConfiguration = 0
    if frames:
        dataset.NumberOfFrames = frames
    dataset.PhotometricInterpretation = interpretation
    dataset.BitsAllocated = dataset.BitsStored = pixels.itemsize * 8
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = 0
    for key, value in attributes.items():
        setattr(dataset, key, value)
    dataset.PixelData = pixels.tobytes()
    stream = io.BytesIO()
    dataset.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "WEBP"])
def test_grey_pixels_come_back_as_they_are(kind: str) -> None:
    options = {"lossless": True} if kind == "WEBP" else {}
    image = read_image(encoded(Image.fromarray(GREY), kind, **options))
    assert np.abs(image.pixels.astype(int) - GREY).max() <= (1 if kind == "WEBP" else 0)
    assert (image.format, image.flags) == (kind, ())


def test_jpeg_of_grey_is_near_and_not_flagged_as_colour() -> None:
    image = read_image(encoded(Image.fromarray(GREY).convert("RGB"), "JPEG", quality=95))
    assert np.abs(image.pixels.astype(int) - GREY).mean() < 3
    assert image.flags == ()


def test_colour_becomes_luminance_and_is_flagged() -> None:
    rgb = np.zeros((40, 50, 3), dtype=np.uint8)
    rgb[10:20, 10:20, 0] = 255
    image = read_image(encoded(Image.fromarray(rgb)))
    assert image.flags == ("colour",)
    assert image.pixels[15, 15] == 76  # 0.299 * 255, ITU-R 601


def test_transparency_is_laid_on_black() -> None:
    rgba = np.full((40, 50, 4), 200, dtype=np.uint8)
    rgba[:, :25, 3] = 0
    rgba[:, 25:, 3] = 255
    image = read_image(encoded(Image.fromarray(rgba)))
    assert image.flags == ("alpha",)
    assert (image.pixels[:, :25] == 0).all()
    assert (image.pixels[:, 25:] == 200).all()


def test_sixteen_bits_are_scaled_not_cut() -> None:
    values = np.linspace(0, 65535, 40 * 50).reshape(40, 50).astype(np.uint16)
    image = read_image(encoded(Image.fromarray(values)))
    assert image.flags == ("16-bit",)
    assert np.abs(image.pixels - values / 257).max() <= 0.5
    twelve = read_image(encoded(Image.fromarray((values // 16).astype(np.uint16))))
    assert twelve.pixels.max() == 255


def test_cmyk_and_palette_are_read() -> None:
    cmyk = read_image(encoded(Image.fromarray(GREY).convert("CMYK"), "TIFF"))
    assert "cmyk" in cmyk.flags
    assert np.abs(cmyk.pixels.astype(int) - GREY).max() <= 2
    palette = read_image(encoded(Image.fromarray(GREY).convert("P")))
    assert np.abs(palette.pixels.astype(int) - GREY).mean() < 3


def test_exif_rotation_is_applied() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees
    image = read_image(encoded(Image.fromarray(GREY), "JPEG", exif=exif, quality=95))
    assert image.pixels.shape == (50, 40)
    assert image.flags == ("rotated",)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "scan.png is empty"),
        (b"these are words", "scan.png is not a PNG"),
        (encoded(Image.fromarray(NOISE))[:-200], "scan.png is damaged or cut off"),
        (encoded(Image.new("L", (1, 1))), "scan.png is 1 x 1 pixels; the least is 16 x 16"),
        (encoded(Image.new("1", (60_000, 20))), "scan.png is 60000 x 20 pixels; the most is 16384"),
        (encoded(Image.new("1", (10_000, 10_000))), "scan.png is 10000 x 10000 pixels; the most"),
        (
            encoded(Image.fromarray(GREY), "GIF", save_all=True, append_images=[Image.fromarray(255 - GREY)]),
            "scan.png has 2 frames; give one",
        ),
    ],
)
def test_what_cannot_be_used_is_one_sentence_that_names_the_file(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "scan.png"
    path.write_bytes(content)
    for source, name in ((path, None), (content, "scan.png")):
        with pytest.raises(ImageError, match=words) as caught:
            read_image(source, name=name)
        assert "\n" not in str(caught.value)


def test_missing_file_folder_and_too_many_bytes_are_sentences(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nothere\.png does not exist"):
        read_image(tmp_path / "nothere.png")
    with pytest.raises(InputError, match="is a folder"):
        read_image(tmp_path)
    with pytest.raises(InputError, match="the most is 0 MiB"):
        read_image(encoded(Image.fromarray(NOISE)), limits=ImageLimits(max_bytes=100))


def test_damaged_files_end_in_an_image_or_a_sentence() -> None:
    rng = np.random.default_rng(0)
    originals = [
        encoded(Image.fromarray(GREY)),
        encoded(Image.fromarray(GREY), "JPEG"),
        encoded(Image.fromarray(GREY), "TIFF"),
        encoded(Image.fromarray(GREY), "BMP"),
        dicom(GREY),
        dicom(GREY.astype(np.uint16)),
    ]
    refused = 0
    for original in originals:
        for _ in range(120):
            data = bytearray(original)
            for place in rng.integers(0, len(data), rng.integers(1, 12)):
                data[place] = rng.integers(0, 256)
            try:
                image = read_image(bytes(data[: rng.integers(len(data) // 2, len(data) + 1)]))
            except ImageError as error:
                refused += 1
                sentence = str(error)
                if "\n" in sentence or "SECRET" in sentence.upper():
                    pytest.fail(sentence)
                continue
            assert image.pixels.dtype == np.uint8
            assert image.pixels.ndim == 2
    assert refused > 100


def test_monochrome_dicom_is_read_and_inverted_where_it_says_so() -> None:
    assert np.array_equal(read_image(dicom(GREY)).pixels, GREY)
    assert np.array_equal(read_image(dicom(GREY, "MONOCHROME1")).pixels, 255 - GREY)
    assert read_image(dicom(GREY)).flags == ("dicom",)


def test_dicom_window_is_applied() -> None:
    values = np.linspace(0, 4095, 40 * 50).reshape(40, 50).astype(np.uint16)
    image = read_image(dicom(values, WindowCenter=1000, WindowWidth=1000, BitsStored=12, HighBit=11))
    assert image.flags == ("dicom", "16-bit")
    assert (image.pixels[values < 490] == 0).all()
    assert (image.pixels[values > 1510] == 255).all()


@pytest.mark.parametrize("interpretation", ["RGB", "YBR_FULL"])
def test_colour_dicom_becomes_luminance(interpretation: str) -> None:
    rgb = np.repeat(GREY[..., None], 3, axis=-1)
    pixels = rgb if interpretation == "RGB" else np.stack([GREY, GREY * 0 + 128, GREY * 0 + 128], axis=-1)
    image = read_image(dicom(np.ascontiguousarray(pixels), interpretation))
    assert np.abs(image.pixels.astype(int) - GREY).max() <= 1
    assert image.flags == ("dicom",)


def test_compressed_dicom_is_read() -> None:
    import pydicom

    dataset = pydicom.dcmread(io.BytesIO(dicom(GREY)))
    dataset.compress(RLELossless)
    stream = io.BytesIO()
    dataset.save_as(stream)
    assert np.array_equal(read_image(stream.getvalue()).pixels, GREY)


def test_dicom_of_several_frames_is_refused() -> None:
    with pytest.raises(ImageError, match="has 3 frames"):
        read_image(dicom(np.stack([GREY] * 3), NumberOfFrames=3))


def test_original_files_are_read(real_data: Path) -> None:
    files = sorted((real_data / "originals").iterdir())
    read = {file.name: read_image(file) for file in files}
    assert read["000030.dcm"].flags == ("dicom",)
    assert "colour" in read["benign (234).png"].flags
    assert all(image.pixels.shape[0] > 200 for image in read.values())
