"""Running the application: which address, who may reach it, and the browser."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import socket
import sys
import threading
import webbrowser
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from medsharp.errors import InputError

if TYPE_CHECKING:
    from medsharp.inference import Predictor
    from serve.engine import Batching
    from serve.uploads import Limits

AUTH_VARIABLE = "MEDSHARP_AUTH"


def run(
    bundles: str | Path | Predictor | Sequence[str | Path | Predictor],
    *,
    host: str = "127.0.0.1",
    port: int = 7860,
    auth: tuple[str, str] | str | None = None,
    open_browser: bool = True,
    announce: Callable[[str], None] | None = None,
    limits: Limits | None = None,
    batching: Batching | None = None,
    load: Callable[[Path], Predictor] | None = None,
) -> None:
    """Serve bundles until interrupted; what is inside is finished then. SIGHUP loads them again.

    Args:
        bundles: Folders of bundles, or predictors that have loaded them; the first is the default.
        host: Address to listen at. Any but the machine's own needs `auth`.
        port: TCP port; 0 takes a free one.
        auth: User and password, as a pair or as `user:password`; otherwise from the environment's `MEDSHARP_AUTH`.
        open_browser: Show the page in the default browser, where there is a screen.
        announce: Called with the page's address once it can be reached.
        limits: How much requests may bring, how many may wait and how long.
        batching: How images are gathered for the network; by default as measured for its device.
        load: Loads a bundle from its folder; as `Predictor.load` does by default.

    Raises:
        InputError: A bundle is damaged, two have one name, the address cannot be used, the port is taken, or the host
            can be reached from other machines and there is no password.
    """
    pair = parse_auth(auth or os.environ.get(AUTH_VARIABLE))
    if pair is None and not is_loopback(host):
        raise InputError(
            f"{host} can be reached from other machines, so a password is needed: "
            f"give --auth user:password or set {AUTH_VARIABLE}"
        )
    listening = listen(host, port)
    with listening:
        from serve.app import create_app

        app = create_app(bundles, auth=pair, limits=limits, batching=batching, load=load)
        import uvicorn

        from serve.graceful import GracefulServer

        # No access log: the addresses and requests of visitors are nobody's business. An open page holds a
        # connection for as long as it is open, so stopping does not wait for that.
        config = uvicorn.Config(
            app, log_level="warning", access_log=False, server_header=False, timeout_graceful_shutdown=2
        )
        address = page_address(host, listening.getsockname()[1])
        if announce is not None:
            announce(address)
        if open_browser and _has_screen():
            threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()
        # Ctrl-C is how one stops a server, and no error.
        with contextlib.suppress(KeyboardInterrupt):
            GracefulServer(app, config).run(sockets=[listening])


def parse_auth(auth: tuple[str, str] | str | None) -> tuple[str, str] | None:
    """Split `user:password`; the password may hold colons.

    Raises:
        InputError: There is no colon, or the user or the password is empty.
    """
    if not auth:
        return None
    user, _, password = auth.partition(":") if isinstance(auth, str) else (auth[0], ":", auth[1])
    if not user or not password or ":" in user:
        raise InputError("the authentication must be user:password, with neither of them empty")
    return user, password


def is_loopback(host: str) -> bool:
    """Say whether only this machine can reach `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def listen(host: str, port: int) -> socket.socket:
    """Open the listening socket, so that a taken port is known before anything is loaded.

    Raises:
        InputError: The port is taken or out of range, or the host is not an address of this machine.
    """
    if not 0 <= port <= 65535:
        raise InputError(f"port {port} is not between 0 and 65535")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (socket.gaierror, UnicodeError) as error:
        raise InputError(f"{host} is not an address of this machine; use 127.0.0.1") from error
    listening = socket.socket(family, kind, protocol)
    try:
        if os.name == "posix":
            # On Windows the same option would let two servers share the port.
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(128)
    except OSError as error:
        listening.close()
        raise InputError(_listen_error(host, port, error)) from error
    return listening


def _listen_error(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} is taken; choose another, such as --port {port + 1 if port < 65535 else 7860}"
    if error.errno == errno.EACCES:
        return f"port {port} is reserved for the system; choose one above 1023, such as --port 7860"
    return f"cannot listen at {host} port {port}: {error.strerror or error}"


def page_address(host: str, port: int) -> str:
    """Return the address to type into a browser on this machine."""
    if host in ("0.0.0.0", "::", ""):
        host = "127.0.0.1" if host != "::" else "::1"
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


def _has_screen() -> bool:
    if sys.platform.startswith("linux"):
        return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
    return True
