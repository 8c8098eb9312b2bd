from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

import serve
from medsharp.errors import InputError
from serve.security.settings import parse_auth
from serve.server import page_address


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org", ""])
def test_address_that_others_can_reach_needs_a_password(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MEDSHARP_AUTH", raising=False)
    with pytest.raises(InputError, match="--auth user:password"):
        serve.run("bundle", host=host, open_browser=False)


def test_password_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDSHARP_AUTH", "nocolon")
    with pytest.raises(InputError, match="user:password"):
        serve.run("bundle", open_browser=False)


def test_taken_port_is_named_with_another() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(InputError, match=rf"port {port} is taken; choose another, such as --port \d+"):
            serve.run("bundle", port=port, open_browser=False)


@pytest.mark.parametrize("port", [-1, 65536])
def test_impossible_port_is_refused(port: int) -> None:
    with pytest.raises(InputError, match="between 0 and 65535"):
        serve.run("bundle", port=port, open_browser=False)


def test_password_may_hold_colons_and_may_not_be_empty() -> None:
    assert parse_auth("ward:a:b") == ("ward", "a:b")
    assert parse_auth(("ward", "x")) == ("ward", "x")
    assert parse_auth(None) is None
    for wrong in ("ward", "ward:", ":x"):
        with pytest.raises(InputError):
            parse_auth(wrong)


def test_address_to_open_is_one_a_browser_understands() -> None:
    assert page_address("0.0.0.0", 80) == "http://127.0.0.1:80/"
    assert page_address("::1", 80) == "http://[::1]:80/"


@pytest.mark.skipif(os.name != "posix", reason="stops the server with a signal")
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_server_says_where_it_is_and_leaves_nothing_behind(bundle: Path, tmp_path: Path, how: signal.Signals) -> None:
    code = (
        "import functools, serve, sys; "
        "serve.run(sys.argv[1], port=0, open_browser=False, announce=functools.partial(print, flush=True))"
    )
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(bundle)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    assert process.stdout is not None
    address = process.stdout.readline().strip()
    try:
        assert address.startswith("http://127.0.0.1:"), process.stderr.read() if process.stderr else ""
        with urllib.request.urlopen(address + "healthz") as answer:
            assert answer.status == 200
    finally:
        process.send_signal(how)
        _, errors = process.communicate()
    assert process.returncode == (0 if how == signal.SIGINT else -signal.SIGTERM)
    assert "Traceback" not in errors
    assert not list(tmp_path.glob("medsharp-serve-*"))


def test_importing_serve_loads_neither_gradio_nor_torch() -> None:
    code = (
        "import serve, sys; print([m for m in ('gradio', 'torch', 'monai', 'timm', 'matplotlib') if m in sys.modules])"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert loaded.strip() == "[]"
