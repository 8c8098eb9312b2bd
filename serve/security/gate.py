"""The door in front of both the API and the page: who is let in, how large a request may be and how slow."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
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
"""What an orchestrator asks, without a password, and is told no more than a status."""

LEAST_RATE = 64 * 2**10
"""Bytes in a second at which a body must arrive."""


class Gate:
    """ASGI middleware: names and origins, login (but not on `OPEN_PATHS`), limits of requests, headers.

    Each request that is let in has a `serve.security.Access` as its `request.state.who`.

    Args:
        app: The application behind the door.
        security: Who may ask, and by which names.
        max_request_bytes: A request with a longer body is answered 413, whether or not it announces its length.
        body_seconds: How long a client may fall behind `LEAST_RATE` with its body, in one pause or in many, before it
            is answered 408. Bytes that come faster make up for a pause before them and not for one behind them, lest a
            body that came but for its end be held for an hour.
        clock: Tells the time in seconds.
    """

    def __init__(
        self,
        app: ASGIApp,
        security: Security,
        max_request_bytes: int,
        body_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.app = app
        self._security = security
        self._max_request_bytes = max_request_bytes
        self._body_seconds = body_seconds
        self._clock = clock

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
                if announced_bytes(scope) > self._max_request_bytes:
                    refusal = refuse(413, self._too_large(), path=path)
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
        login, credential = self._security.login, headers.get("authorization")
        if login is None:
            return Access(address=address)
        if path in OPEN_PATHS and scope["method"] in ("GET", "HEAD"):
            # Who logs in is told more; who cannot is told as much as anybody, since a server that is up says so.
            try:
                return Access(address=address) if credential is None else await login.who(credential, address)
            except RefusedError:
                return Access(address=address)
        return await login.who(credential, address)

    def _too_large(self) -> str:
        return f"the request is larger than {megabytes(self._max_request_bytes)}; send fewer or smaller images"

    def _counted(self, receive: Receive) -> Receive:
        received = 0
        complete = False
        patience = self._body_seconds

        async def counted() -> Message:
            nonlocal received, complete, patience
            if complete:
                return await receive()  # Tells when the visitor leaves, which takes as long as it takes.
            begun = self._clock()
            try:
                async with asyncio.timeout(patience):
                    message = await receive()
            except TimeoutError as error:
                raise HTTPException(408, self._too_slow()) from error
            count = len(message.get("body", b""))
            received += count
            complete = not message.get("more_body", False)
            if received > self._max_request_bytes:
                raise HTTPException(413, self._too_large())
            # Only what the client takes is counted, not what the server does between two parts.
            patience = min(self._body_seconds, patience - (self._clock() - begun) + count / LEAST_RATE)
            if patience <= 0 and not complete:
                raise HTTPException(408, self._too_slow())
            return message

        return counted

    def _too_slow(self) -> str:
        late = f"{self._body_seconds:g} seconds"
        return f"the body is {late} behind one of {megabytes(LEAST_RATE)} a second; send it again"


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


def announced_bytes(scope: Scope) -> int:
    """Return the length that a request announces for its body; 0 where it announces none, or none that is a number."""
    length = Headers(scope=scope).get("content-length", "")
    # Python reads numbers of thousands of digits slowly or not at all.
    return int(length[:18]) if length.isascii() and length.isdigit() else 0


def route_path(scope: Scope) -> str:
    """Return the path of a request below the root path that a proxy serves the application at."""
    path: str = scope["path"]
    root: str = scope.get("root_path", "")
    return path.removeprefix(root) if root and path.startswith(root + "/") else path
