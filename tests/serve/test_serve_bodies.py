"""The images of a request: forms, raw bodies, archives in both, and types that are none of them."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator

import pytest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from serve import Limits
from serve.engine.capacity import Memory
from serve.uploads.bodies import RAW_TYPES, read_images


def packed(*files: tuple[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files:
            archive.writestr(name, content)
    return buffer.getvalue()


LIMITS = Limits(max_files=3, max_archive_files=4, max_file_bytes=1000, max_unpacked_bytes=3000)


@pytest.fixture
def memory() -> Memory:
    return Memory(100_000)


@pytest.fixture
def client(memory: Memory) -> Iterator[TestClient]:
    async def echo(request: Request) -> JSONResponse:
        try:
            async with read_images(request, LIMITS, memory) as form:
                assert memory.held >= sum(map(len, form.contents))
                contents = [content.decode() for content in form.contents]
                return JSONResponse([form.names, contents, form.fields])
        except HTTPException as error:
            return JSONResponse(error.detail, error.status_code)

    with TestClient(Starlette(routes=[Route("/", echo, methods=["POST"])])) as client:
        yield client
    assert memory.held == 0


@pytest.mark.parametrize("kind", [*RAW_TYPES[1:], "image/png", "IMAGE/TIFF; charset=x"])
def test_a_body_that_is_one_file_is_taken(client: TestClient, kind: str) -> None:
    answer = client.post("/?name=../scan.dcm", content=b"bytes", headers={"content-type": kind})
    assert (answer.status_code, answer.json()) == (200, [["scan.dcm"], ["bytes"], {}])
    assert client.post("/", content=b"bytes", headers={"content-type": kind}).json()[0] == ["image 1"]


@pytest.mark.parametrize("kind", ["application/json", "text/plain", "image/", "application/x-www-form-urlencoded", ""])
def test_a_body_of_another_type_is_415(client: TestClient, kind: str) -> None:
    answer = client.post("/", content=b"bytes", headers={"content-type": kind})
    assert answer.status_code == 415
    assert "application/dicom" in answer.json()


def test_the_sentence_repeats_no_odd_header(client: TestClient) -> None:
    answer = client.post("/", content=b"bytes", headers={"content-type": "<script>/x"})
    assert answer.status_code == 415
    assert "script" not in answer.json()


def test_nothing_is_422(client: TestClient) -> None:
    for kind in ("image/png", "application/json"):
        assert client.post("/", content=b"", headers={"content-type": kind}).status_code == 422


def test_images_of_an_archive_stand_in_its_place_in_form_and_body(client: TestClient) -> None:
    archive = packed(("x/a.png", b"A"), ("x/b.png", b"B"))
    files = [("files", ("1.png", b"1")), ("files", ("all.zip", archive)), ("files", ("2.png", b"2"))]
    answer = client.post("/", files=files, data={"heatmap": "1"})
    assert answer.json() == [["1.png", "x/a.png", "x/b.png", "2.png"], ["1", "A", "B", "2"], {"heatmap": "1"}]
    # Whatever it is said to be.
    answer = client.post("/", content=archive, headers={"content-type": "image/png"})
    assert answer.json()[:2] == [["x/a.png", "x/b.png"], ["A", "B"]]


def test_archives_together_may_hold_no_more_than_one(client: TestClient) -> None:
    three = packed(*((f"{i}.png", b"x") for i in range(3)))
    assert client.post("/", files=[("files", ("1.zip", three)), ("files", ("2.png", b"x"))]).status_code == 200
    answer = client.post("/", files=[("files", ("1.zip", three)), ("files", ("2.zip", three))])
    assert (answer.status_code, answer.json()) == (413, "more than 4 images were sent; send fewer at once")
    large = packed(("a.png", b"x" * 900), ("b.png", b"x" * 900))
    answer = client.post("/", files=[("files", ("1.zip", large)), ("files", ("2.zip", large))])
    assert answer.status_code == 413
    assert "unpack to more than" in answer.json()


def test_an_archive_may_be_larger_than_an_image_in_form_and_body(client: TestClient) -> None:
    large = packed(("a.png", b"x" * 900), ("b.png", b"x" * 900))
    assert client.post("/", files=[("files", ("1.zip", large))]).status_code == 200
    assert client.post("/", content=large, headers={"content-type": "application/zip"}).status_code == 200
    one = b"x" * 1001
    for arguments in (
        {"files": [("files", ("1.png", one))]},
        {"content": one, "headers": {"content-type": "image/png"}},
        {"files": [("files", ("1.zip", packed(("a.png", one))))]},
    ):
        answer = client.post("/", **arguments)  # type: ignore[arg-type]
        assert answer.status_code == 413
        assert "larger than" in answer.json()


def test_a_bad_archive_is_named(client: TestClient) -> None:
    answer = client.post("/", files=[("files", ("ward.zip", packed(("a.png", b"x"))[:-10]))])
    assert (answer.status_code, answer.json()) == (422, "ward.zip is damaged; pack and send it again")
