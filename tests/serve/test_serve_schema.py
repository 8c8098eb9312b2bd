"""The whole description of the API, asked by schemathesis: nothing that it foresees or does not ends in a 5xx."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from fastapi import FastAPI
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from starlette.testclient import TestClient

from medsharp.inference import Predictor
from serve import Limits, create_app

pytestmark = pytest.mark.filterwarnings("ignore")


SETTINGS = settings(
    max_examples=8,
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(scope="module")
def app(predictor: Predictor) -> Iterator[FastAPI]:
    app = create_app(predictor, limits=Limits(deadline_seconds=60))
    with TestClient(app):
        yield app


CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]


@pytest.mark.parametrize("there", [False, True])
def test_no_request_of_the_description_ends_in_a_fault(app: FastAPI, predictor: Predictor, there: bool) -> None:
    """Requests as described and ones that are not; of models that nobody has, and of those that are there."""
    name = predictor.spec.name
    described = schemathesis.openapi.from_asgi("/openapi.json", app)
    operations = [one.ok() for one in described.get_all_operations()]
    assert len(operations) >= 17
    modes = (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE)
    if there:
        operations = [one for one in operations if "{name}" in one.path]
    for operation, mode in itertools.product(operations, modes):
        with contextlib.suppress(Unsatisfiable):  # nothing can be wrong with a request that brings nothing

            @SETTINGS
            @given(case=operation.as_strategy(generation_mode=mode))
            def ask(case: Any) -> None:
                for model in (name, f"{name}-checked") if there else ("",):
                    if model:
                        case.path_parameters.update({"name": model, "version": "1"})
                    case.call_and_validate(checks=CHECKS)

            ask()


def test_description_names_every_route_with_an_answer_and_a_summary(app: FastAPI) -> None:
    paths = TestClient(app).get("/openapi.json").json()["paths"]
    model = "/v2/models/{name}"
    assert {
        "/healthz", "/readyz", "/metrics", "/model", "/v1/models", "/v1/models/{name}", "/v1/predict", "/predict",
        "/v2", "/v2/health/live", "/v2/health/ready", model, f"{model}/ready", f"{model}/infer",
        f"{model}/versions/{{version}}", f"{model}/versions/{{version}}/ready", f"{model}/versions/{{version}}/infer",
    } <= set(paths)  # fmt: skip
    for path, operations in paths.items():
        for method, operation in operations.items():
            assert operation["summary"], (method, path)
            assert "200" in operation["responses"], (method, path)
            if method == "post":
                assert operation["requestBody"]["content"], path
                assert {"401", "413", "429", "503", "504"} <= set(operation["responses"]), path


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/v1/predict", "POST"),
        ("POST", "/readyz", "GET, HEAD"),
        ("DELETE", "/metrics", "GET"),
        ("PUT", "/v1/models", "GET"),
        ("POST", "/v2/models/x", "GET"),
        ("GET", "/v2/models/x/infer", "POST"),
        ("POST", "/v2/health/live", "GET"),
    ],
)
def test_method_that_a_route_does_not_have_is_405_with_those_that_it_has(
    app: FastAPI, method: str, path: str, allowed: str
) -> None:
    answer = TestClient(app).request(method, path)
    assert answer.status_code == 405
    assert answer.headers["allow"] == allowed
    assert path in answer.json()["error" if path.startswith("/v2") else "detail"]
