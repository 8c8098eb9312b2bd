"""Counts each request by the route that answered it and its status."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.metrics import Metrics

_OTHER = "(other)"
"""What no route answered: refused at the door, or a path that nobody has."""

_KEY = "medsharp.route"
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class CountedRequests:
    """ASGI middleware that counts requests. A path is never a label: only routes are, of which there are few.

    Args:
        app: The application, with `NotedRoutes` as its innermost middleware.
        metrics: Counts.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and count its answer."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        noted: list[str] = []

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                route = noted[-1] if noted else _OTHER
                method = scope["method"] if scope["method"] in _METHODS else "other"
                self._metrics.request(route, method, message["status"])
            await send(message)

        await self.app({**scope, _KEY: noted}, receive, counted)


def note_route(scope: Scope, route: str) -> None:
    """Tell `CountedRequests` which route a request is of, where it is answered before it comes there."""
    if _KEY in scope:
        scope[_KEY].append(route)


class NotedRoutes:
    """ASGI middleware that tells `CountedRequests` which route answers: what is between them may copy the scope.

    Args:
        app: The application.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and note its route when it is answered."""

        async def noting(message: Message) -> None:
            route = getattr(scope.get("route"), "path", "")
            if message["type"] == "http.response.start" and route:
                scope[_KEY].append(route)
            await send(message)

        await self.app(scope, receive, noting if _KEY in scope else send)
