"""Running the application: which address, who may reach it, and the browser."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import socket
import ssl
import sys
import threading
import webbrowser
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medsharp.errors import InputError
from serve.security.crashes import quiet_logging
from serve.security.settings import secure

if TYPE_CHECKING:
    from medsharp.inference import Predictor
    from serve.engine import Batching
    from serve.uploads import Limits


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
    certificate: str | Path | None = None,
    private_key: str | Path | None = None,
    root_path: str = "",
    **secured: Any,
) -> None:
    """Serve bundles until interrupted; what is inside is finished then. SIGHUP loads them again.

    Args:
        bundles: Folders of bundles, or predictors that have loaded them; the first is the default.
        host: Address to listen at. Any but the machine's own needs somebody who may log in.
        port: TCP port; 0 takes a free one.
        auth: User and password, as a pair or as `user:password`; otherwise from the environment's `MEDSHARP_AUTH`.
        open_browser: Show the page in the default browser, where there is a screen.
        announce: Called with the page's address once it can be reached.
        limits: How much requests may bring, how many may wait and how long.
        batching: How images are gathered for the network; by default as measured for its device.
        load: Loads a bundle from its folder; as `Predictor.load` does by default.
        certificate: PEM file of the certificate, and what leads to its authority; with it the server speaks TLS.
        private_key: PEM file of its key, where that is not in the same file.
        root_path: Path below which a proxy serves this one; the proxy takes it off.
        secured: The other settings of `serve.security.settings.secure`.

    Raises:
        InputError: A bundle is damaged, two have one name, the address cannot be used, the port is taken, the
            certificate cannot be used, or a setting of `secure` is wrong.
    """
    security = secure(host, auth=auth, **secured)
    check_certificate(certificate, private_key)
    root_path = check_root_path(root_path)
    listening = listen(host, port)
    from serve.graceful import GracefulServer, hangup_noted

    with listening, hangup_noted() as hangup:
        from serve.app import create_app

        quiet_logging()
        app = create_app(bundles, limits=limits, batching=batching, load=load, security=security)
        import uvicorn

        # No access log: the addresses and requests of visitors are nobody's business. An open page holds a
        # connection for as long as it is open, so stopping does not wait for that. The application itself says whose
        # proxy headers it takes. What reads requests is named, as uvicorn takes others where packages for them are
        # installed, such as Ray's.
        config = uvicorn.Config(
            app,
            loop="asyncio",
            http="h11",
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=2,
            proxy_headers=False,
            root_path=root_path,
            ssl_certfile=certificate,
            ssl_keyfile=private_key,
        )
        address = page_address(host, listening.getsockname()[1], certificate is not None)
        if announce is not None:
            announce(address)
        if open_browser and _has_screen():
            threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()
        # Ctrl-C is how one stops a server, and no error.
        with contextlib.suppress(KeyboardInterrupt):
            GracefulServer(app, config, hangup=hangup).run(sockets=[listening])


def check_certificate(certificate: str | Path | None, private_key: str | Path | None) -> None:
    """Check that a certificate and its key can be read and belong together.

    Raises:
        InputError: They cannot or do not, or there is a key without a certificate.
    """
    if certificate is None:
        if private_key is not None:
            raise InputError("--keyfile is of no use without --certfile")
        return
    for path in (certificate, private_key or certificate):
        try:
            Path(path).read_bytes()
        except OSError as error:
            raise InputError(f"cannot read {path}: {error.strerror}") from error

    def ask_nobody() -> str:
        raise InputError(f"the key in {private_key or certificate} is encrypted; the server needs one that is not")

    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, private_key, ask_nobody)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise InputError(f"the key in {private_key} is not that of the certificate in {certificate}") from error
        files = certificate if private_key is None else f"{certificate} and {private_key}"
        raise InputError(f"{files}: this is no certificate with its private key, in PEM") from error


def check_root_path(path: str) -> str:
    """Return a root path without the slash at its end.

    Raises:
        InputError: It does not begin with a slash, or has characters that a path of an address may not have.
    """
    if path.strip("/") and not re.fullmatch(r"(/[A-Za-z0-9._~-]+)+/?", path):
        raise InputError(f"--root-path {path}: give a path such as /medsharp")
    return path.rstrip("/")


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


def page_address(host: str, port: int, is_encrypted: bool = False) -> str:
    """Return the address to type into a browser on this machine."""
    if host in ("0.0.0.0", "::", ""):
        host = "127.0.0.1" if host != "::" else "::1"
    scheme = "https" if is_encrypted else "http"
    return f"{scheme}://[{host}]:{port}/" if ":" in host else f"{scheme}://{host}:{port}/"


def _has_screen() -> bool:
    if sys.platform.startswith("linux"):
        return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
    return True
