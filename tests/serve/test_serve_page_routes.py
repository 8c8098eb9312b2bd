"""What of Gradio is served: each of its routes is listed or 404, none writes to a disk, and no question is long."""

from __future__ import annotations

import json
import re
import socket
import tempfile
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest
import uvicorn
from starlette.routing import BaseRoute, Mount
from starlette.testclient import TestClient

from medsharp.inference import Predictor
from serve import create_app
from serve.page.gradio_routes import MOST_BYTES, SERVED

NOTHING = {"detail": "there is nothing here; /docs lists what there is", "notice": "Not for diagnostic use."}
OURS = {
    ("POST", "/gradio_api/upload"),
    ("GET", "/gradio_api/upload_progress"),
    ("GET", "/openapi.json"),
    ("HEAD", "/openapi.json"),
}
"""Routes of Gradio in whose place the server itself answers."""

JSON = {"content-type": "application/json"}
QUESTIONS = ["/gradio_api/queue/join", "/gradio_api/run/predict", "/gradio_api/call/assess"]


def of_gradio(client: TestClient) -> list[tuple[str, str]]:
    """Return method and path of each route of the page's application."""
    app: Any = client.app
    (page,) = (route for route in app.routes if isinstance(route, Mount))

    def pairs(routes: list[BaseRoute], prefix: str = "") -> Iterator[tuple[str, str]]:
        for route in routes:
            if hasattr(route, "original_router"):
                yield from pairs(route.original_router.routes, prefix + route.include_context.prefix)  # type: ignore[attr-defined]
            else:
                yield from ((method, prefix + route.path) for method in route.methods or ())  # type: ignore[attr-defined]

    return sorted(set(pairs(page.routes)))


def filled_in(route: str) -> str:
    return re.sub(r"{[^}]*}", "x", route)


def test_each_route_of_gradio_is_listed_or_404(client: TestClient) -> None:
    routes = of_gradio(client)
    # By its own table, so that what a new version brings is asked here too.
    assert len(routes) > 60
    assert {("POST", "/login"), ("POST", "/gradio_api/process_recording"), ("POST", "/gradio_api/vibe-edit")} < {
        *routes
    }
    assert set(SERVED) <= {*routes}
    for method, route in routes:
        if (method, route) in OURS:
            continue
        answer = client.request(method, filled_in(route), follow_redirects=False)
        is_refused = answer.status_code == 404 and (method == "HEAD" or answer.json() == NOTHING)
        assert is_refused != ((method, route) in SERVED), (method, route, answer.status_code)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/config/"),
        ("GET", "/config\n"),
        ("GET", "/gradio_api/run/predict"),
        ("POST", "/gradio_api/run/predict/"),
        ("POST", "/gradio_api/call/v2/assess"),
        ("POST", "/gradio_api/call/"),
        ("DELETE", "/"),
        ("GET", "/nowhere"),
        ("GET", "/assets/" + "x" * 5000),
    ],
)
def test_what_is_near_a_route_that_is_served_is_not(client: TestClient, method: str, path: str) -> None:
    answer = client.request(method, path.replace("\n", "%0A"), follow_redirects=False)
    assert (answer.status_code, answer.json()) == (404, NOTHING)


@pytest.fixture
def no_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Every temporary file fails, also one without a name; those that are made otherwise lie in the folder."""

    def refuse(*_: object, **__: object) -> NoReturn:
        raise AssertionError("a temporary file was made")

    for name in ("NamedTemporaryFile", "TemporaryFile", "mkstemp"):
        monkeypatch.setattr(tempfile, name, refuse)
    monkeypatch.setattr(tempfile.SpooledTemporaryFile, "rollover", refuse)
    monkeypatch.setattr("gradio.route_utils.NamedTemporaryFile", refuse)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_no_route_of_gradio_writes_what_it_is_sent_to_the_disk(client: TestClient, no_files: Path) -> None:
    large = bytes(3 * 2**20)
    for method, route in of_gradio(client):
        if method != "POST" or (method, route) in OURS:
            continue
        for content in (b"small", large):
            for field in ("file", "video", "files", "username"):
                answer = client.post(filled_in(route), files=[(field, ("Doe.png", content))], follow_redirects=False)
                assert answer.status_code in (404, 413, 422), (route, len(content), answer.status_code)
    assert list(no_files.iterdir()) == []


@pytest.mark.parametrize("path", QUESTIONS)
def test_question_to_the_page_has_a_megabyte_at_most(client: TestClient, path: str) -> None:
    around = len(json.dumps({"data": [""], "session_hash": "x"}))

    def ask(length: int, announced: bool) -> Any:
        body = json.dumps({"data": ["x" * (length - around)], "session_hash": "x"}).encode()
        parts = (body[at : at + 2**16] for at in range(0, len(body), 2**16))
        return client.post(path, content=body if announced else parts, headers=JSON)

    for announced in (True, False):
        assert ask(MOST_BYTES, announced).status_code != 413
        answer = ask(MOST_BYTES + 1, announced)
        assert answer.status_code == 413
        assert "1 MiB at most" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("body", "status", "sentence"),
    [
        (b'{"fn_index": 999, "data": [], "session_hash": "x"}', 404, "no such event"),
        (b'{"fn_index": -1, "data": [], "session_hash": "x"}', 404, "no such event"),
        (b'{"fn_index": "one", "data": [], "session_hash": "x"}', 422, "fn_index"),
        (b'{"fn_index": 0, "data": [], "session_hash": "\\ud800"}', 422, "session_hash: it must be ASCII"),
        (b'{"fn_index": 0, "data": [], "session_hash": "' + b"x" * 101 + b'"}', 422, "100 characters at most"),
        (b'{"data": "\\ud800"}', 422, "data"),
        (b'{"data": ' + b"[" * 5000 + b"]" * 5000 + b"}", 400, "parsing the body"),
        (b'"\\ud800"', 422, ""),
        (b"\xed\xa0\x80", 422, "JSON"),
        (b"", 422, "required"),
    ],
)
def test_odd_question_is_refused_in_a_sentence(client: TestClient, body: bytes, status: int, sentence: str) -> None:
    for path in QUESTIONS[:2]:
        answer = client.post(path, content=body, headers=JSON)
        assert (answer.status_code, set(answer.json())) == (status, {"detail", "notice"})
        assert sentence in answer.json()["detail"]
    assert client.post("/gradio_api/call/nothing", json={"data": []}).status_code == 404


def test_pages_summary_of_who_asked_what_is_not_made(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    app: Any = client.app
    queue = next(route for route in app.routes if isinstance(route, Mount)).app.get_blocks()._queue
    monkeypatch.setattr(queue, "_get_df", lambda _: pytest.fail("it was made"))
    for word in ("\ud800", "x"):
        body = json.dumps({"data": [word]}).encode()
        event = client.post("/gradio_api/call/assess", content=body, headers=JSON).json()["event_id"]
        assert "event: error" in client.get(f"/gradio_api/call/assess/{event}").text
    assert len(queue.event_analytics) <= 1
    while queue.event_ids_to_events:  # for ever, if the summary failed
        threading.Event().wait(0.01)


def test_gradios_own_client_asks_the_event_assess(predictor: Predictor, png: bytes, tmp_path: Path) -> None:
    gradio_client: Any = pytest.importorskip("gradio_client")
    image = tmp_path / "a.png"
    image.write_bytes(png)
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(16)
        server = uvicorn.Server(uvicorn.Config(create_app(predictor), log_level="error", timeout_graceful_shutdown=1))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            with warnings.catch_warnings(action="ignore"):
                client = gradio_client.Client(f"http://127.0.0.1:{listening.getsockname()[1]}/", verbose=False)
                html = client.predict([gradio_client.handle_file(str(image))], api_name="/assess")
                client.close()
        finally:
            server.should_exit = True
            thread.join()
    (expected,) = predictor.predict([png])
    assert f"{100 * expected.positive_probability:.1f}" in html
