"""Many requests at once, slow ones, ones that end early, and where their bytes are meanwhile.

Requests are put to the application itself, message by message, so that each happens when the test says.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NoReturn

import pytest
from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.testclient import TestClient
from starlette.types import Receive, Scope, Send

from medsharp.inference import Predictor
from serve import Limits, create_app
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
        for path in ("/healthz", "/docs", "/openapi.json"):
            quick = Exchange(path, "GET")
            quick.say(b"")
            assert (await quick.to(app)).status == 200, path
        assert app.state.admission.inside == 5
        held.go.set()
        assert [done.status for done in await asyncio.gather(*waiting)] == [200] * 5
        assert app.state.memory.held == 0

    asyncio.run(busy())


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


def test_large_request_of_a_busy_server_is_refused_before_all_of_it_is_read(held: Any, png: bytes) -> None:
    async def full() -> None:
        app = create_app(held, limits=Limits(max_waiting=0))
        first, second = Exchange(), Exchange("/v1/predict")
        first.say(form(png))
        task = asyncio.create_task(first.to(app))
        await until(held.begun)
        for _ in range(8):
            second.say(bytes(2**19), more=True)
        assert (await second.to(app)).status == 429
        assert second.read == 3  # a mebibyte, so that a client that sends less is not cut off, and one part more
        assert app.state.memory.held <= len(form(png))
        held.go.set()
        assert (await task).status == 200
        assert app.state.memory.held == 0

    asyncio.run(full())


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
