"""Sound files of every format, small, from which mutated ones are made."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

_SIDE = (24, 32)


def _scan() -> Image.Image:
    """A speckled gradient: compresses neither to nothing nor to noise."""
    rng = np.random.default_rng(0)
    ramp = np.add.outer(np.arange(_SIDE[0]), np.arange(_SIDE[1])) * 3.0
    return Image.fromarray(np.clip(ramp + rng.gamma(2.0, 20.0, _SIDE), 0, 255).astype(np.uint8))


def _encode(picture: Image.Image, kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, format=kind, **options)
    return stream.getvalue()


def _png() -> list[bytes]:
    grey = _scan()
    deep = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    transparent = Image.merge("LA", (grey, grey.point(lambda value: 255 - value)))
    colour = Image.merge("RGB", (grey, grey, grey.point(lambda value: 255 - value)))
    pictures = (grey, deep, transparent, colour, grey.convert("P"), grey.convert("1"))
    return [_encode(picture, "PNG") for picture in pictures]


def _jpeg() -> list[bytes]:
    grey, exif = _scan(), Image.Exif()
    exif[0x0112] = 6
    return [
        _encode(grey, "JPEG"),
        _encode(grey.convert("RGB"), "JPEG", exif=exif),
        _encode(grey.convert("RGB"), "JPEG", progressive=True),
        _encode(grey.convert("CMYK"), "JPEG"),
    ]


def _tiff() -> list[bytes]:
    grey = _scan()
    compressions = (None, "tiff_lzw", "tiff_deflate", "packbits", "jpeg", "tiff_adobe_deflate")
    deep = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    return [
        *(_encode(grey, "TIFF", compression=compression) for compression in compressions),
        _encode(deep, "TIFF"),
        _encode(grey.convert("RGBA"), "TIFF"),
        _encode(grey.convert("F"), "TIFF"),
        _encode(grey.convert("1"), "TIFF", compression="group4"),
        _encode(grey, "TIFF", save_all=True, append_images=[grey]),
    ]


def _bmp() -> list[bytes]:
    grey = _scan()
    return [_encode(picture, "BMP") for picture in (grey, grey.convert("RGB"), grey.convert("1"), grey.convert("P"))]


def _webp() -> list[bytes]:
    grey = _scan()
    return [
        _encode(grey, "WEBP"),
        _encode(grey, "WEBP", lossless=True),
        _encode(grey.convert("RGBA"), "WEBP"),
        _encode(grey, "WEBP", save_all=True, append_images=[grey.rotate(180)]),
    ]


def _gif() -> list[bytes]:
    grey = _scan()
    return [
        _encode(grey, "GIF"),
        _encode(grey.convert("P"), "GIF", transparency=3),
        _encode(grey, "GIF", save_all=True, append_images=[grey.rotate(180)]),
    ]


def _dicom(*names: str) -> Callable[[], list[bytes]]:
    """Files that pydicom brings along for its own tests; nothing is downloaded."""

    def read() -> list[bytes]:
        from pydicom.data import get_testdata_file

        files = [get_testdata_file(name, download=False) for name in names]
        return [Path(str(file)).read_bytes() for file in files]

    return read


def _dicom_ultrasound() -> list[bytes]:
    """A clip with all that ultrasound objects bring: frames, windows, tables, regions."""
    from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
    from pydicom.uid import UID, ExplicitVRLittleEndian, UltrasoundMultiFrameImageStorage

    frame = np.asarray(_scan())
    made = []
    for interpretation in ("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR", "YBR_FULL"):
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = UltrasoundMultiFrameImageStorage
        meta.MediaStorageSOPInstanceUID = UID("1.2.3")
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
        dataset.PhotometricInterpretation = interpretation
        dataset.NumberOfFrames, (dataset.Rows, dataset.Columns) = 3, frame.shape
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 8, 8, 7, 0
        dataset.WindowCenter, dataset.WindowWidth = [120, 90], [240, 180]
        dataset.RescaleSlope, dataset.RescaleIntercept = 1, 0
        region = Dataset()
        region.RegionSpatialFormat = region.RegionDataType = 1
        region.RegionLocationMinX0, region.RegionLocationMinY0 = 2, 3
        region.RegionLocationMaxX1, region.RegionLocationMaxY1 = 29, 22
        dataset.SequenceOfUltrasoundRegions = [region]
        samples = np.stack([frame, frame // 2, frame // 3])
        dataset.SamplesPerPixel = 1
        if interpretation == "YBR_FULL":
            dataset.SamplesPerPixel, dataset.PlanarConfiguration = 3, 0
            samples = np.repeat(samples[..., None], 3, axis=-1)
        if interpretation == "PALETTE COLOR":
            for colour in ("Red", "Green", "Blue"):
                setattr(dataset, f"{colour}PaletteColorLookupTableDescriptor", [256, 0, 16])
                table = np.arange(256, dtype=np.uint16) * 257
                setattr(dataset, f"{colour}PaletteColorLookupTableData", table.tobytes())
        dataset.PixelData = samples.tobytes()
        stream = io.BytesIO()
        dataset.save_as(stream, enforce_file_format=True)
        made.append(stream.getvalue())
    return made


FORMATS: dict[str, Callable[[], list[bytes]]] = {
    "png": _png,
    "jpeg": _jpeg,
    "tiff": _tiff,
    "bmp": _bmp,
    "webp": _webp,
    "gif": _gif,
    "dicom": _dicom(
        "MR_small.dcm", "MR_small_implicit.dcm", "MR_small_bigendian.dcm", "SC_ybr_full_422_uncompressed.dcm"
    ),
    "dicom-ultrasound": _dicom_ultrasound,
    "dicom-deflated": _dicom("image_dfl.dcm"),
    "dicom-rle": _dicom("MR_small_RLE.dcm", "SC_rgb_rle.dcm", "SC_rgb_rle_2frame.dcm"),
    "dicom-jpeg": _dicom("SC_rgb_dcmtk_+eb+cr.dcm", "SC_rgb_dcmtk_+eb+cy+np.dcm", "SC_rgb_jpeg_lossy_gdcm.dcm"),
    "dicom-jpeg-12-bit": _dicom("JPGExtended.dcm"),
    "dicom-jpeg-lossless": _dicom("SC_rgb_jpeg_gdcm.dcm"),
    "dicom-jpeg-ls": _dicom(
        "MR_small_jpeg_ls_lossless.dcm", "SC_rgb_jls_lossy_line.dcm", "SC_rgb_jls_lossy_sample.dcm"
    ),
    "dicom-jpeg-2000": _dicom("MR_small_jp2klossless.dcm", "JPEG2000.dcm", "SC_rgb_gdcm_KY.dcm"),
}
"""What makes the sound files of a format; each transfer syntax of DICOM counts as one."""


def seed_files(kind: str) -> list[bytes]:
    """Return the sound files of a format."""
    return FORMATS[kind]()
