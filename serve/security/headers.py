"""The headers of every answer: what a browser may do with it, and which request it answers."""

from __future__ import annotations

from starlette.types import Message, Send

# The page itself needs inline scripts; what matters here is that a browser asks no other host for anything.
_CONTENT_POLICY = (
    "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; connect-src 'self' data: blob:; "
    "frame-ancestors 'self'; form-action 'self'; base-uri 'self'; object-src 'none'"
)
_HEADERS = {
    "content-security-policy": _CONTENT_POLICY,
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "SAMEORIGIN",
}

_SAME_FOR_ALL = ("/assets/", "/static/")
"""Paths of the page's scripts and styles, which a browser may keep; an answer shows a patient's image."""

_CORS = b"access-control-"
"""No page of another origin may read an answer; Gradio on its own would let it."""


def with_headers(send: Send, path: str, request_id: str) -> Send:
    """Add the headers to an answer that does not have them, and take away those that open it to other origins."""
    added = {**_HEADERS, "x-request-id": request_id}
    if not path.startswith(_SAME_FOR_ALL):
        added["cache-control"] = "no-store"

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            kept = [(k, v) for k, v in message.get("headers", []) if not k.lower().startswith(_CORS)]
            present = {name.lower() for name, _ in kept}
            new = [(k.encode(), v.encode()) for k, v in added.items() if k.encode() not in present]
            message = {**message, "headers": [*kept, *new]}
        await send(message)

    return sending
