"""What `/openapi.json` says beside the routes: how one logs in, the number of each request, what bodies are made of."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from serve.security.gate import OPEN_PATHS

_SCHEMES = {
    "password": {"type": "http", "scheme": "basic", "description": "User and password"},
    "key": {"type": "http", "scheme": "bearer", "description": "A key, as `NAME.SECRET`"},
}
_NUMBER = {
    "description": "Number of the request: that of the request's own header of this name, where it is one",
    "required": True,
    "schema": {"type": "string", "pattern": "^[0-9a-fA-F-]+$"},
    "example": "550e8400-e29b-41d4-a716-446655440000",
}


def complete_description(app: FastAPI, *, has_login: bool, bodies: Sequence[type[BaseModel]] = ()) -> None:
    """Add to the description what no route says.

    Args:
        app: Its routes describe themselves.
        has_login: Whether whoever asks must say who they are, but for `OPEN_PATHS`.
        bodies: Shapes of bodies that routes read themselves, and refer to by `#/components/schemas/NAME`.
    """
    describe = app.openapi

    def described() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = describe()
            _complete(document, has_login, bodies)
            for route in app.routes:
                if isinstance(route, APIRoute) and route.include_in_schema:
                    _give_examples(document["paths"][route.path_format], route)
        return describe()  # made once

    app.openapi = described  # type: ignore[method-assign]


def _complete(document: dict[str, Any], has_login: bool, bodies: Sequence[type[BaseModel]]) -> None:
    components = document["components"]
    _, shapes = models_json_schema(
        [(body, "validation") for body in bodies], ref_template="#/components/schemas/{model}"
    )
    components["schemas"].update(shapes.get("$defs", {}))
    components["securitySchemes"] = _SCHEMES
    components["headers"] = {"X-Request-ID": _NUMBER}
    credentials: list[dict[str, list[str]]] = [{name: []} for name in _SCHEMES]
    document["security"] = credentials if has_login else [{}, *credentials]
    for path, operation in _operations(document):
        if path in OPEN_PATHS:
            operation["security"] = [{}, *credentials]
        for answer in operation["responses"].values():
            answer.setdefault("headers", {})["X-Request-ID"] = {"$ref": "#/components/headers/X-Request-ID"}


def _give_examples(operations: dict[str, Any], route: APIRoute) -> None:
    """Give the answers of a route their examples as they are: FastAPI leaves out of them what is null."""
    for method, (status, answer) in itertools.product(route.methods or (), route.responses.items()):
        contents = operations[method.lower()]["responses"][str(status)].get("content", {})
        for kind, content in answer.get("content", {}).items():
            contents[kind].update({key: content[key] for key in ("example", "examples") if key in content})


def _operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, operations in document["paths"].items():
        for operation in operations.values():
            yield path, operation
