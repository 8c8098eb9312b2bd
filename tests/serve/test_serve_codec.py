"""A decoder that crashes at an upload takes neither the server nor the other images of the request along."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import ExplicitVRLittleEndian, JPEG2000Lossless, SecondaryCaptureImageStorage, generate_uid

from medsharp.images import DecodedImage, apart
from medsharp.images.dicom import Clip
from serve import Limits, create_app


@pytest.fixture
def compressed(png: bytes) -> bytes:
    """The same picture, in JPEG 2000 inside DICOM."""
    pytest.importorskip("openjpeg")
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = JPEG2000Lossless
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    grey = np.asarray(Image.open(io.BytesIO(png)).convert("L"))
    dataset.Rows, dataset.Columns = grey.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 8, 8, 7, 0
    stream = io.BytesIO()
    Image.fromarray(grey).save(stream, "JPEG2000", no_jp2=True, irreversible=False)
    dataset.PixelData = encapsulate([stream.getvalue()])
    stream = io.BytesIO()
    dataset.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def test_crash_concerns_its_own_image_alone(
    client: TestClient, png: bytes, compressed: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answers() -> list[dict[str, Any]]:
        named = {"a.png": png, "b.dcm": compressed, "c.png": png}
        files = [("files", (name, content)) for name, content in named.items()]
        answer = client.post("/v1/predict", files=files)
        assert answer.status_code == 200
        found: list[dict[str, Any]] = answer.json()
        return found

    sound = answers()
    assert sound[0]["positive_probability"] is not None
    assert len({one["positive_probability"] for one in sound}) == 1
    apart._end_idle()
    with monkeypatch.context() as crashing:
        crashing.setattr(apart, "_BEGIN", "import os; os.abort()")
        crashed = answers()
    assert [one["positive_probability"] is None for one in crashed] == [False, True, False]
    assert crashed[1]["error"] == "b.dcm is a DICOM object that cannot be decoded (its decoder crashed (Aborted))"
    assert [one["positive_probability"] for one in crashed[::2]] == [one["positive_probability"] for one in sound[::2]]
    assert client.get("/readyz").status_code == 200
    assert answers()[1]["positive_probability"] == sound[1]["positive_probability"]


def test_clip_whose_request_is_over_is_not_decoded_to_its_end(
    bundle: Path, png: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    grey = np.asarray(Image.open(io.BytesIO(png)).convert("L"))
    dataset.Rows, dataset.Columns = grey.shape
    dataset.NumberOfFrames = 20
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 8, 8, 7, 0
    dataset.PixelData = grey.tobytes() * 20
    stream = io.BytesIO()
    dataset.save_as(stream, enforce_file_format=True)
    decoded, over, ended = [], threading.Event(), threading.Event()
    decode, sharpest = Clip._decode, Clip.sharpest

    def held(self: Clip, number: int, encoded: bytes | None) -> DecodedImage:
        decoded.append(number)
        if number == 3:
            over.wait(60)
        return decode(self, number, encoded)

    def watched(self: Clip, wanted: Callable[[], bool] = lambda: True) -> DecodedImage:
        try:
            return sharpest(self, wanted)
        finally:
            ended.set()

    monkeypatch.setattr(Clip, "_decode", held)
    monkeypatch.setattr(Clip, "sharpest", watched)
    with TestClient(create_app(bundle, limits=Limits(deadline_seconds=1.0))) as client:
        answer = client.post("/v1/predict", content=stream.getvalue(), headers={"Content-Type": "application/dicom"})
        assert answer.status_code == 504
        over.set()
        assert ended.wait(60)
        assert decoded == [1, 2, 3]
