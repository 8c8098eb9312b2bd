"""Many requests at once, slow ones, ones that end early, and where their bytes are meanwhile.

Requests are put to the application itself, message by message, so that each happens when the test says.
"""

from __future__ import annotations

import asyncio
import base64
import http.client
import importlib
import io
import json
import socket
import tempfile
import threading
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NoReturn

import pytest
import uvicorn
from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.testclient import TestClient
from starlette.types import Receive, Scope, Send

from medsharp.inference import Predictor
from serve import Limits, create_app
from serve.api.inference_protocol.tensors import OutputTensor
from serve.security.gate import Gate
from serve.security.settings import Security

Client = Callable[..., TestClient]
Message = dict[str, Any]


def form(content: bytes, name: str = "a.png") -> bytes:
    head = f'--x\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n\r\n'
    return head.encode() + content + b"\r\n--x--\r\n"


class Exchange:
    """One request, told message by message.

    Attributes:
        status: Of the answer, once there is one.
        body: What has been answered.
        read: Messages that the application has taken.
        taken: Set once it has taken the first.
    """

    def __init__(self, path: str = "/predict", method: str = "POST", headers: dict[str, str] | None = None) -> None:
        sent = {"content-type": "multipart/form-data; boundary=x", **(headers or {})}
        self.scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "root_path": "",
            "scheme": "http",
            "query_string": b"",
            "headers": [(name.encode(), value.encode()) for name, value in sent.items()],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 80),
        }
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = b""
        self.read = 0
        self.taken = asyncio.Event()
        self._messages: asyncio.Queue[Message] = asyncio.Queue()

    def say(self, part: bytes, more: bool = False) -> None:
        self._messages.put_nowait({"type": "http.request", "body": part, "more_body": more})

    def leave(self) -> None:
        self._messages.put_nowait({"type": "http.disconnect"})

    async def to(self, app: FastAPI) -> Exchange:
        await app(self.scope, self._receive, self._send)  # type: ignore[arg-type]
        return self

    async def _receive(self) -> Message:
        message = await self._messages.get()
        self.read += 1
        self.taken.set()
        return message

    async def _send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {name.decode(): value.decode() for name, value in message["headers"]}
        else:
            self.body += message.get("body", b"")


async def until(semaphore: threading.Semaphore) -> None:
    await asyncio.to_thread(semaphore.acquire)


def test_health_and_descriptions_are_answered_while_one_image_is_worked_on_and_others_wait(
    held: Any, arrived: threading.Semaphore, png: bytes
) -> None:
    async def busy() -> None:
        app = create_app(held)
        waiting = []
        for _ in range(5):
            exchange = Exchange()
            exchange.say(form(png))
            waiting.append(asyncio.create_task(exchange.to(app)))
        await until(held.begun)
        for _ in range(5):
            await until(arrived)
        for path in ("/healthz", "/readyz", "/metrics", "/docs", "/openapi.json"):
            quick = Exchange(path, "GET")
            quick.say(b"")
            assert (await quick.to(app)).status == 200, path
        assert app.state.admission.inside == 5
        held.go.set()
        assert [done.status for done in await asyncio.gather(*waiting)] == [200] * 5
        assert app.state.memory.held == 0

    asyncio.run(busy())


class Held:
    """Stands for a function that takes as long as the test says.

    Attributes:
        begun: Released each time that it is called.
        go: Until it is set, it works.
    """

    def __init__(self, work: Callable[..., Any]) -> None:
        self._work = work
        self.begun = threading.Semaphore(0)
        self.go = threading.Event()

    def __call__(self, *given: Any, **named: Any) -> Any:
        self.begun.release()
        # Not for ever: where it holds the event loop, the test fails and does not hang.
        assert self.go.wait(20), "nobody was answered meanwhile"
        return self._work(*given, **named)


BINARY = {"content-type": "application/octet-stream"}


def infer_body(images: int, side: int) -> bytes:
    tensor = {"name": "image", "datatype": "UINT8", "shape": [images, 1, side, side], "data": [7] * images * side**2}
    return json.dumps({"inputs": [tensor]}).encode()


@pytest.mark.parametrize(
    ("held_up", "path"),
    [
        ("serve.api.inference_protocol.routes.read_request", "/v2/models/NAME/infer"),
        ("serve.api.inference_protocol.models.read_images", "/v2/models/NAME/infer"),
        ("serve.api.inference_protocol.routes.write_answer", "/v2/models/NAME/infer"),
        ("serve.api.inference_protocol.models.read_files", "/v2/models/NAME-checked/infer"),
        ("serve.api.predict._body", "/v1/predict"),
        ("serve.uploads.bodies.read_archive", "/v1/predict"),
        ("serve.page.batch.batch_table", "/page/batch"),
        ("serve.page.answering.on_paper", "/page/answer"),
    ],
)
def test_health_is_answered_while_a_large_body_is_read_or_a_large_answer_written(
    predictor: Predictor, png: bytes, monkeypatch: pytest.MonkeyPatch, held_up: str, path: str
) -> None:
    module, _, name = held_up.rpartition(".")
    held = Held(getattr(importlib.import_module(module), name))
    monkeypatch.setattr(held_up, held)
    # So that the answer of this small network is large.
    monkeypatch.setattr(OutputTensor, "size", 2**20)
    headers: dict[str, str] = {}
    if path.endswith("NAME/infer"):
        headers, body = BINARY, infer_body(12, 64)
    elif path.endswith("NAME-checked/infer"):
        files = {"name": "image_bytes", "datatype": "BYTES", "shape": [1]}
        text = json.dumps({"inputs": [{**files, "data": [base64.b64encode(png + bytes(2**17)).decode()]}]})
        headers, body = BINARY, text.encode()
    elif held_up.endswith("read_archive"):
        headers, body = {"content-type": "application/zip"}, packed(png)
    elif held_up.endswith("on_paper"):
        body = (
            form(png)[: -len(b"--x--\r\n")]
            + b'--x\r\nContent-Disposition: form-data; name="as"\r\n\r\npng\r\n--x--\r\n'
        )
    else:
        body = b"".join(form(png)[: -len(b"--x--\r\n")] for _ in range(32))
        body += b'--x\r\nContent-Disposition: form-data; name="heatmap"\r\n\r\n1\r\n--x--\r\n'

    async def working() -> None:
        app = create_app(predictor)
        exchange = Exchange(path.replace("NAME", predictor.spec.name), headers=headers)
        exchange.say(body)
        task = asyncio.create_task(exchange.to(app))
        await until(held.begun)
        for quick in (Exchange("/healthz", "GET"), Exchange("/readyz", "GET"), Exchange("/metrics", "GET")):
            quick.say(b"")
            assert (await quick.to(app)).status == 200
        assert exchange.status in (0, 200)
        assert not task.done()
        held.go.set()
        assert (await task).status == 200, exchange.body

    asyncio.run(working())


def packed(content: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a.png", content)
    return buffer.getvalue()


def test_request_beyond_those_that_may_wait_is_told_when_to_come_again(
    held: Any, arrived: threading.Semaphore, png: bytes
) -> None:
    async def full() -> None:
        app = create_app(held, limits=Limits(max_waiting=2))
        waiting = []
        for _ in range(3):
            exchange = Exchange()
            exchange.say(form(png))
            waiting.append(asyncio.create_task(exchange.to(app)))
            await until(arrived)
        refused = Exchange()
        refused.say(form(png))
        await refused.to(app)
        assert refused.status == 429
        assert int(refused.headers["retry-after"]) > 0
        assert "2 requests wait already" in json.loads(refused.body)["detail"]
        held.go.set()
        assert [done.status for done in await asyncio.gather(*waiting)] == [200] * 3
        again = Exchange()
        again.say(form(png))
        assert (await again.to(app)).status == 200

    asyncio.run(full())


WORK = ["/v1/predict", "/predict", "/page/answer", "/page/batch", "/page/robustness", "/page/compare"]


def work_paths(app: FastAPI) -> list[str]:
    """Paths of all routes that take a body, but for those of Gradio."""
    paths = [getattr(route, "path", "") for route in app.routes if "POST" in (getattr(route, "methods", None) or ())]
    return [path.format(name="any", version="1") for path in paths if not path.startswith("/gradio_api")]


def test_request_of_a_busy_server_is_refused_before_its_body_is_read_and_counted_by_its_route(
    held: Any, png: bytes
) -> None:
    async def full() -> None:
        app = create_app(held, limits=Limits(max_waiting=0))
        first = Exchange()
        first.say(form(png))
        task = asyncio.create_task(first.to(app))
        await until(held.begun)
        paths = work_paths(app)
        assert set(WORK) < set(paths)
        assert len(paths) == len(WORK) + 2
        for path in paths:
            refused = Exchange(path)  # which sends nothing
            await refused.to(app)
            assert (refused.status, refused.read) == (429, 0), path
            assert int(refused.headers["retry-after"]) > 0
            assert refused.headers["x-request-id"]
            said = json.loads(refused.body)["error" if path.startswith("/v2") else "detail"]
            assert "0 requests wait already" in said
        told = Exchange("/metrics", "GET")
        told.say(b"")
        counted = (await told.to(app)).body.decode()
        route = "/v2/models/{name}/versions/{version}/infer"
        for name in (*WORK, "/v2/models/{name}/infer", route):
            assert f'medsharp_requests_total{{method="POST",route="{name}",status="429"}} 1.0' in counted
        assert f'medsharp_failures_total{{reason="busy"}} {len(paths)}.0' in counted
        # What brings no image is answered.
        for path in ("/model", "/v1/models", f"/v2/models/{held.spec.name}"):
            other = Exchange(path, "GET")
            other.say(b"")
            assert (await other.to(app)).status == 200
        held.go.set()
        assert (await task).status == 200
        assert app.state.memory.held == 0

    asyncio.run(full())


def test_nobody_is_told_of_the_load_before_the_login(held: Any, png: bytes) -> None:
    async def full() -> None:
        app = create_app(held, limits=Limits(max_waiting=0), auth=("ward", "password"))
        with app.state.admission.entry():
            for path in work_paths(app):
                asked = Exchange(path)
                assert (await asked.to(app)).status == 401
            foreign = Exchange(headers={"origin": "https://evil.example"})
            assert (await foreign.to(app)).status == 403

    asyncio.run(full())


def test_client_that_sends_all_before_it_looks_finds_the_refusal_and_may_go_on(
    predictor: Predictor, png: bytes
) -> None:
    """Over a socket, where a server that closes before it has read breaks the connection."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(16)
        app = create_app(predictor, limits=Limits(max_waiting=0))
        server = uvicorn.Server(uvicorn.Config(app, log_level="error", http="h11", loop="asyncio"))
        serving = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        serving.start()
        connection = http.client.HTTPConnection("127.0.0.1", listening.getsockname()[1], timeout=60)
        try:
            for size in (2**12, 2**24, 2**20):
                with app.state.admission.entry():
                    connection.request("POST", "/v1/predict", bytes(size), {"Content-Type": "image/png"})
                    answer = connection.getresponse()
                    assert (answer.status, "busy" in json.load(answer)["detail"]) == (429, True)
                assert app.state.memory.held == 0
                connection.request("POST", "/v1/predict", png, {"Content-Type": "image/png"})
                answer = connection.getresponse()
                assert (answer.status, len(json.load(answer))) == (200, 1)
        finally:
            connection.close()
            server.should_exit = True
            serving.join()


def test_client_that_leaves_while_it_waits_takes_no_turn(held: Any, arrived: threading.Semaphore, png: bytes) -> None:
    async def leaving() -> None:
        app = create_app(held)
        first, second = Exchange(), Exchange()
        first.say(form(png, "first.png"))
        second.say(form(png, "second.png"))
        one = asyncio.create_task(first.to(app))
        await until(held.begun)
        two = asyncio.create_task(second.to(app))
        await until(arrived)
        await until(arrived)
        second.leave()
        # Turns of the event loop, many more than it takes to hear of that.
        for _ in range(100):
            await asyncio.sleep(0)
        assert app.state.admission.inside == 1
        held.go.set()
        await one
        await two
        assert first.status == 200
        assert held.seen == ["first.png"]
        assert app.state.memory.held == 0

    asyncio.run(leaving())


def test_slow_client_keeps_nobody_waiting(predictor: Predictor, png: bytes) -> None:
    async def trickling() -> None:
        app = create_app(predictor)
        slow, quick = Exchange(), Exchange()
        body = form(png)
        slow.say(body[:200], more=True)
        task = asyncio.create_task(slow.to(app))
        await slow.taken.wait()
        quick.say(body)
        assert (await quick.to(app)).status == 200
        assert slow.status == 0
        slow.say(body[200:])
        assert (await task).status == 200
        assert app.state.memory.held == 0

    asyncio.run(trickling())


def test_client_that_sends_no_more_is_not_waited_for_for_ever(predictor: Predictor) -> None:
    async def silent() -> None:
        app = create_app(predictor, limits=Limits(body_seconds=1e-3))
        exchange = Exchange()
        exchange.say(form(b"")[:20], more=True)
        assert (await exchange.to(app)).status == 408
        assert app.state.memory.held == 0

    asyncio.run(silent())


PER_SECOND = 64 * 1024


@pytest.mark.parametrize(
    ("parts", "taken"),
    [
        ([(59.0, 1)] * 9, 1),
        ([(0.5, 1)] * 999, 120),
        ([(59.0, 59 * PER_SECOND)] * 9, 9),
        ([(59.0, 58 * PER_SECOND)] * 200, 59),
        ([(30.0, 0), (0.0, 30 * PER_SECOND)] * 9, 18),
        ([(0.0, 100 * 2**20), *[(29.0, 1)] * 9], 3),
        ([(0.0, 2**20)] * 99, 99),
    ],
    ids=[
        "a byte a minute",
        "a byte at a time",
        "as fast as it must",
        "a little slower",
        "in pushes",
        "at its end",
        "fast",
    ],
)
def test_body_may_fall_behind_by_a_minute_in_all(parts: list[tuple[float, int]], taken: int) -> None:
    """Of each part there is when it comes, in seconds after the one before, and how many bytes it has."""
    now, read = 0.0, 0

    async def receive() -> Message:
        nonlocal now
        seconds, count = parts[read]
        now += seconds
        return {"type": "http.request", "body": bytes(count), "more_body": read + 1 < len(parts)}

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal read, now
        while (await receive())["more_body"]:
            read += 1
            now += 500.0  # What the server takes between two parts is not the client's.
        read += 1

    async def send(message: Message) -> None:
        pytest.fail("it answers nothing itself")

    gate = Gate(app, Security(), 2**30, 60.0, lambda: now)
    scope = {"type": "http", "method": "POST", "path": "/predict", "headers": [], "client": None}
    if taken == len(parts):
        asyncio.run(gate(scope, receive, send))
    else:
        with pytest.raises(HTTPException, match="60 seconds behind one of 64 KiB a second") as refused:
            asyncio.run(gate(scope, receive, send))
        assert refused.value.status_code == 408
    assert read == taken


@pytest.mark.parametrize("path", ["/predict", "/gradio_api/upload"])
def test_nothing_is_held_of_a_client_that_leaves_in_the_middle_of_its_upload(predictor: Predictor, path: str) -> None:
    async def leaving() -> None:
        app = create_app(predictor)
        exchange = Exchange(path)
        exchange.say(form(bytes(5000))[:3000], more=True)
        exchange.leave()
        await exchange.to(app)
        assert app.state.memory.held == 0

    asyncio.run(leaving())


@pytest.mark.parametrize("path", ["/predict", "/gradio_api/upload"])
def test_too_large_image_is_refused_before_the_rest_is_read(predictor: Predictor, path: str) -> None:
    async def large() -> None:
        app = create_app(predictor, limits=Limits(max_file_bytes=2000))
        exchange = Exchange(path)
        exchange.say(form(b"", "large.png")[:-9], more=True)
        for _ in range(9):
            exchange.say(bytes(1000), more=True)
        await exchange.to(app)
        assert exchange.status == 413
        assert b"large.png" in exchange.body
        assert exchange.read == 4  # the head and three parts: the third is too much
        assert app.state.memory.held == 0

    asyncio.run(large())


def test_uploads_of_all_requests_together_are_bounded(predictor: Predictor, png: bytes) -> None:
    async def many() -> None:
        app = create_app(predictor, limits=Limits(max_held_bytes=20_000))
        first, second = Exchange(), Exchange()
        first.say(form(bytes(15_000))[:15_000], more=True)
        task = asyncio.create_task(first.to(app))
        second.say(form(bytes(10_000)))
        await first.taken.wait()
        assert (await second.to(app)).status == 429
        assert "retry-after" in second.headers
        first.leave()
        await task
        assert app.state.memory.held == 0

    asyncio.run(many())


@pytest.fixture
def no_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every temporary file fails, also one without a name."""

    def refuse(*_: object, **__: object) -> NoReturn:
        raise AssertionError("a temporary file was made")

    for name in ("NamedTemporaryFile", "TemporaryFile", "mkstemp"):
        monkeypatch.setattr(tempfile, name, refuse)
    monkeypatch.setattr(tempfile.SpooledTemporaryFile, "rollover", refuse)
    monkeypatch.setattr("gradio.route_utils.NamedTemporaryFile", refuse)


@pytest.mark.parametrize("path", ["/predict", "/gradio_api/upload"])
@pytest.mark.usefixtures("no_files")
def test_large_upload_never_reaches_the_disk(make_client: Client, png: bytes, path: str) -> None:
    with make_client() as client:
        content = png + bytes(3 * 1024 * 1024)
        assert client.post(path, files=[("files", ("a.png", content))]).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/predict", "POST"),
        ("PUT", "/predict", "POST"),
        ("POST", "/healthz", "GET, HEAD"),
        ("DELETE", "/docs", "GET"),
        ("POST", "/openapi.json", "GET, HEAD"),
        ("OPTIONS", "/predict", "POST"),
    ],
)
def test_method_that_a_path_does_not_have_is_405(client: TestClient, method: str, path: str, allowed: str) -> None:
    answer = client.request(method, path)
    assert answer.status_code == 405
    assert answer.headers["allow"] == allowed
    assert path in answer.json()["detail"]


def test_health_can_be_asked_for_without_a_body(client: TestClient) -> None:
    assert client.head("/healthz").status_code == 200


@pytest.mark.parametrize("body", [b"", b"no form", b"--x\r\n\r\n\r\n--x--\r\n", form(b"data")[:-8]])
def test_body_that_is_no_form_is_refused_in_one_sentence(client: TestClient, body: bytes) -> None:
    headers = {"content-type": "multipart/form-data; boundary=x"}
    answer = client.post("/predict", content=body, headers=headers)
    assert answer.status_code in (400, 422)
    assert answer.json()["detail"]
    assert client.post("/predict", content=body, headers={"content-type": "multipart/form-data"}).status_code == 400


def test_second_of_two_images_that_is_cut_short_is_not_dropped_without_a_word(client: TestClient, png: bytes) -> None:
    whole = form(png)[: -len(b"--x--\r\n")] + form(png)
    headers = {"content-type": "multipart/form-data; boundary=x"}
    assert len(client.post("/predict", content=whole, headers=headers).json()) == 2
    answer = client.post("/predict", content=whole[:-100], headers=headers)
    assert answer.status_code == 400
    assert "send it whole" in answer.json()["detail"]


def test_sixty_requests_at_once_are_all_answered(make_client: Client, png: bytes) -> None:
    with make_client() as client, ThreadPoolExecutor(60) as pool:
        answers = list(pool.map(lambda n: client.post("/predict", files=[("files", (f"{n}.png", png))]), range(60)))
        assert [answer.status_code for answer in answers] == [200] * 60
        assert [answer.json()[0]["name"] for answer in answers] == [f"{n}.png" for n in range(60)]
