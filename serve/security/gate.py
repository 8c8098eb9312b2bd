"""The door in front of both the API and the page: password, size of a request, and what is never handed out."""

from __future__ import annotations

import asyncio
import base64
import binascii
import secrets
from typing import Any

from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

NOTICE = "Not for diagnostic use."

# The page itself needs inline scripts; what matters here is that a browser asks no other host for anything.
_CONTENT_POLICY = (
    "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; connect-src 'self' data: blob:; "
    "frame-ancestors 'self'; form-action 'self'; base-uri 'self'; object-src 'none'"
)
_HEADERS = {
    "content-security-policy": _CONTENT_POLICY,
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}

# Everything that the page shows travels inside its answers, so no file of Gradio's folder need ever be served.
_NEVER_SERVED = ("/file=", "/file/", "/stream/", "/proxy=", "/deep_link", "/custom_component/", "/component_server")


class Gate:
    """ASGI middleware: HTTP basic authentication (but not on `/healthz`), limits of requests, refused routes, headers.

    Args:
        app: The application behind the door.
        auth: User and password that every request must give, or None for none.
        max_request_bytes: A request with a longer body is answered 413, whether or not it announces its length.
        body_seconds: A request whose body pauses for longer is answered 408.
    """

    def __init__(self, app: ASGIApp, auth: tuple[str, str] | None, max_request_bytes: int, body_seconds: float) -> None:
        self.app = app
        self._expected = None if auth is None else f"{auth[0]}:{auth[1]}".encode()
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
        send = _with_headers(send)
        headers = dict(scope["headers"])
        refusal = self._refusal(scope["path"], headers)
        if refusal is not None:
            await refusal(scope, receive, send)
        else:
            await self.app(scope, self._counted(receive), send)

    def _refusal(self, path: str, headers: dict[bytes, bytes]) -> JSONResponse | None:
        if self._expected is not None and path != "/healthz" and not self._is_authorized(headers):
            challenge = {"WWW-Authenticate": 'Basic realm="medsharp", charset="UTF-8"'}
            return refuse(401, "user and password are needed", challenge)
        if any(f"/gradio_api{route}" in path for route in _NEVER_SERVED):
            return refuse(404, "uploads are not handed out")
        length = headers.get(b"content-length", b"0")
        if length.isdigit() and int(length) > self._max_request_bytes:
            return refuse(413, self._too_large())
        return None

    def _is_authorized(self, headers: dict[bytes, bytes]) -> bool:
        scheme, _, token = headers.get(b"authorization", b"").partition(b" ")
        if scheme.lower() != b"basic":
            return False
        try:
            given = base64.b64decode(token.strip(), validate=True)
        except binascii.Error:
            return False
        # In constant time, so that the time of an answer says nothing about the password.
        return secrets.compare_digest(given, self._expected or b"")

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


def refuse(status: int, sentence: str, headers: dict[str, str] | None = None) -> JSONResponse:
    """Make the answer to a request that is not served: one sentence, and the notice that every answer carries."""
    return JSONResponse({"detail": sentence, "notice": NOTICE}, status, headers)


def megabytes(count: int) -> str:
    """Write a number of bytes as people read it, in MiB or KiB."""
    return f"{count / 2**20:.4g} MiB" if count >= 2**20 else f"{count / 2**10:.3g} KiB"


def _with_headers(send: Send) -> Send:
    async def sending(message: Any) -> None:
        if message["type"] == "http.response.start":
            present = {name.lower() for name, _ in message.get("headers", [])}
            added = [(k.encode(), v.encode()) for k, v in _HEADERS.items() if k.encode() not in present]
            message = {**message, "headers": [*message.get("headers", []), *added]}
        await send(message)

    return sending
