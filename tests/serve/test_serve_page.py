from __future__ import annotations

import asyncio
import functools
import io
import json
import re
import shutil
import stat
import threading
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import AsyncMock

import numpy as np
import pytest
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, UltrasoundImageStorage
from starlette.testclient import TestClient

from medsharp.bundle import write_spec
from medsharp.inference import Predictor
from serve import Limits, create_app
from serve.engine import ClosingError, Engine
from serve.page import cards
from serve.page.about import about_model
from serve.page.gradio_guard import Visitor
from serve.page.meaning import background_of
from serve.page.progress import Progress
from serve.uploads.uploads import private_cache

# Gradio's summary of its queue sets a pandas option that pandas 3 has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:'future.no_silent_downcasting' is deprecated")


def upload(client: TestClient, name: str, content: bytes) -> str:
    answer = client.post("/gradio_api/upload", files=[("files", (name, content))])
    assert answer.status_code == 200, answer.text
    return str(answer.json()[0])


def assess(client: TestClient, paths: list[str]) -> str:
    """Do what the page's script does after an upload, and return the HTML that it shows."""
    return answer_to(client, ask(client, paths))


def ask(client: TestClient, paths: list[str]) -> str:
    data = [[{"path": path, "meta": {"_type": "gradio.FileData"}} for path in paths]]
    return str(client.post("/gradio_api/call/assess", json={"data": data}).json()["event_id"])


def answer_to(client: TestClient, event: str) -> str:
    stream = client.get(f"/gradio_api/call/assess/{event}").text
    assert "event: complete" in stream, stream
    # Before the answer there may be heartbeats.
    (html,) = json.loads(stream.split("event: complete\ndata: ", 1)[1].splitlines()[0])
    return str(html)


def files_left() -> list[Path]:
    return [path for path in private_cache().rglob("*") if path.is_file()]


def state(client: TestClient) -> Any:
    app: Any = client.app
    return app.state


def config(client: TestClient) -> dict[str, Any]:
    answer = client.get("/config")
    assert answer.status_code == 200
    return dict(answer.json())


def mounted(client: TestClient) -> Any:
    """Return the application that Gradio mounted."""
    app: Any = client.app
    return app.router.routes[-1].app


def test_page_answers_and_bears_the_notice(client: TestClient) -> None:
    answer = client.get("/")
    assert answer.status_code == 200
    assert "Not for diagnostic use" in answer.text
    assert "frame-ancestors 'self'" in answer.headers["content-security-policy"]


def test_page_asks_no_other_host_and_sends_no_analytics(client: TestClient) -> None:
    settings = config(client)
    assert settings["analytics_enabled"] is False
    assert client.get("/monitoring").status_code in (401, 403, 404)
    assert "//" not in client.get("/theme.css").text.replace("http://www.w3.org/2000/svg", "")
    assert "default-src 'self'" in client.get("/").headers["content-security-policy"]


def test_upload_shows_probability_operating_point_decision_and_two_pictures(
    client: TestClient, predictor: Predictor, png: bytes
) -> None:
    html = assess(client, [upload(client, "lesion.png", png)])
    expected = predictor.predict([png], names=["lesion.png"])[0].positive_probability
    threshold = predictor.spec.operating_point.threshold
    shown = re.search(r'ms-number(?: ms-marked)?">(?:&[lg]t; )?([\d.]+)', html)
    assert shown is not None
    assert float(shown[1]) == pytest.approx(100 * expected, abs=0.11)
    assert f'ms-mark" style="left:{100 * threshold:.2f}%' in html
    assert ("At or above the operating point" in html) == (expected >= threshold)
    assert ("Below the operating point" in html) == (expected < threshold)
    assert html.count('src="data:image/png;base64,') == 2


def packed(images: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in images.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def still(png: bytes) -> bytes:
    """The image as a DICOM object of one frame."""
    pixels = np.asarray(Image.open(io.BytesIO(png)))
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = UltrasoundImageStorage, "1.2.3"
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 8, 8, 7, 0
    dataset.PatientName = "Unforgettable^Jane"
    dataset.PixelData = pixels.tobytes()
    stream = io.BytesIO()
    dataset.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def shares(html: str) -> list[float]:
    return [float(share) for share in re.findall(r'ms-number(?: ms-marked)?">(?:&[lg]t; )?([\d.]+)', html)]


def test_zip_and_still_dicom_are_each_answered_with_a_card(
    client: TestClient, predictor: Predictor, png: bytes
) -> None:
    refused = io.BytesIO()
    Image.fromarray(np.full((96, 128), 3, dtype=np.uint8)).save(refused, "PNG")
    archive = packed({"ward/one.png": png, "ward/two.png": refused.getvalue()})
    html = assess(client, [upload(client, "all.zip", archive), upload(client, "scan.dcm", still(png))])
    assert re.findall(r'class="ms-name"[^>]*>([^<]+?) *<', html) == ["ward/one.png", "ward/two.png", "scan.dcm"]
    share = 100 * predictor.predict([png])[0].positive_probability
    np.testing.assert_allclose(shares(html), [share, share], atol=0.11)
    assert re.findall(r'data-said="(\S+): no answer', html) == ["ward/two.png"]
    assert "Jane" not in html
    assert state(client).memory.held == 0


def test_zip_of_more_images_than_are_shown_names_the_tab_for_them(client: TestClient, png: bytes) -> None:
    html = assess(client, [upload(client, "all.zip", packed({f"{number}.png": png for number in range(33)}))])
    assert "33 images are more than the 32 that are shown here; use the tab Batch" in html
    assert "ms-number" not in html
    assert state(client).memory.held == 0


@pytest.mark.parametrize("content", [None, b"text"])
def test_nothing_is_left_of_an_upload_after_the_answer(client: TestClient, png: bytes, content: bytes | None) -> None:
    path = upload(client, "Doe^Jane.png", content or png)
    assert files_left() == []
    assert "Doe" not in path
    assert state(client).memory.held > 0
    html = assess(client, [path])
    assert ("Not assessed" in html) == (content is not None)
    assert "Doe^Jane.png" in html
    assert "Traceback" not in html
    assert files_left() == []
    assert state(client).memory.held == 0


def test_two_visitors_with_the_same_file_are_both_answered(client: TestClient, png: bytes) -> None:
    one, two = (upload(client, "teaching.png", png) for _ in range(2))
    other = upload(client, "renamed.png", png)
    for path, name in ((one, "teaching.png"), (two, "teaching.png"), (other, "renamed.png")):
        html = assess(client, [path])
        assert "ms-number" in html
        assert name in html
    assert state(client).memory.held == 0


def test_file_that_is_uploaded_while_the_same_is_worked_on_is_answered_too(
    make_client: Any, held: Any, png: bytes
) -> None:
    with make_client(held) as client:
        first = ask(client, [upload(client, "case.png", png)])
        held.begun.acquire()
        second = ask(client, [upload(client, "case.png", png)])
        held.go.set()
        assert all("ms-number" in answer_to(client, event) for event in (first, second))
        assert state(client).memory.held == 0
    assert files_left() == []


def test_page_does_not_drop_a_second_upload_during_an_answer(client: TestClient) -> None:
    (event,) = [event for event in config(client)["dependencies"] if event["api_name"] == "assess"]
    assert event["trigger_mode"] == "multiple"


def test_same_upload_is_assessed_once_only(client: TestClient, png: bytes) -> None:
    path = upload(client, "a.png", png)
    assert "ms-number" in assess(client, [path])
    event = ask(client, [path])
    stream = client.get(f"/gradio_api/call/assess/{event}").text
    assert "ms-number" not in stream


def test_upload_of_a_page_that_was_closed_while_it_waits_is_not_assessed(
    make_client: Any, held: Any, arrived: threading.Semaphore, png: bytes
) -> None:
    with make_client(held) as client:
        first = ask(client, [upload(client, "stays.png", png)])
        held.begun.acquire()
        arrived.acquire()
        second = ask(client, [upload(client, "leaves.png", png)])
        arrived.acquire()
        queue = mounted(client).get_blocks()._queue
        client.portal.call(functools.partial(queue.clean_events, event_id=second))
        held.go.set()
        assert "ms-number" in answer_to(client, first)
        third = upload(client, "later.png", png)
        assert "ms-number" in assess(client, [third])
        assert held.seen == ["stays.png", "later.png"]
        assert state(client).memory.held == 0


def test_answer_that_nobody_fetches_is_dropped(make_client: Any, monkeypatch: pytest.MonkeyPatch, png: bytes) -> None:
    visitors: list[Visitor] = []
    monkeypatch.setattr(Visitor, "forget_answer", lambda visitor: visitors.append(visitor))
    with make_client() as client:
        queue = mounted(client).get_blocks()._queue
        answered = threading.Event()
        send = queue.send_message

        def sending(event: Any, message: Any) -> None:
            send(event, message)
            if type(message).__name__ == "ProcessCompletedMessage":
                answered.set()

        monkeypatch.setattr(queue, "send_message", sending)
        ask(client, [upload(client, "unread.png", png)])
        answered.wait()
        assert queue.pending_messages_per_session
        client.portal.call(visitors[0]._drop_unread)
        assert not queue.pending_messages_per_session
        assert not queue.pending_event_ids_session


def test_busy_server_says_so_in_the_page(make_client: Any, held: Any, arrived: threading.Semaphore, png: bytes) -> None:
    with make_client(held, limits=Limits(max_waiting=0)) as client:
        first = ask(client, [upload(client, "a.png", png)])
        arrived.acquire()
        html = assess(client, [upload(client, "b.png", png)])
        assert "The server is busy" in html
        held.go.set()
        assert "ms-number" in answer_to(client, first)


@pytest.mark.parametrize(
    ("limits", "uploads", "sentence"),
    [
        (Limits(max_files=1), 2, "More than 1 images were sent; send fewer in one request."),
        (Limits(max_file_bytes=100), 1, "The image a.png is larger than 0.0977 KiB."),
        (Limits(max_held_bytes=100), 1, "The server is busy"),
        (Limits(), 0, "No image was sent"),
    ],
)
def test_refused_upload_is_explained_in_words(
    make_client: Any, png: bytes, limits: Limits, uploads: int, sentence: str
) -> None:
    client = make_client(limits=limits)
    answer = client.post("/gradio_api/upload", files=[("files", ("a.png", png))] * uploads)
    assert answer.status_code in (413, 422, 429)
    assert sentence in answer.text
    assert answer.headers.get("Retry-After") == ("10" if answer.status_code == 429 else None)


def test_an_upload_to_a_server_that_stops_is_sent_elsewhere(
    client: TestClient, png: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopping(*_: Any) -> None:
        raise ClosingError("the server is stopping; send this one again")

    monkeypatch.setattr("serve.page.page.read_form", stopping)
    answer = client.post("/gradio_api/upload", files=[("files", ("a.png", png))])
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "10")
    assert "The server is stopping" in answer.text


def test_progress_of_an_upload_is_told_and_its_name_forgotten(client: TestClient, png: bytes) -> None:
    from gradio.routes import file_upload_statuses

    answer = client.post("/gradio_api/upload?upload_id=number7", files=[("files", ("Doe.png", png))])
    assert answer.status_code == 200
    told = client.get("/gradio_api/upload_progress?upload_id=number7").text
    update, done = (json.loads(line.removeprefix("data: ")) for line in told.split("\n\n") if line)
    assert update == {"msg": "update", "orig_name": "Doe.png", "chunk_size": len(png)}
    assert done == {"msg": "done"}
    assert client.get("/gradio_api/upload_progress?upload_id=other").status_code == 404
    assert client.get("/gradio_api/upload_progress?upload_id=" + "x" * 101).status_code == 422
    # Gradio's table would keep each number that was ever asked for.
    assert file_upload_statuses._statuses == {}
    assert len(file_upload_statuses._signals) == 0
    assess(client, answer.json())


def test_progress_remembers_what_is_received_and_nothing_that_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serve.page.progress._STEP_SECONDS", 0.0)
    monkeypatch.setattr("serve.page.progress._REMEMBERED_SECONDS", 0.0)
    waiting: Any = SimpleNamespace(is_disconnected=AsyncMock(return_value=False))

    async def use() -> None:
        progress = Progress()
        assert await progress.find("never", waiting) is None
        assert len(progress) == 0
        page = asyncio.create_task(progress.find("soon", waiting))
        await asyncio.sleep(0)
        upload = progress.begin("soon")
        assert await page is upload
        events = progress.events(upload, waiting)
        upload.arrived("a.png", b"123")
        upload.arrived("a.png", b"4")
        assert json.loads((await anext(events))[6:]) == {"msg": "update", "orig_name": "a.png", "chunk_size": 4}
        upload.arrived("b.png", b"12")
        assert json.loads((await anext(events))[6:]) == {"msg": "update", "orig_name": "b.png", "chunk_size": 2}
        # Another page's upload under the same number is not forgotten with the first.
        second = progress.begin("soon")
        progress.end("soon", upload)
        assert [json.loads(told[6:]) async for told in events] == [{"msg": "done"}]
        await asyncio.sleep(0.01)
        assert await progress.find("soon", waiting) is second
        progress.end("soon", second)
        await asyncio.sleep(0.01)
        assert len(progress) == 0

    asyncio.run(use())


def test_gradio_remembers_neither_answer_nor_name(client: TestClient, png: bytes) -> None:
    assess(client, [upload(client, "Unforgettable.png", png)])
    assert not mounted(client).state_holder.session_data
    assert "Unforgettable" not in repr(mounted(client).get_blocks().temp_file_sets)


def test_upload_cannot_be_fetched_by_anyone(client: TestClient, png: bytes) -> None:
    path = upload(client, "a.png", png)
    for route in ("/gradio_api/file=", "/gradio_api/file/", "/file=", "/file/", "/gradio_api/stream/"):
        assert client.get(route + path).status_code == 404
    assess(client, [path])


@pytest.mark.parametrize("extra", [{}, {"is_stream": True}])
def test_files_that_were_never_uploaded_are_not_read(
    client: TestClient, tmp_path: Path, png: bytes, extra: dict[str, bool]
) -> None:
    elsewhere = tmp_path / "elsewhere.png"
    elsewhere.write_bytes(png)
    for path in (str(elsewhere), "https://example.org/a.png"):
        data = [[{"path": path, "meta": {"_type": "gradio.FileData"}, **extra}]]
        answer = client.post("/gradio_api/call/assess", json={"data": data})
        stream = client.get(f"/gradio_api/call/assess/{answer.json()['event_id']}").text
        assert "ms-number" not in stream
        assert "event: error" in stream or "upload has expired" in stream
    assert elsewhere.exists()
    assert files_left() == []


def test_folder_of_gradio_is_of_this_user_only_and_removed_when_the_server_stops(make_client: Any, png: bytes) -> None:
    client = make_client()
    with client:
        upload(client, "left.png", png)
        assert stat.S_IMODE(private_cache().stat().st_mode) == 0o700
    assert not private_cache().exists()
    assert state(client).memory.held == 0


def test_several_uploads_give_a_table_with_the_bad_one_explained(client: TestClient, png: bytes) -> None:
    html = assess(client, [upload(client, name, content) for name, content in (("a.png", png), ("b.png", b"text"))])
    assert "2 images; without an answer: 1 could not be read" in html
    assert html.count("<tr") - html.count('<tr class="ms-cautioned"') == 3
    assert files_left() == []


@pytest.mark.parametrize("count", [1, 2])
def test_names_are_escaped(engine: Engine, png: bytes, count: int) -> None:
    names = ["<img src=x onerror=alert(1)>.png"] * count
    for content in (png, b"text"):
        answers = asyncio.run(engine.assess([content] * count, names))
        html = cards.result(answers, background_of(engine.predictor))
        assert "<img src=x" not in html
        assert "&lt;img src=x" in html


def test_every_simulated_example_is_assessed_and_labelled(client: TestClient) -> None:
    page = mounted(client).get_blocks()
    buttons = [block for block in page.blocks.values() if type(block).__name__ == "Button"]
    assert len(buttons) == 3
    assert all(button.value.startswith("Simulated") for button in buttons)
    events = [event.fn for event in page.fns.values() if isinstance(event.fn, functools.partial)]
    shown = [asyncio.run(event()) for event in events if asyncio.iscoroutinefunction(event.func)]
    assert len(shown) == 3
    assert all("simulated image" in html and "ms-number" in html for html in shown)


def test_page_says_what_the_model_is(client: TestClient, predictor: Predictor) -> None:
    text = json.dumps(config(client))
    assert predictor.spec.name in text
    assert predictor.spec.files["model.onnx"] in text
    assert "Model card" in text


def test_page_says_of_which_images_its_figures_are(predictor: Predictor, tmp_path: Path) -> None:
    copy = tmp_path / "bundle"
    shutil.copytree(predictor.folder, copy)
    figures = {"internal_auroc": {"value": 0.9, "low": 0.8, "high": 0.95}, "internal_sensitivity": {"value": 1.0}}
    (copy / "metadata.json").write_text(json.dumps({"eval_metrics": figures}))
    html = about_model(Predictor(copy, predictor.spec, predictor.session))
    assert "<th>AUROC, internal</th><td>0.900 (95 % interval 0.800 to 0.950)</td>" in html
    assert "<th>Sensitivity, internal</th><td>1.000</td>" in html
    assert "At other hospitals they may be far worse" in html


def test_page_says_where_uploads_are_kept_and_what_the_heat_map_shows(client: TestClient) -> None:
    text = " ".join(str(component["props"].get("value", "")) for component in config(client)["components"])
    assert "keeps them in its memory until they are answered, or for 2 minutes if the page is closed before" in text
    assert "deleted" not in text
    assert "evidence for malignancy (warm) and against it (cold)" in text
    assert "WebP, GIF or DICOM" in text


def test_every_component_that_takes_a_file_is_guarded_and_every_event_is_known(client: TestClient) -> None:
    page = mounted(client).get_blocks()
    blocks = page.blocks.values()
    assert [block.elem_id for block in blocks if getattr(block, "data_model", None) is not None] == ["upload"]
    # Gradio looks for files in whatever a component is given.
    moves = [
        block.async_move_resource_to_block_cache
        for block in blocks
        if hasattr(block, "async_move_resource_to_block_cache")
    ]
    assert len(moves) > 10
    assert all("only_uploads" in move.__qualname__ for move in moves)
    takes_input = {type(block).__name__ for event in page.fns.values() for block in event.inputs}
    assert takes_input <= {"File", "HTML", "Dropdown"}  # a new kind of input must be thought about here
    public = {event.api_name for event in page.fns.values() if event.api_visibility == "public"}
    assert public == set()
    assert type(mounted(client).state_holder).__name__ == "NoSessions"


def test_texts_say_what_becomes_of_an_image_that_is_asked_about_again(client: TestClient) -> None:
    text = " ".join(str(component["props"].get("value", "")) for component in config(client)["components"])
    assert "this page sends the image again: the server has it no longer" in text
    assert "is in the memory of the server until the answer is complete, and is gone then" in text
    assert "The page sends the image again; the server keeps it no longer than this takes" in text
    assert "One lesion in each image, grey B-mode" in text


def test_file_in_the_place_of_a_models_name_is_not_read(
    bundle: Path, predictor: Predictor, tmp_path: Path, png: bytes
) -> None:
    copy = tmp_path / "other"
    shutil.copytree(bundle, copy)
    write_spec(copy, predictor.spec.model_copy(update={"name": "other"}))
    elsewhere = tmp_path / "elsewhere.png"
    elsewhere.write_bytes(png)
    with TestClient(create_app([predictor, copy])) as client:
        path = upload(client, "a.png", png)
        file = {"path": path, "meta": {"_type": "gradio.FileData"}}
        for place in (str(elsewhere), "https://example.org/a.png"):
            data = [[file], {"path": place, "meta": {"_type": "gradio.FileData"}}]
            event = client.post("/gradio_api/call/assess", json={"data": data}).json()["event_id"]
            assert "event: error" in client.get(f"/gradio_api/call/assess/{event}").text
        assert files_left() == []
        event = client.post("/gradio_api/call/assess", json={"data": [[file], "other"]}).json()["event_id"]
        assert "model other" in answer_to(client, event)
        event = client.post(
            "/gradio_api/call/assess",
            json={"data": [[{**file, "path": upload(client, "b.png", png)}], "none"]},
        ).json()["event_id"]
        assert "There is no model" in answer_to(client, event)
