"""`/openapi.json` is complete and true: an example of everything, and what the server answers is as it says."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
from starlette.testclient import TestClient

from medsharp.inference import Predictor
from serve import Limits, create_app
from serve.security.accounts import Accounts, key
from serve.security.gate import OPEN_PATHS
from serve.security.login import Login
from serve.security.settings import Security

KEY = "pacs.0123456789abcdef0123"
LOGGED_IN = {"authorization": f"Bearer {KEY}"}


def described(client: TestClient, **headers: str) -> dict[str, Any]:
    document: dict[str, Any] = client.get("/openapi.json", headers=headers).json()
    return document


@pytest.fixture(scope="module")
def document(client: TestClient) -> dict[str, Any]:
    return described(client)


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, of_path in document["paths"].items():
        for method, operation in of_path.items():
            yield method, path, operation


def validate(document: dict[str, Any], schema: dict[str, Any], value: Any) -> None:
    """Check a value against a schema, whose references are into the document."""
    jsonschema.Draft202012Validator({**schema, "components": document["components"]}).validate(value)


def examples(described: dict[str, Any]) -> list[Any]:
    """What OpenAPI has as examples of a parameter, a body, an answer or a header."""
    if "example" in described:
        return [described["example"]]
    return [one["value"] for one in described.get("examples", {}).values()]


def test_everything_has_an_example_that_is_as_its_schema_says(document: dict[str, Any]) -> None:
    looked_at = 0
    for method, path, operation in operations(document):
        for parameter in operation.get("parameters", []):
            assert parameter["description"], (path, parameter["name"])
            given = examples(parameter)
            assert given, (path, parameter["name"])
            for example in given:
                validate(document, parameter["schema"], example)
        contents = [("body", operation.get("requestBody", {}))]
        contents += [(status, answer) for status, answer in operation["responses"].items()]
        for where, described in contents:
            for kind, content in described.get("content", {}).items():
                given = examples(content)
                assert given, (method, path, where, kind)
                for example in given:
                    validate(document, content["schema"], example)
                    looked_at += 1
        for status, answer in operation["responses"].items():
            assert answer["description"] not in ("", "Bad Request"), (path, status)
            for header in answer["headers"].values():
                header = document["components"]["headers"]["X-Request-ID"] if "$ref" in header else header
                validate(document, header["schema"], examples(header)[0])
    assert looked_at > 150


def test_form_is_described_with_all_that_it_may_hold(document: dict[str, Any]) -> None:
    for path in ("/v1/predict", "/predict"):
        operation = document["paths"][path]["post"]
        schema = operation["requestBody"]["content"]["multipart/form-data"]["schema"]
        wishes = {one["name"] for one in operation["parameters"]} - {"name"}
        assert {*schema["properties"]} == {"files", "file", *wishes}
        for files in ("files", "file"):
            validate(document, schema, {files: ["bytes"], "model": "bus-lite0"})
        for wrong in ({"model": "bus-lite0"}, {"files": ["bytes"], "modle": "bus-lite0"}):
            with pytest.raises(jsonschema.ValidationError):
                validate(document, schema, wrong)


def test_both_ways_to_log_in_are_described_and_where_none_is_needed(
    document: dict[str, Any], closed: TestClient
) -> None:
    schemes = document["components"]["securitySchemes"]
    assert {one["scheme"] for one in schemes.values()} == {"basic", "bearer"}
    needed = described(closed, **LOGGED_IN)
    assert needed["security"] == [{name: []} for name in schemes]
    assert document["security"] == [{}, *needed["security"]]
    for method, path, operation in operations(needed):
        is_open = path in OPEN_PATHS
        assert ({} in operation.get("security", needed["security"])) == is_open, (method, path)
        assert ("401" in operation["responses"]) != is_open, (method, path)


def test_who_is_told_to_come_again_is_told_when_by_a_header(document: dict[str, Any]) -> None:
    for _, path, operation in operations(document):
        for status, answer in operation["responses"].items():
            may_come_again = status == "429" or (status == "503" and "post" in document["paths"][path])
            assert ("Retry-After" in answer["headers"]) == may_come_again, (path, status)
            assert answer["headers"]["X-Request-ID"]


def test_nothing_is_described_that_only_the_framework_would_answer(document: dict[str, Any]) -> None:
    text = json.dumps(document)
    assert "HTTPValidationError" not in text
    assert "#/$defs" not in text


@pytest.fixture(scope="module")
def closed(predictor: Predictor) -> Iterator[TestClient]:
    security = Security(Login(Accounts([key(KEY)])), hosts=frozenset({"testserver"}))
    limits = Limits(max_request_bytes=100_000, max_file_bytes=50_000)
    with TestClient(create_app(predictor, security=security, limits=limits)) as client:
        yield client


@pytest.fixture
def full(predictor: Predictor) -> Iterator[TestClient]:
    """Of a server that takes nothing on."""
    app = create_app(predictor, limits=Limits(max_waiting=0))
    with TestClient(app) as client, app.state.admission.entry():
        yield client


@pytest.fixture
def stopping(predictor: Predictor) -> Iterator[TestClient]:
    app = create_app(predictor)
    with TestClient(app) as client:
        app.state.admission.close()
        yield client


def asked(png: bytes, name: str) -> list[tuple[int, str, str, dict[str, Any]]]:
    """Requests, each with the status of its answer, for a server with room that asks nobody who it is."""
    bytes_of = {"name": "image_bytes", "datatype": "BYTES", "shape": [1]}
    infer = {"inputs": [{**bytes_of, "data": [base64.b64encode(png).decode()]}]}
    raw = {"content-type": "image/png"}
    both = [("files", ("a.png", png)), ("files", ("b.png", b"words"))]
    return [
        *((200, "GET", path, {}) for path in ("/healthz", "/readyz", "/metrics", "/model", "/v1/models", "/v2")),
        *((200, "GET", path, {}) for path in ("/v2/health/live", "/v2/health/ready")),
        *((200, "GET", path, {}) for path in (f"/v1/models/{name}", f"/v2/models/{name}", f"/v2/models/{name}/ready")),
        (200, "GET", f"/v2/models/{name}-checked/versions/1", {}),
        (404, "GET", "/v1/models/other", {}),
        (404, "GET", "/v2/models/other", {}),
        (422, "GET", f"/v1/models/{'x' * 201}", {}),
        (422, "GET", f"/v2/models/{'x' * 201}/ready", {}),
        (200, "POST", "/v1/predict", {"files": both, "data": {"heatmap": "1"}}),
        (200, "POST", "/predict?name=left.png", {"content": png, "headers": raw}),
        (400, "POST", "/v1/predict", {"content": b"x", "headers": {"content-type": "multipart/form-data"}}),
        (404, "POST", "/v1/predict?model=other", {"content": png, "headers": raw}),
        (415, "POST", "/v1/predict", {"content": b"words", "headers": {"content-type": "text/plain"}}),
        (422, "POST", "/v1/predict", {"files": both[1:]}),
        (422, "POST", "/v1/predict", {"files": both[:1], "data": {"heatmap": "perhaps"}}),
        (422, "POST", "/v1/predict", {}),
        (200, "POST", f"/v2/models/{name}-checked/infer", {"json": infer}),
        (400, "POST", f"/v2/models/{name}/versions/1/infer", {"json": infer}),
        (404, "POST", f"/v2/models/{name}/versions/2/infer", {"json": infer}),
        (415, "POST", f"/v2/models/{name}/infer", {"content": b"x", "headers": {"content-encoding": "br"}}),
        (422, "POST", f"/v2/models/{'x' * 201}/infer", {"json": infer}),
    ]


def template(document: dict[str, Any], path: str) -> str:
    """Return the path of the description that a path is one of."""
    parts = path.partition("?")[0].split("/")
    for described in sorted(document["paths"], key=lambda one: one.count("{")):
        wanted = described.split("/")
        if len(wanted) == len(parts) and all(w == p or w.startswith("{") for w, p in zip(wanted, parts, strict=True)):
            return str(described)
    raise AssertionError(path)


def check(document: dict[str, Any], method: str, path: str, answer: Any, status: int) -> None:
    """Check that an answer has the status, and is as the description says of it: type, schema and headers."""
    assert answer.status_code == status, (path, answer.text)
    answers = document["paths"][template(document, path)][method.lower()]["responses"]
    assert str(status) in answers, (method, path, status)
    contents = answers[str(status)].get("content", {})
    kind = answer.headers.get("content-type", "").partition(";")[0]
    assert (kind in contents) if contents else not answer.content, (path, kind)
    if kind == "application/json":
        validate(document, contents[kind]["schema"], answer.json())
    for name, header in answers[str(status)]["headers"].items():
        described = document["components"]["headers"]["X-Request-ID"] if "$ref" in header else header
        assert name in answer.headers or not described.get("required"), (path, status, name)
        if name in answer.headers:
            validate(document, described["schema"], answer.headers[name])


def test_what_is_answered_is_as_described(
    client: TestClient, document: dict[str, Any], predictor: Predictor, png: bytes
) -> None:
    seen = set()
    for status, method, path, given in asked(png, predictor.spec.name):
        check(document, method, path, client.request(method, path, **given), status)
        seen.add(template(document, path))
    assert len(seen) >= len(document["paths"]) - 1  # all but the readiness of a version


@pytest.mark.parametrize(
    ("status", "headers", "size"),
    [
        (200, LOGGED_IN, 0),
        (401, {}, 0),
        (403, {**LOGGED_IN, "origin": "https://evil.example"}, 0),
        (413, LOGGED_IN, 100_001),
        (421, {**LOGGED_IN, "host": "evil.example"}, 0),
    ],
)
def test_what_the_door_answers_is_as_described(
    closed: TestClient, predictor: Predictor, png: bytes, status: int, headers: dict[str, str], size: int
) -> None:
    document = described(closed, **LOGGED_IN)
    assert len(png) < 50_000
    sent = {**headers, "content-type": "image/png"}
    infer = json.dumps({"inputs": [{"name": "image_bytes", "datatype": "BYTES", "shape": [1], "data": [""]}]}).encode()
    for path, content in (("/v1/predict", png), (f"/v2/models/{predictor.spec.name}-checked/infer", infer)):
        answer = closed.post(path, content=content + bytes(size), headers=sent)
        check(document, "POST", path, answer, status)
    for path in ("/model", "/v1/models", "/metrics", "/v2", "/v2/health/live", "/healthz", "/readyz"):
        of_get = 200 if (status in (403, 413) or (status == 401 and path in OPEN_PATHS)) else status
        check(document, "GET", path, closed.get(path, headers=headers), of_get)


def test_too_many_attempts_to_log_in_are_answered_as_described(predictor: Predictor) -> None:
    client = TestClient(create_app(predictor, auth=("ward", "password")))
    document = described(client, authorization="Basic d2FyZDpwYXNzd29yZA==")
    for path in ("/model", "/v2"):
        for _ in range(5):
            client.get(path, auth=("ward", "guess"))
        check(document, "GET", path, client.get(path, auth=("ward", "guess")), 429)


@pytest.mark.parametrize(("server", "status"), [("full", 429), ("stopping", 503)])
def test_a_server_that_takes_nothing_on_answers_as_described(
    request: pytest.FixtureRequest, predictor: Predictor, png: bytes, server: str, status: int
) -> None:
    client: TestClient = request.getfixturevalue(server)
    document = described(client)
    name = predictor.spec.name
    for path in ("/v1/predict", "/predict", f"/v2/models/{name}/infer", f"/v2/models/{name}-checked/versions/1/infer"):
        answer = client.post(path, content=png, headers={"content-type": "image/png"})
        check(document, "POST", path, answer, status)
        assert int(answer.headers["retry-after"]) > 0
    of_get = 200 if status == 429 else 503
    for path in ("/readyz", "/v2/health/ready", f"/v2/models/{name}/versions/1/ready"):
        check(document, "GET", path, client.get(path), of_get)
