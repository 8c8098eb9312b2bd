"""What a proxy says of the client: believed of the proxies that were named, and dropped of anybody else."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

from starlette.types import ASGIApp, Receive, Scope, Send

from medsharp.errors import InputError

_FORWARDED = b"x-forwarded-"


def trusted_proxies(given: Sequence[str]) -> tuple[str, ...]:
    """Check the addresses and networks of proxies.

    Raises:
        InputError: One is neither.
    """
    for proxy in given:
        try:
            ipaddress.ip_network(proxy)
        except ValueError as error:
            raise InputError(
                f"--trusted-proxy {proxy}: give an address or a network, such as 127.0.0.1 or 10.0.0.0/8"
            ) from error
    return tuple(given)


class Forwarded:
    """ASGI middleware: takes client address, scheme and host from the headers of trusted proxies.

    Gradio reads such headers on its own, whoever sent them; so they are dropped where no trusted proxy did.

    Args:
        app: The application behind it.
        proxies: Their addresses and networks, see `trusted_proxies`.
    """

    def __init__(self, app: ASGIApp, proxies: Sequence[str]) -> None:
        from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

        self.app = app
        self._proxied = ProxyHeadersMiddleware(app, list(proxies))  # type: ignore[arg-type]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, as its client sent it to the proxy."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        client = scope.get("client")
        if client is not None and client[0] in self._proxied.trusted_hosts:
            scope = {**scope, "headers": _with_host(scope["headers"])}
            await self._proxied(scope, receive, send)  # type: ignore[arg-type]
        else:
            scope = {**scope, "headers": [pair for pair in scope["headers"] if not _is_forwarded(pair[0])]}
            await self.app(scope, receive, send)


def _is_forwarded(name: bytes) -> bool:
    return name.startswith(_FORWARDED) or name in (b"forwarded", b"x-real-ip")


def _with_host(headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Put the name that the client asked in place of the one that the proxy asked."""
    asked = [value for name, value in headers if name == b"x-forwarded-host"]
    if not asked:
        return headers
    return [*(pair for pair in headers if pair[0] != b"host"), (b"host", asked[0].split(b",")[0].strip())]
