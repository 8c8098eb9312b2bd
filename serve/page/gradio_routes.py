"""What of Gradio is served: the routes that the page asks, and those for programs that call its event `assess`.

Gradio has others by the dozen, some of which write what they are sent to the disk, and a new version may bring more.
Whatever is not listed here is 404.
"""

from __future__ import annotations

from starlette.exceptions import HTTPException
from starlette.routing import compile_path
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.security.gate import announced_bytes, megabytes, refuse, route_path

SERVED = (
    ("GET", "/"),
    ("HEAD", "/"),
    ("GET", "/config"),
    ("GET", "/theme.css"),
    ("GET", "/favicon.ico"),
    ("GET", "/assets/{path:path}"),
    ("GET", "/static/{path:path}"),
    ("GET", "/gradio_api/info"),
    ("POST", "/gradio_api/queue/join"),
    ("GET", "/gradio_api/queue/data"),
    ("POST", "/gradio_api/run/{api_name}"),
    ("POST", "/gradio_api/call/{api_name}"),
    ("GET", "/gradio_api/call/{api_name}/{event_id}"),
)
"""Method and route, as Gradio writes it. Uploads and their progress are answered in its place; see `mount_page`."""

MOST_BYTES = 2**20
"""Of a body: JSON that names uploads, and is read while everybody else waits."""

_LONGEST_PATH = 300
"""No file of the page has a longer name, and a longer one may be more than a file's system takes."""

_TOO_LARGE = f"a question to the page has {megabytes(MOST_BYTES)} at most; send images to /v1/predict"


class ServedRoutes:
    """ASGI middleware of Gradio's application: routes that are not listed, and long bodies, do not come to it.

    Args:
        app: Gradio's application.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self._patterns = [(method, compile_path(route)[0]) for method, route in SERVED]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it: 404 for another route, 413 for a long body."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        path = route_path(scope)
        if len(path) > _LONGEST_PATH or not self._is_served(scope["method"], path):
            await refuse(404, "there is nothing here; /docs lists what there is", path=path)(scope, receive, send)
        elif announced_bytes(scope) > MOST_BYTES:
            await refuse(413, _TOO_LARGE, path=path)(scope, receive, send)
        else:
            await self.app(scope, _bounded(receive), send)

    def _is_served(self, method: str, path: str) -> bool:
        return any(method == served and pattern.fullmatch(path) for served, pattern in self._patterns)


def _bounded(receive: Receive) -> Receive:
    received = 0

    async def bounded() -> Message:
        nonlocal received
        message = await receive()
        received += len(message.get("body", b""))
        if received > MOST_BYTES:
            raise HTTPException(413, _TOO_LARGE)
        return message

    return bounded
