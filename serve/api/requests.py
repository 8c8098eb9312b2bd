"""Counts each request by the route that answered it and its status."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.metrics import Metrics

_OTHER = "(page)"
"""What is not a route of the API: the page, and paths that nobody has."""


class CountedRequests:
    """ASGI middleware that counts requests. A path is never a label: only routes are, of which there are few.

    Args:
        app: The application.
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

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                route = getattr(scope.get("route"), "path", "") or _OTHER
                method = scope["method"] if scope["method"] in _METHODS else "other"
                self._metrics.request(route, method, message["status"])
            await send(message)

        await self.app(scope, receive, counted)


_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
