"""A decoder that crashes at an upload takes neither the server nor the other images of the request along."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import JPEG2000Lossless, SecondaryCaptureImageStorage, generate_uid

from medsharp.images import apart


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
