"""Image files made in memory."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import pytest
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import UID, ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid


def encode(picture: Image.Image | np.ndarray, kind: str = "PNG", **options: Any) -> bytes:
    stream = io.BytesIO()
    (Image.fromarray(picture) if isinstance(picture, np.ndarray) else picture).save(stream, format=kind, **options)
    return stream.getvalue()


def make_tiff(
    values: np.ndarray,
    *,
    big: bool = False,
    deflate: bool = False,
    photometric: int | None = None,
    bits: int | None = None,
    data: bytes | None = None,
    **tags: tuple[str, float | int | list[int]],
) -> bytes:
    """Write a TIFF of values [H, W] or [H, W, C] in their own type: Pillow writes few of the kinds that it reads.

    `bits` and `data` replace what the values say, for packed samples; `tags` are numbers such as `t340=("f", 0.0)`,
    or lists of them.
    """
    order: Literal[">", "<"] = ">" if big else "<"
    channels = 1 if values.ndim == 2 else values.shape[2]
    packed = data if data is not None else values.astype(values.dtype.newbyteorder(order)).tobytes()
    packed = zlib.compress(packed) if deflate else packed
    type_of = {"B": 1, "H": 3, "I": 4, "h": 8, "i": 9, "f": 11}
    entries: dict[int, tuple[str, list[Any]]] = {
        256: ("I", [values.shape[1]]),
        257: ("I", [values.shape[0]]),
        258: ("H", [bits or values.itemsize * 8] * channels),
        259: ("H", [8 if deflate else 1]),
        262: ("H", [photometric if photometric is not None else (1 if channels == 1 else 2)]),
        273: ("I", [8]),
        277: ("H", [channels]),
        278: ("I", [values.shape[0]]),
        279: ("I", [len(packed)]),
        339: ("H", [{"u": 1, "i": 2, "f": 3}[values.dtype.kind]] * channels),
    }
    entries |= {
        int(name[1:]): (kind, value if isinstance(value, list) else [value]) for name, (kind, value) in tags.items()
    }
    packed += b"\0" * (len(packed) % 2)
    after = 8 + len(packed) + 2 + 12 * len(entries) + 4
    body, outside = b"", b""
    for tag, (kind, numbers) in sorted(entries.items()):
        value = struct.pack(f"{order}{len(numbers)}{kind}", *numbers)
        if len(value) > 4:
            value, outside = struct.pack(order + "I", after + len(outside)), outside + value + b"\0" * (len(value) % 2)
        body += struct.pack(order + "HHI", tag, type_of[kind], len(numbers)) + value.ljust(4, b"\0")
    head = (b"MM" if big else b"II") + struct.pack(order + "HI", 42, 8 + len(packed))
    return head + packed + struct.pack(order + "H", len(entries)) + body + b"\0" * 4 + outside


def make_png(values: np.ndarray, depth: int, colour: int, chunks: dict[bytes, bytes] | None = None) -> bytes:
    """Write a PNG of whole rows as they are stored, uint8 [H, bytes], of any bit depth and colour type."""
    height = len(values)
    width = values.shape[1] * 8 // (depth * {0: 1, 2: 3, 4: 2, 6: 4}[colour])
    rows = b"".join(b"\0" + row.tobytes() for row in values)
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    parts = {b"IHDR": header, **(chunks or {}), b"IDAT": zlib.compress(rows), b"IEND": b""}
    written = [
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in parts.items()
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(written)


def make_dicom(
    pixels: np.ndarray,
    interpretation: str = "MONOCHROME2",
    *,
    syntax: UID = ExplicitVRLittleEndian,
    encoded: list[bytes] | None = None,
    **attributes: Any,
) -> bytes:
    """Write a DICOM file of pixels [H, W], [H, W, 3] or, with `NumberOfFrames`, [N, H, W, ...].

    `encoded` are the compressed frames of an encapsulated `syntax`; without them pydicom compresses.
    """
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = syntax if encoded or not syntax.is_encapsulated else ExplicitVRLittleEndian
    little = meta.TransferSyntaxUID.is_little_endian
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128, is_little_endian=little)
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
    dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
    for key, value in attributes.items():
        setattr(dataset, key, value)
    dataset.PixelData = encapsulate(encoded) if encoded else pixels.tobytes()
    if syntax.is_encapsulated and not encoded:
        dataset.compress(syntax)
    stream = io.BytesIO()
    dataset.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


@pytest.fixture(scope="session")
def dicom() -> Callable[..., bytes]:
    """`make_dicom`, for tests in other files."""
    return make_dicom


@pytest.fixture(scope="session")
def picture() -> Callable[..., bytes]:
    """`encode`, for tests in other files."""
    return encode


@pytest.fixture(scope="session")
def tiff() -> Callable[..., bytes]:
    """`make_tiff`, for tests in other files."""
    return make_tiff


@pytest.fixture(scope="session")
def png() -> Callable[..., bytes]:
    """`make_png`, for tests in other files."""
    return make_png
