"""Image files made in memory."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

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
