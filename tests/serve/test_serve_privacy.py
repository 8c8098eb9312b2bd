"""Of an upload nothing is on the disk, whatever becomes of it, and neither its name nor a pixel is in what is said.

The server is a process of its own; its folder for temporary files, its home and its cache are watched, and so are the
files that it holds open.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import io
import json
import os
import signal
import socket
import time
import urllib.parse
import uuid
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from medsharp.data.phantom import simulate_image

if TYPE_CHECKING:
    from tests.serve.conftest import RunningServer

pytestmark = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="looks at the files a process holds open")

PATIENT = "Doe_Jane_1961"
SLOW = 60.0
"""Seconds after which a server has surely hung."""


@pytest.fixture(scope="module")
def scan() -> bytes:
    """A PNG of more than a megabyte, above which a form is usually spooled to the disk."""
    pixels = simulate_image("A", "malignant", np.random.default_rng(4)).pixels
    large = np.asarray(Image.fromarray(pixels).resize((1600, 1600))).astype(np.int16)
    noise = np.random.default_rng(0).integers(-6, 7, large.shape)
    buffer = io.BytesIO()
    Image.fromarray(np.clip(large + noise, 0, 255).astype(np.uint8)).save(buffer, "PNG")
    assert len(buffer.getvalue()) > 2**20
    return buffer.getvalue()


class Watch:
    """Looks for traces of an upload on the disk and in what the server says."""

    def __init__(self, server: RunningServer, *contents: bytes) -> None:
        self.server = server
        self.before = set(server.files())
        # From the middle: the head of a format is in many files.
        self._traces = [content[len(content) // 2 :][:48] for content in contents]

    def check_disk(self) -> None:
        """No new file, and no trace in an open one, which may have no name any more."""
        assert set(self.server.files()) - self.before == set()
        for link in Path(f"/proc/{self.server.process.pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                target = os.readlink(link)
                assert PATIENT not in target
                if target.startswith(str(self.server.folder)) and not target.startswith(str(self.server.log)):
                    content = link.read_bytes()
                    assert not any(trace in content for trace in self._traces), target

    def check_words(self, said: str) -> None:
        """Neither the name nor bytes of an image, as they are or as they travel."""
        assert PATIENT not in said
        assert "Jane" not in said
        raw = said.encode("utf-8", "surrogateescape")
        for trace in self._traces:
            assert trace not in raw
            assert base64.b64encode(trace)[4:40] not in raw
            assert repr(trace)[2:20].encode() not in raw


def form(*files: tuple[str, bytes], field: str = "files", **fields: str) -> tuple[bytes, dict[str, str]]:
    boundary = uuid.uuid4().hex
    parts = [(f'name="{field}"; filename="{name}"', content) for name, content in files]
    parts += [(f'name="{name}"', value.encode()) for name, value in fields.items()]
    body = b"".join(
        f"--{boundary}\r\nContent-Disposition: form-data; {about}\r\n\r\n".encode() + content + b"\r\n"
        for about, content in parts
    )
    return body + f"--{boundary}--\r\n".encode(), {"Content-Type": f"multipart/form-data; boundary={boundary}"}


def send(
    server: RunningServer, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None
) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=SLOW)
    with contextlib.closing(connection):
        connection.request(method, "/" + path, body or None, headers or {})
        answer = connection.getresponse()
        return answer.status, answer.read()


def post(server: RunningServer, path: str, *files: tuple[str, bytes]) -> tuple[int, bytes]:
    return send(server, "POST", path, *form(*files))


def begin(server: RunningServer, path: str, content: bytes, keep_back: int) -> socket.socket:
    """Send a form but for its last bytes, and leave the connection open."""
    body, headers = form((f"{PATIENT}.png", content))
    connection = socket.create_connection(("127.0.0.1", server.port), SLOW)
    head = f"POST /{path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n"
    head += "".join(f"{name}: {value}\r\n" for name, value in headers.items()) + "\r\n"
    connection.sendall(head.encode() + body[: len(body) - keep_back])
    return connection


def metric(server: RunningServer, name: str) -> float:
    text = send(server, "GET", "metrics")[1].decode()
    return float(next(line for line in text.splitlines() if line.startswith(f"{name} ")).split()[1])


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + SLOW
    while not condition():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def running(serve_command: Callable[..., RunningServer], scan: bytes) -> Iterator[tuple[RunningServer, Watch]]:
    server = serve_command()
    # Whatever the first answer makes the libraries write, such as a list of fonts, has nothing to do with an upload.
    assert post(server, "v1/predict", ("first.png", scan))[0] == 200
    watch = Watch(server, scan)
    yield server, watch
    watch.check_disk()
    watch.check_words(server.stop())
    assert not list((server.folder / "tmp").iterdir())


def test_answered_doubled_and_refused_images(running: tuple[RunningServer, Watch], scan: bytes) -> None:
    server, watch = running
    name = f"{PATIENT}.png"
    status, body = post(server, "v1/predict?heatmap=1", (name, scan), (name, scan), (f"{PATIENT}.txt", b"words"))
    assert status == 200
    assert [entry["name"] for entry in json.loads(body)][:2] == [name, name]
    watch.check_disk()
    with ThreadPoolExecutor(4) as pool:
        assert [status for status, _ in pool.map(lambda _: post(server, "v1/predict", (name, scan)), range(4))] == [
            200
        ] * 4
    assert post(server, "v1/predict", (f"{PATIENT}.dcm", b"\0" * 128 + b"DICM" + PATIENT.encode()))[0] == 422
    watch.check_disk()
    watch.check_words(server.said())


def test_archives(running: tuple[RunningServer, Watch], scan: bytes) -> None:
    server, watch = running
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(f"{PATIENT}/{PATIENT}.png", scan)
    assert post(server, "v1/predict", (f"{PATIENT}.zip", buffer.getvalue()))[0] == 200
    assert post(server, "v1/predict", (f"{PATIENT}.zip", buffer.getvalue()[:-40]))[0] == 422
    watch.check_disk()
    watch.check_words(server.said())


def test_half_sent_and_abandoned_forms(running: tuple[RunningServer, Watch], scan: bytes) -> None:
    server, watch = running
    for path in ("v1/predict", "gradio_api/upload"):
        with begin(server, path, scan, keep_back=500):
            wait_until(lambda: metric(server, "medsharp_held_bytes") > len(scan) - 2**16)
            watch.check_disk()
        wait_until(lambda: metric(server, "medsharp_held_bytes") == 0)
        watch.check_disk()
    # All of it, and nobody there for the answer.
    begin(server, "v1/predict?heatmap=1", scan, keep_back=0).close()
    wait_until(lambda: metric(server, "medsharp_requests_inside") == 0 and metric(server, "medsharp_held_bytes") == 0)
    watch.check_disk()
    watch.check_words(server.said())


def test_page_uploads_asked_about_dropped_and_cancelled(running: tuple[RunningServer, Watch], scan: bytes) -> None:
    server, watch = running
    dropped, path = (json.loads(post(server, "gradio_api/upload", (f"{PATIENT}.png", scan))[1])[0] for _ in range(2))
    assert not Path(dropped).exists()
    watch.check_disk()
    file = {"path": path, "orig_name": f"{PATIENT}.png", "meta": {"_type": "gradio.FileData"}}
    headers = {"Content-Type": "application/json"}

    def ask() -> str:
        question = json.dumps({"data": [[file]]}).encode()
        status, body = send(server, "POST", "gradio_api/call/assess", question, headers)
        assert status == 200
        return str(json.loads(body)["event_id"])

    assert PATIENT in send(server, "GET", f"gradio_api/call/assess/{ask()}")[1].decode()
    watch.check_disk()
    # Asked about once more, when there is nothing any longer, and left alone with the answer.
    ask()
    watch.check_disk()
    watch.check_words(server.said())


def test_names_in_odd_places_of_a_request(running: tuple[RunningServer, Watch], scan: bytes) -> None:
    server, watch = running
    user = base64.b64encode(f"{PATIENT}:{PATIENT}".encode()).decode()
    for method, path, headers in (
        ("GET", f"nowhere/{PATIENT}?name={PATIENT}", {"X-Request-ID": PATIENT, "Authorization": f"Basic {user}"}),
        ("POST", f"v1/predict?name={PATIENT}", {"Content-Type": f"multipart/form-data; boundary={PATIENT}"}),
        ("POST", f"v1/predict?model={PATIENT}&name={PATIENT}.png", {"Content-Type": "image/png"}),
        ("POST", "v1/predict", {"Content-Type": PATIENT}),
        ("POST", "gradio_api/queue/join", {"Content-Type": "application/json"}),
        ("GET", f"gradio_api/file={urllib.parse.quote(PATIENT)}", {}),
    ):
        # What is too long for a question is not read to its end.
        body = scan[-(2**16) :] if "gradio_api" in path else scan
        status, _ = send(server, method, path, body if method == "POST" else b"", headers)
        assert 400 <= status < 500, (path, status)
    with socket.create_connection(("127.0.0.1", server.port), SLOW) as connection:
        connection.sendall(f"{PATIENT} is no HTTP\r\n\r\n".encode())
        assert b"400" in connection.recv(100)
    watch.check_disk()
    watch.check_words(server.said())


@pytest.fixture(scope="module")
def batch() -> bytes:
    """An archive of twelve small images, six of each class, in folders with the patient's name."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for number in range(12):
            label = LABELS[number % 2]
            picture = io.BytesIO()
            pixels = simulate_image("A", label, np.random.default_rng(number)).pixels
            Image.fromarray(pixels).save(picture, "PNG")
            archive.writestr(f"{PATIENT}/{number}.png", picture.getvalue())
    return buffer.getvalue()


LABELS = ("benign", "malignant")


def tables() -> dict[str, bytes]:
    """The labels of the batch by the name of their file: as text and as a workbook, both with the patient's name."""
    rows = [(f"{PATIENT}/{number}.png", LABELS[number % 2], f"{PATIENT} {number}") for number in range(12)]
    table = pd.DataFrame(rows, columns=["image", "label", "patient"])
    workbook = io.BytesIO()
    table.to_excel(workbook, index=False)
    return {f"{PATIENT}.csv": table.to_csv(index=False).encode(), f"{PATIENT}.xlsx": workbook.getvalue()}


@pytest.fixture(scope="module")
def page(
    serve_command: Callable[..., RunningServer], scan: bytes, batch: bytes
) -> Iterator[tuple[RunningServer, Watch]]:
    """A server that has drawn and evaluated before: libraries write lists of fonts then, which are of nobody."""
    server = serve_command()
    for kind in ("", "png", "pdf", "json"):
        assert use_page(server, "answer", ("first.png", scan), **{"as": kind})[0] == 200
    nobody = (PATIENT.encode(), b"n" * len(PATIENT))  # as long, so that the archive is one still
    labels = labels_of("first.csv", tables()[f"{PATIENT}.csv"].replace(*nobody))
    assert b'"report"' in use_page(server, "batch", ("first.zip", batch.replace(*nobody)), **labels)[1]
    watch = Watch(server, scan, batch, *tables().values())
    yield server, watch
    watch.check_disk()
    watch.check_words(server.stop())
    assert not list((server.folder / "tmp").iterdir())


def labels_of(name: str, data: bytes) -> dict[str, str]:
    return {"labels_name": name, "labels": base64.b64encode(data).decode()}


def use_page(server: RunningServer, what: str, *files: tuple[str, bytes], **fields: str) -> tuple[int, bytes]:
    return send(server, "POST", f"page/{what}", *form(*files, **fields))


@pytest.mark.parametrize("kind", ["", "png", "pdf", "json"])
def test_answers_of_the_page_in_every_form(page: tuple[RunningServer, Watch], scan: bytes, kind: str) -> None:
    server, watch = page
    status, body = use_page(server, "answer", (f"{PATIENT}.png", scan), **{"as": kind})
    assert (status, len(body) > 500) == (200, True)
    watch.check_disk()
    assert use_page(server, "answer", (f"{PATIENT}.txt", b"words"), **{"as": kind})[0] == 422
    watch.check_disk()
    watch.check_words(server.said())


@pytest.mark.parametrize("kind", ["csv", "xlsx"])
def test_batches_with_labels_and_their_report(page: tuple[RunningServer, Watch], batch: bytes, kind: str) -> None:
    server, watch = page
    name = f"{PATIENT}.{kind}"
    status, told = use_page(server, "batch", (f"{PATIENT}.zip", batch), **labels_of(name, tables()[name]))
    assert status == 200
    last = json.loads(told.splitlines()[-1])
    assert PATIENT in last["csv"]
    assert "<html" in last["report"]
    watch.check_disk()
    damaged = tables()[name][:-60] + b'\n"'
    status, told = use_page(server, "batch", (f"{PATIENT}.zip", batch), **labels_of(name, damaged))
    assert (status, name in told.decode()) == (422, True)
    watch.check_disk()
    watch.check_words(server.said())


@pytest.mark.parametrize(("what", "fields"), [("robustness", {"family": "annotation"}), ("compare", {})])
def test_corrupted_and_compared_images(
    page: tuple[RunningServer, Watch], scan: bytes, what: str, fields: dict[str, str]
) -> None:
    server, watch = page
    status, told = use_page(server, what, (f"{PATIENT}.png", scan), **fields)
    assert status == 200
    assert "html" in json.loads(told.splitlines()[-1])
    watch.check_disk()
    watch.check_words(server.said())


@pytest.mark.parametrize("what", ["answer", "batch", "robustness", "compare"])
def test_work_of_the_page_that_is_cut_off_in_the_middle(
    page: tuple[RunningServer, Watch], scan: bytes, batch: bytes, what: str
) -> None:
    server, watch = page
    content = batch if what == "batch" else scan
    with begin(server, f"page/{what}", content, keep_back=500):  # in the middle of what is sent
        wait_until(lambda: metric(server, "medsharp_held_bytes") > len(content) - 2**16)
        watch.check_disk()
    wait_until(lambda: metric(server, "medsharp_held_bytes") == 0)
    with begin(server, f"page/{what}", content, keep_back=0) as connection:  # in the middle of what is answered
        if what != "answer":  # which comes in one piece
            assert b"200 OK" in connection.recv(2**12)
        watch.check_disk()
    wait_until(lambda: metric(server, "medsharp_requests_inside") == 0 and metric(server, "medsharp_held_bytes") == 0)
    watch.check_disk()
    watch.check_words(server.said())


@pytest.mark.parametrize(
    ("path", "field"), [("gradio_api/process_recording", "video"), ("login", "username"), ("nowhere", "files")]
)
def test_forms_at_paths_of_gradio_that_take_no_upload(
    running: tuple[RunningServer, Watch], scan: bytes, path: str, field: str
) -> None:
    server, watch = running
    body, headers = form((f"{PATIENT}.png", scan[-(2**16) :]), field=field)
    assert send(server, "POST", path, body, headers)[0] == 404
    watch.check_disk()
    watch.check_words(server.said())


def test_another_user_who_may_write_nowhere_serves_all_of_it(
    serve_command: Callable[..., RunningServer], other_user: int, scan: bytes, batch: bytes
) -> None:
    """As in the image, the compose file and the unit: the folder for temporary files is all that is its own."""
    server = serve_command(user=other_user)
    status = Path(f"/proc/{server.process.pid}/status").read_text().splitlines()
    assert f"Uid:\t{other_user}\t{other_user}\t{other_user}\t{other_user}" in status
    assert "NoNewPrivs:\t1" in status
    assert send(server, "GET", "")[0] == 200
    assert post(server, "v1/predict?heatmap=1", ("a.png", scan))[0] == 200
    for kind in ("", "png", "pdf", "json"):
        assert use_page(server, "answer", ("a.png", scan), **{"as": kind})[0] == 200
    labels = labels_of("labels.xlsx", tables()[f"{PATIENT}.xlsx"])
    status_of_batch, told = use_page(server, "batch", ("all.zip", batch), **labels)
    assert status_of_batch == 200
    assert "<html" in json.loads(told.splitlines()[-1])["report"]
    for what in ("robustness", "compare"):
        assert b'"html"' in use_page(server, what, ("a.png", scan), family="annotation")[1]
    # It has written where it may, if anywhere: libraries keep lists of fonts.
    theirs = {path for path in server.folder.rglob("*") if path.stat().st_uid == other_user}
    assert all(path.is_relative_to(server.folder / "tmp") for path in theirs)
    said = server.stop()
    assert "Traceback" not in said
    assert "Permission denied" not in said
    assert not any(path.name.startswith("medsharp-serve-") for path in (server.folder / "tmp").iterdir())


BREAKING = """
import asyncio, logging, sys, warnings
import serve.engine.decode, serve.engine.job
from serve.page import asking

def fail(content, name, *rest, **more):
    warnings.warn("value of " + name)
    logging.getLogger("some.library").error("cannot read %s", name)
    logging.getLogger("medsharp.serve").error("an error of ours", exc_info=ValueError(name))
    try:
        raise KeyError(name)
    except KeyError as error:
        raise RuntimeError(f"{name} has {content[len(content) // 2:][:48]!r}") from error

for module in list(sys.modules.values()):
    if getattr(module, "decode", None) is serve.engine.decode.decode and module is not serve.engine.decode:
        module.decode = fail

async def failing(self, contents, names, *rest, **more):
    async def lost():
        raise RuntimeError(names[0])
    asyncio.create_task(lost())
    await asyncio.sleep(0)
    raise RuntimeError(names[0])

asking.Model.assess = failing
"""


def test_crashes_say_where_and_not_of_whom_and_killed_it_leaves_nothing(
    serve_command: Callable[..., RunningServer], scan: bytes
) -> None:
    server = serve_command(before=BREAKING)
    watch = Watch(server, scan)
    assert post(server, "v1/predict", (f"{PATIENT}.png", scan))[0] == 500
    path = json.loads(post(server, "gradio_api/upload", (f"{PATIENT}.png", scan))[1])[0]
    question = json.dumps({"data": [[{"path": path, "meta": {"_type": "gradio.FileData"}}]]}).encode()
    _, asked = send(server, "POST", "gradio_api/call/assess", question, {"Content-Type": "application/json"})
    answer = send(server, "GET", f"gradio_api/call/assess/{json.loads(asked)['event_id']}")[1]
    assert b"event: error" in answer
    assert PATIENT.encode() not in answer
    watch.check_disk()
    # The loop says of a task that nobody waited for when it is gone.
    wait_until(lambda: "in lost" in server.said())
    with begin(server, "v1/predict", scan, keep_back=500):
        wait_until(lambda: metric(server, "medsharp_held_bytes") > len(scan) - 2**16)
        server.process.send_signal(signal.SIGKILL)
        server.process.wait(SLOW)
    assert set(server.files()) == watch.before
    watch.check_words(server.said())
    # It says enough to find the fault.
    for words in ("RuntimeError", "KeyError", "in fail", "in failing", "some.library", "UserWarning"):
        assert words in server.said(), server.said()
