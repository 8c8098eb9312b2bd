"""The door in front of page and API: every route, names, origins, headers, and what is said when something breaks."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterator

import pytest
from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import BaseRoute, Mount, Route
from starlette.testclient import TestClient

from medsharp.inference import Predictor
from serve import Limits, create_app
from serve.security import who_asks
from serve.security.accounts import Accounts, key
from serve.security.gate import OPEN_PATHS, refuse
from serve.security.login import Login
from serve.security.settings import Security

Client = Callable[..., TestClient]
KEY = "pacs.0123456789abcdef0123"


@pytest.fixture(scope="module")
def closed(predictor: Predictor) -> Iterator[TestClient]:
    with TestClient(create_app(predictor, security=Security(Login(Accounts([key(KEY)]))))) as client:
        yield client


def every_route(routes: list[BaseRoute], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Method and path of each route, those of mounted applications too; parameters of a path are filled in."""
    for route in routes:
        if isinstance(route, Mount):
            yield from every_route(list(route.routes or []), prefix + route.path)
            yield "GET", f"{prefix}{route.path}/anything"
        elif isinstance(route, Route):
            path = prefix + re.sub(r"{[^}]*}", "x", route.path)
            yield from ((method, path) for method in sorted(route.methods or {"GET", "POST"}))
        else:
            # FastAPI keeps routers that were included as they are; another kind of route would fail here.
            yield from every_route(list(route.original_router.routes), prefix + route.include_context.prefix)  # type: ignore[attr-defined]


def test_anonymous_requests_to_every_route_get_401(closed: TestClient) -> None:
    app = closed.app
    assert isinstance(app, FastAPI)
    routes = set(every_route(list(app.routes)))
    paths = {path for _, path in routes}
    # Of the page too: where files are read and questions are put.
    assert {"/predict", "/", "/gradio_api/upload", "/gradio_api/queue/join", "/gradio_api/file=x", "/config"} <= paths
    assert len(paths) > 40
    let_in = []
    for method, path in sorted(routes):
        if path in OPEN_PATHS and method in ("GET", "HEAD"):
            continue
        answer = closed.request(method, path, follow_redirects=False)
        if answer.status_code != 401:
            let_in.append((method, path, answer.status_code))
        assert "pacs" not in answer.text
    assert let_in == []


@pytest.mark.parametrize(
    "path",
    ["/healthz/", "//healthz", "/healthz/../predict", "/healthz;/predict", "/HEALTHZ", "/healthz%2f", "/metrics"],
)
def test_only_the_exact_open_paths_are_open(closed: TestClient, path: str) -> None:
    assert closed.get(path, follow_redirects=False).status_code == 401
    assert closed.get("/healthz").status_code == 200
    assert closed.head("/healthz").status_code == 200
    assert closed.post("/healthz").status_code == 401


def test_open_paths_tell_who_does_not_log_in_a_status_and_nothing_else(
    closed: TestClient, predictor: Predictor
) -> None:
    logged_in = {"authorization": f"Bearer {KEY}"}
    for path, status in (("/healthz", "ok"), ("/readyz", "ready")):
        assert closed.get(path).json() == {"status": status}
        assert closed.get(path, headers={"authorization": "Bearer pacs.0000"}).json() == {"status": status}
        assert predictor.spec.name in closed.get(path, headers=logged_in).text
    assert closed.get("/healthz", headers=logged_in).json()["digest"] == predictor.digest
    app = closed.app
    assert isinstance(app, FastAPI)
    app.state.admission.close()
    try:
        answer = closed.get("/readyz")
        assert (answer.status_code, answer.json()) == (503, {"status": "stopping"})
    finally:
        app.state.admission.open()


def test_guesses_at_an_open_path_are_counted_as_elsewhere(predictor: Predictor) -> None:
    client = TestClient(create_app(predictor, auth=("ward", "password")))
    for _ in range(6):
        assert client.get("/healthz", auth=("ward", "guess")).json() == {"status": "ok"}
    assert client.get("/healthz", auth=("ward", "password")).json() == {"status": "ok"}
    assert client.get("/model", auth=("ward", "password")).status_code == 429


def test_with_a_key_all_is_there(closed: TestClient) -> None:
    headers = {"authorization": f"Bearer {KEY}"}
    for path in ("/model", "/", "/docs", "/openapi.json", "/config"):
        assert closed.get(path, headers=headers).status_code == 200, path


def test_too_many_failed_attempts_are_429_with_retry_after(predictor: Predictor) -> None:
    client = TestClient(create_app(predictor, auth=("ward", "password")))
    for _ in range(5):
        assert client.get("/model", auth=("ward", "guess")).status_code == 401
    answer = client.get("/model", auth=("ward", "guess"))
    assert answer.status_code == 429
    assert 0 < int(answer.headers["retry-after"]) <= 30
    assert "try again in" in answer.json()["detail"]
    # Who does not log in at all is asked to, and the orchestrator is answered.
    assert client.get("/model").status_code == 401
    assert client.get("/healthz").status_code == 200


def test_requests_without_a_credential_are_no_failed_attempts(predictor: Predictor) -> None:
    client = TestClient(create_app(predictor, auth=("ward", "password")))
    for _ in range(30):
        assert client.get("/model").status_code == 401
    assert client.get("/model", auth=("ward", "password")).status_code == 200


def test_handlers_are_told_who_asks(predictor: Predictor) -> None:
    app = create_app(predictor, security=Security(Login(Accounts([key(KEY)]))))

    async def who(request: Request) -> PlainTextResponse:
        asks = who_asks(request)
        return PlainTextResponse(f"{asks.name} {asks.means} {asks.request_id}")

    app.router.routes.insert(0, Route("/who", who))
    with TestClient(app) as client:
        answer = client.get("/who", headers={"authorization": f"Bearer {KEY}"})
        assert answer.text == f"pacs key {answer.headers['x-request-id']}"
        own = "550e8400-e29b-41d4-a716-446655440000"
        answer = client.get("/who", headers={"authorization": f"Bearer {KEY}", "x-request-id": own})
        assert answer.text == f"pacs key {own}"
        answer = client.get("/who", headers={"x-request-id": "jane doe"})
        assert answer.status_code == 401
        assert re.fullmatch("[0-9a-f]{32}", answer.headers["x-request-id"])


@pytest.mark.parametrize("path", ["/", "/model", "/config", "/predict", "/nowhere", "/gradio_api/info"])
def test_no_answer_is_opened_to_other_origins(make_client: Client, path: str) -> None:
    client = make_client()
    for origin in ("https://evil.example", "http://localhost:3000", "null"):
        for method in ("GET", "OPTIONS"):
            answer = client.request(
                method, path, headers={"origin": origin, "access-control-request-method": "POST", "host": "localhost"}
            )
            assert [name for name in answer.headers if name.startswith("access-control")] == []


def test_pages_of_other_origins_may_not_post(make_client: Client, png: bytes) -> None:
    client = make_client(security=Security(hosts=frozenset({"ward.example.org"})))
    own = {"host": "127.0.0.1:7860"}

    def post(path: str = "/predict", **headers: str) -> int:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return client.post(path, files=[("files", ("a.png", png))], headers={**own, **named}).status_code

    assert post() == 200
    assert post(origin="http://127.0.0.1:7860") == 200
    assert post(origin="http://127.0.0.1:7860", sec_fetch_site="same-origin") == 200
    assert post(host="ward.example.org", origin="https://ward.example.org") == 200
    assert post(host="127.0.0.1:80", origin="http://127.0.0.1") == 200
    assert post(origin="https://ward.example.org") == 200
    for origin in (
        "https://evil.example",
        "http://127.0.0.1:3000",
        "http://127.0.0.1",
        "http://localhost:7860",
        "null",
        "",
        "http://127.0.0.1:7860.evil.example",
        "http://evil.example#127.0.0.1:7860",
        "http://127.0.0.1:7860@evil.example",
        "https://ward.example.org:8443",
        "file://127.0.0.1:7860",
        "http://[",
    ):
        assert post(origin=origin) == 403, origin
        assert post("/gradio_api/upload", origin=origin) == 403, origin
        assert post("/gradio_api/queue/join", origin=origin) == 403, origin
    assert post(sec_fetch_site="cross-site") == 403
    assert client.get("/model", headers={**own, "origin": "https://evil.example"}).status_code == 200


def test_loopback_is_asked_by_its_own_names_only(make_client: Client) -> None:
    client = make_client(security=Security(hosts=frozenset({"ward.example.org"})))
    for host in ("127.0.0.1", "127.0.0.1:7860", "localhost", "LOCALHOST:1", "[::1]:7860", "127.8.9.1", "localhost."):
        assert client.get("/model", headers={"host": host}).status_code == 200, host
    assert client.get("/model", headers={"host": "Ward.Example.org:8443"}).status_code == 200
    for host in (
        "evil.example",
        "127.0.0.1.evil.example",
        "localhost.evil.example:7860",
        "evil.example#127.0.0.1",
        "localhost@evil.example",
        "192.0.2.1",
        "0.0.0.0",
        "",
        "[",
        "a b",
    ):
        answer = client.get("/model", headers={"host": host})
        assert answer.status_code == 421, host
        assert "--allowed-host" in answer.json()["detail"]
    # Elsewhere a server has names that it does not know of.
    assert make_client().get("/model", headers={"host": "anything.example"}).status_code == 200


def test_answers_say_what_a_browser_may_do_with_them(client: TestClient) -> None:
    for path in ("/", "/model", "/nowhere", "/gradio_api/file=x"):
        headers = client.get(path).headers
        assert "frame-ancestors 'self'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["x-frame-options"] == "SAMEORIGIN"
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert headers["cache-control"] == "no-store"
        assert len(headers.get_list("x-request-id")) == 1


def test_a_crash_is_500_and_logs_its_place_and_not_its_words(
    predictor: Predictor, caplog: pytest.LogCaptureFixture
) -> None:
    app = create_app(predictor)

    async def crash(request: object) -> None:
        try:
            raise KeyError("Doe_Jane")
        except KeyError as error:
            raise RuntimeError("Doe_Jane.png cannot be read") from error

    app.router.routes.insert(0, Route("/crash", crash))
    with TestClient(app) as client, caplog.at_level(logging.DEBUG):
        answer = client.get("/crash")
    assert answer.status_code == 500
    number = answer.headers["x-request-id"]
    assert "its log says where" in answer.json()["detail"]
    assert number in caplog.text
    assert "RuntimeError" in caplog.text
    assert "KeyError" in caplog.text
    assert "test_serve_gate.py" in caplog.text
    assert "Doe" not in caplog.text + answer.text


@pytest.mark.parametrize("root_path", ["", "/medsharp"])
@pytest.mark.parametrize(
    ("path", "word"),
    [
        ("/v2", "error"),
        ("/v2/models/a/infer", "error"),
        ("/v2/nowhere", "error"),
        ("/v20", "detail"),
        ("/v1/predict", "detail"),
        ("/nowhere/v2/", "detail"),
    ],
)
def test_refusals_below_v2_are_as_its_protocol_has_them(
    predictor: Predictor, monkeypatch: pytest.MonkeyPatch, root_path: str, path: str, word: str
) -> None:
    security = Security(Login(Accounts([key(KEY)])), frozenset())
    app = create_app(predictor, security=security, limits=Limits(max_request_bytes=100))
    client = TestClient(app, "http://127.0.0.1", root_path=root_path)

    def ask(content: bytes = b"", key: str = KEY, **headers: str) -> tuple[int, set[str]]:
        sent = {"authorization": f"Bearer {key}", **headers}
        answer = client.post(root_path + path, content=content, headers=sent)
        return answer.status_code, set(answer.json())

    assert ask(key="") == (401, {word, "notice"})
    assert ask(host="evil.example") == (421, {word, "notice"})
    assert ask(origin="https://evil.example") == (403, {word, "notice"})
    assert ask(bytes(101)) == (413, {word, "notice"})
    for _ in range(5):
        ask(key="pacs.9999999999abcdef0123")
    assert ask(key="pacs.9999999999abcdef0123") == (429, {word, "notice"})


def test_a_crash_below_v2_is_told_as_its_protocol_has_it(make_client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(*_: object) -> None:
        raise RuntimeError("Doe_Jane")

    monkeypatch.setattr("serve.api.inference_protocol.routes.find_protocol_model", crash)
    answer = make_client().get("/v2/models/a")
    assert (answer.status_code, set(answer.json())) == (500, {"error", "notice"})


def test_what_a_client_wrote_is_repeated_in_part_and_never_breaks_the_answer() -> None:
    answer = refuse(400, "x" * 5000, path="/")
    assert len(answer.body) < 1200
    said = refuse(400, "it was given \ud800", path="/v2").body
    assert json.loads(bytes(said))["error"] == "it was given ?"


def test_long_name_of_a_model_is_repeated_in_part(make_client: Client, png: bytes) -> None:
    client = make_client()
    files = [("files", ("a.png", png))]
    answer = client.post("/v1/predict", files=files, data={"model": "m" * 100_000})
    assert answer.status_code == 404
    assert f"no model '{'m' * 100}' here" in answer.json()["detail"]
    answer = client.put("/v1/models/" + "m" * 5000)
    assert answer.status_code == 405
    assert len(answer.content) < 1200
