"""The door in front of both the API and the page: who is let in, how large a request may be, what is never given."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.security.access import Access, request_id
from serve.security.headers import with_headers
from serve.security.hosts import is_foreign, is_known_host
from serve.security.login import RefusedError
from serve.security.settings import Security

NOTICE = "Not for diagnostic use."

_LONGEST_SENTENCE = 1000

OPEN_PATHS = frozenset({"/healthz", "/readyz"})
"""What an orchestrator asks, without a password, and what says nothing of anybody."""

# Everything that the page shows travels inside its answers, so no file of Gradio's folder need ever be served.
_NEVER_SERVED = ("/file=", "/file/", "/stream/", "/proxy=", "/deep_link", "/custom_component/", "/component_server")


class Gate:
    """ASGI middleware: names and origins, login (but not on `OPEN_PATHS`), limits of requests, refused routes, headers.

    Each request that is let in has a `serve.security.Access` as its `request.state.who`.

    Args:
        app: The application behind the door.
        security: Who may ask, and by which names.
        max_request_bytes: A request with a longer body is answered 413, whether or not it announces its length.
        body_seconds: A request whose body pauses for longer is answered 408.
    """

    def __init__(self, app: ASGIApp, security: Security, max_request_bytes: int, body_seconds: float) -> None:
        self.app = app
        self._security = security
        self._max_request_bytes = max_request_bytes
        self._body_seconds = body_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer refused requests here, and pass on the others."""
        if scope["type"] != "http":
            # Nothing here speaks over a websocket, so there is none to let past the password.
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            else:
                await send({"type": "websocket.close", "code": 1008})
            return
        headers = Headers(scope=scope)
        path = route_path(scope)
        number = request_id(headers.get("x-request-id"))
        answering = with_headers(send, path, number)
        refusal = self._refused_sender(scope, headers, path)
        if refusal is None:
            try:
                who = await self._who(scope, headers, path)
            except RefusedError as error:
                refusal = refuse(error.status, str(error), error.headers, path=path)
            else:
                # A copy, since connections share what was there before.
                scope = {**scope, "state": {**scope.get("state", {}), "who": replace(who, request_id=number)}}
                refusal = self._refused_route(path, headers)
        if refusal is not None:
            await refusal(scope, receive, answering)
        else:
            await self.app(scope, self._counted(receive), answering)

    def _refused_sender(self, scope: Scope, headers: Headers, path: str) -> JSONResponse | None:
        """Refuse what comes by an unknown name, or from a page of another origin."""
        names = self._security.hosts
        host = headers.get("host")
        if names is not None and not is_known_host(host, names):
            return refuse(421, "this server is not asked by that name; --allowed-host lets it be", path=path)
        origin, site = headers.get("origin"), headers.get("sec-fetch-site")
        if is_foreign(scope["method"], scope.get("scheme", "http"), host, origin, site, names or frozenset()):
            return refuse(403, "a page of another origin may not send this", path=path)
        return None

    async def _who(self, scope: Scope, headers: Headers, path: str) -> Access:
        client = scope.get("client")
        address = None if client is None else client[0]
        login = self._security.login
        if login is None or (path in OPEN_PATHS and scope["method"] in ("GET", "HEAD")):
            return Access(address=address)
        return await login.who(headers.get("authorization"), address)

    def _refused_route(self, path: str, headers: Headers) -> JSONResponse | None:
        if any(f"/gradio_api{route}" in path for route in _NEVER_SERVED):
            return refuse(404, "uploads are not handed out", path=path)
        length = headers.get("content-length", "0")
        if length.isdigit() and int(length) > self._max_request_bytes:
            return refuse(413, self._too_large(), path=path)
        return None

    def _too_large(self) -> str:
        return f"the request is larger than {megabytes(self._max_request_bytes)}; send fewer or smaller images"

    def _counted(self, receive: Receive) -> Receive:
        received = 0
        complete = False

        async def counted() -> Message:
            nonlocal received, complete
            if complete:
                return await receive()  # Tells when the visitor leaves, which takes as long as it takes.
            try:
                async with asyncio.timeout(self._body_seconds):
                    message = await receive()
            except TimeoutError as error:
                raise HTTPException(408, f"nothing came for {self._body_seconds:g} seconds; send it again") from error
            received += len(message.get("body", b""))
            complete = not message.get("more_body", False)
            if received > self._max_request_bytes:
                raise HTTPException(413, self._too_large())
            return message

        return counted


def refuse(
    status: int,
    sentence: str,
    headers: dict[str, str] | Sequence[tuple[str, str]] | None = None,
    *,
    path: str,
) -> JSONResponse:
    """Make the answer to a request that is not served: one sentence, and the notice that every answer carries.

    Args:
        status: Of it.
        sentence: What is wrong; it may repeat what a client has written, of which no more than a part is sent.
        headers: That go with it.
        path: Of the request; see `route_path`. Below `/v2` the sentence is where the Open Inference Protocol has it.
    """
    if len(sentence) > _LONGEST_SENTENCE:
        sentence = sentence[:_LONGEST_SENTENCE] + "…"
    # JSON can hold half a pair of surrogates, which no encoding can.
    said = sentence.encode("utf-8", "replace").decode()
    is_protocol = path == "/v2" or path.startswith("/v2/")
    response = JSONResponse({"error" if is_protocol else "detail": said, "notice": NOTICE}, status)
    for name, value in headers.items() if isinstance(headers, dict) else headers or ():
        response.headers.append(name, value)
    return response


def megabytes(count: int) -> str:
    """Write a number of bytes as people read it, in MiB or KiB."""
    return f"{count / 2**20:.4g} MiB" if count >= 2**20 else f"{count / 2**10:.3g} KiB"


def route_path(scope: Scope) -> str:
    """Return the path of a request below the root path that a proxy serves the application at."""
    path: str = scope["path"]
    root: str = scope.get("root_path", "")
    return path.removeprefix(root) if root and path.startswith(root + "/") else path
