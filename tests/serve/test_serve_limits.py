"""What is too large, in pixels, sides or frames, is refused over HTTP by its header, before anything is decoded."""

from __future__ import annotations

import base64
import io
import json
import struct
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image, ImageFile
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, UltrasoundMultiFrameImageStorage
from starlette.testclient import TestClient

from medsharp.images.dicom import Clip
from medsharp.inference import Predictor

if TYPE_CHECKING:
    from tests.serve.conftest import RunningServer

pytestmark = pytest.mark.filterwarnings("ignore:'future.no_silent_downcasting' is deprecated")


def png(width: int, height: int) -> bytes:
    """A grey PNG by its header, with pixels that end early."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def dicom(width: int, height: int, frames: int) -> bytes:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = UltrasoundMultiFrameImageStorage, "1.2.3"
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.Rows, dataset.Columns, dataset.NumberOfFrames, dataset.SamplesPerPixel = height, width, frames, 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 8, 8, 7, 0
    # Of more than a frame of this size there are no pixels, and none are looked for.
    dataset.PixelData = bytes(width * height * frames) if width * height * frames < 2**20 else bytes(1024)
    stream = io.BytesIO()
    dataset.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


PIXELS = "is 6404 x 6404 pixels; the most is 16384 a side and 40000000 in all"
SIDE = "16385 pixels; the most is 16384 a side"
FRAMES = "has 2001 frames; the most is 2000"

TOO_LARGE = [
    pytest.param(png(6404, 6404), PIXELS, id="41 megapixels of PNG"),
    pytest.param(dicom(6404, 6404, 1), PIXELS, id="41 megapixels of DICOM"),
    pytest.param(png(16, 16_385), SIDE, id="a high PNG"),
    pytest.param(dicom(16, 16_385, 1), SIDE, id="a high DICOM"),
    pytest.param(dicom(16, 17, 2001), FRAMES, id="a clip"),
]


def packed(content: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("large", content)
    return buffer.getvalue()


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names what was decoded of the files that are sent, each of which then fails."""
    begun: list[str] = []

    def refuse(of: Any, *_: Any) -> None:
        begun.append(type(of).__name__)
        raise OSError("it was decoded")

    monkeypatch.setattr(ImageFile.ImageFile, "load", refuse)
    monkeypatch.setattr(Clip, "_decode", refuse)
    return begun


@pytest.mark.parametrize(("content", "sentence"), TOO_LARGE)
def test_too_large_images_are_refused_by_their_header_on_every_way_in(
    client: TestClient, predictor: Predictor, decoded: list[str], content: bytes, sentence: str
) -> None:
    octets = {"content-type": "application/octet-stream"}
    for given in (
        {"files": [("files", ("large", content))]},
        {"content": content, "headers": octets},
        {"files": [("files", ("all.zip", packed(content)))]},
    ):
        answer = client.post("/v1/predict", **given)  # type: ignore[arg-type]
        assert answer.status_code == 422, answer.text
        assert sentence in answer.json()[0]["error"]
    answer = client.post("/page/answer", files=[("files", ("large", content))])
    assert (answer.status_code, sentence in answer.json()["detail"]) == (422, True)
    tensor = {"name": "image_bytes", "datatype": "BYTES", "shape": [1], "data": [base64.b64encode(content).decode()]}
    answer = client.post(f"/v2/models/{predictor.spec.name}-checked/infer", json={"inputs": [tensor]})
    (said,) = (output["data"][0] for output in answer.json()["outputs"] if output["name"] == "answer")
    assert sentence in json.loads(said)["error"]
    held = client.app.state.memory.held  # type: ignore[attr-defined]
    assert held == 0
    assert decoded == []


def test_images_that_are_not_too_large_are_decoded(client: TestClient, decoded: list[str]) -> None:
    for content in (png(6324, 6324), png(16, 16_384), dicom(16, 17, 2000)):
        assert client.post("/v1/predict", files=[("files", ("large", content))]).status_code in (422, 500)
    assert decoded == ["PngImageFile", "PngImageFile", "Clip"]


def test_limits_of_the_command_line_are_those_of_its_server(serve_command: Callable[..., RunningServer]) -> None:
    server = serve_command("--limit", "max_pixels=10000", "--limit", "max_frames=3", "--limit", "max_side=150")

    def ask(content: bytes) -> tuple[int, str]:
        request = urllib.request.Request(f"{server.address}v1/predict", content, {"Content-Type": "image/png"})
        try:
            with urllib.request.urlopen(request) as answer:
                return answer.status, ""
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)[0]["error"]

    def picture(height: int, width: int) -> bytes:
        buffer = io.BytesIO()
        pixels = np.random.default_rng(0).rayleigh(60, (height, width)).clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(buffer, "PNG")
        return buffer.getvalue()

    assert ask(picture(100, 100)) == (200, "")
    assert ask(picture(99, 102)) == (422, "image 1 is 102 x 99 pixels; the most is 150 a side and 10000 in all")
    assert ask(picture(30, 151)) == (422, "image 1 is 151 x 30 pixels; the most is 150 a side and 10000 in all")
    assert ask(dicom(20, 30, 4)) == (422, "image 1 has 4 frames; the most is 3")
    assert ask(dicom(20, 30, 3))[0] == 200
