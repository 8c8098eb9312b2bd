"""What is wrong with a request, in one sentence and with the right status; methods that a path does not have."""

from __future__ import annotations

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from medsharp.errors import InputError
from serve.api.inference_protocol.tensors import ProtocolError
from serve.engine import BusyError, DeadlineError
from serve.security.audit import AuditError
from serve.security.crashes import log_fault
from serve.security.gate import refuse, route_path

_GONE = 499
"""Status of an answer that nobody receives, since the client has left."""


def add_refusals(app: FastAPI) -> None:
    """Say what is wrong with a request in one sentence, and refuse methods that a path does not have.

    The page is mounted at `/`, and would answer these 404. Routes that are added later are not looked at.
    """
    allowed: dict[str, set[str]] = {}
    for route in app.routes:
        if isinstance(route, Route):
            allowed.setdefault(route.path, set()).update(route.methods or ())
    app.router.routes += [Route(path, _OtherMethod(methods)) for path, methods in allowed.items()]

    @app.exception_handler(HTTPException)
    async def explain(request: Request, error: HTTPException) -> JSONResponse:
        return _refusal(request, error.status_code, str(error.detail), dict(error.headers or {}))

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        return _refusal(request, 422, f"{'.'.join(str(part) for part in first['loc'][1:])}: {first['msg']}")

    @app.exception_handler(InputError)
    async def wrong(request: Request, error: InputError) -> JSONResponse:
        return _refusal(request, 422, str(error))

    @app.exception_handler(ProtocolError)
    async def unlike_protocol(request: Request, error: ProtocolError) -> JSONResponse:
        return _refusal(request, 400, str(error))

    @app.exception_handler(BusyError)
    async def busy(request: Request, error: BusyError) -> JSONResponse:
        return _refusal(request, error.status, str(error), dict(error.headers))

    @app.exception_handler(DeadlineError)
    async def late(request: Request, error: DeadlineError) -> JSONResponse:
        return _refusal(request, 504, str(error))

    @app.exception_handler(AuditError)
    async def unrecorded(request: Request, error: AuditError) -> JSONResponse:
        return _refusal(request, 503, str(error))

    @app.exception_handler(ClientDisconnect)
    async def gone(request: Request, error: ClientDisconnect) -> Response:
        return Response(status_code=_GONE)


def _refusal(request: Request, status: int, sentence: str, headers: dict[str, str] | None = None) -> JSONResponse:
    return refuse(status, sentence, headers, path=route_path(request.scope))


class Faults:
    """ASGI middleware: a fault of the server ends its own request alone, and its log quotes nothing of the request.

    Left to Starlette, the message of what was raised would be logged, with whatever it quotes.

    Args:
        app: The application.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and answer 500 where that fails."""
        begun = False

        async def sending(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self.app(scope, receive, sending)
        except Exception as error:
            if scope["type"] != "http":
                raise
            who = scope.get("state", {}).get("who")
            number = "" if who is None else f" {who.request_id}"
            log_fault(f"the request{number} could not be answered", error)
            if not begun:
                sentence = f"the server failed at this request ({type(error).__name__}); its log says where"
                await refuse(500, sentence, path=route_path(scope))(scope, receive, send)


class _OtherMethod:
    """ASGI application that answers a request with a method that its path does not have."""

    def __init__(self, methods: set[str]) -> None:
        self._allowed = ", ".join(sorted(methods))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        sentence = f"{scope['path']} takes {self._allowed}, not {scope['method']}; /docs says how"
        refusal = refuse(405, sentence, {"Allow": self._allowed}, path=route_path(scope))
        await refusal(scope, receive, send)
