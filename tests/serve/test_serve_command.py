"""Each option of `medsharp serve` reaches the server, through the command."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import shutil
import signal
import ssl
import stat
import subprocess
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import pytest
from typer.testing import CliRunner

from medsharp.cli import app

if TYPE_CHECKING:
    from tests.serve.conftest import RunningServer

KEY = "0123456789abcdef0123456789abcdef"


def medsharp(*arguments: object, stdin: str | None = None) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], input=stdin, env={"COLUMNS": "200"})
    return result.exit_code, result.stdout, " ".join(result.stderr.split())


@dataclass
class Answer:
    status: int
    headers: Any
    body: bytes


def send(
    server: RunningServer,
    path: str = "model",
    data: bytes | None = None,
    certificate: Path | None = None,
    **headers: str,
) -> Answer:
    context = None if certificate is None else ssl.create_default_context(cafile=str(certificate))
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(server.address + path, data, named)
    try:
        with urllib.request.urlopen(request, context=context) as answer:
            return Answer(answer.status, answer.headers, answer.read())
    except urllib.error.HTTPError as error:
        return Answer(error.code, error.headers, error.read())


def form(*files: tuple[str, bytes]) -> tuple[bytes, str]:
    boundary = uuid.uuid4().hex
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n\r\n'.encode()
        + content
        + b"\r\n"
        for name, content in files
    ]
    return b"".join(parts) + f"--{boundary}--\r\n".encode(), f"multipart/form-data; boundary={boundary}"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """A certificate for localhost and 127.0.0.1, its key, and the key of another one."""
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl, to make a certificate")
    folder = tmp_path_factory.mktemp("tls")
    made = [folder / name for name in ("certificate.pem", "key.pem", "other.pem")]
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-days", "2"]
    for certificate, private in ((made[0], made[1]), (folder / "unused.pem", made[2])):
        subprocess.run(
            [
                "openssl",
                "req",
                "-x509",
                "-newkey",
                "rsa:2048",
                "-nodes",
                *subject,
                "-keyout",
                private,
                "-out",
                certificate,
            ],
            check=True,
            capture_output=True,
        )
    return made[0], made[1], made[2]


@dataclass
class Ward:
    server: RunningServer
    certificate: Path
    key: str
    access: Path
    audit: Path
    audit_key: Path


@pytest.fixture(scope="module")
def ward(
    serve_command: Callable[..., RunningServer],
    certificates: tuple[Path, Path, Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Ward]:
    """One server with all options of a ward's network at once."""
    folder = tmp_path_factory.mktemp("ward")
    access, audit, audit_key = folder / "access", folder / "audit.jsonl", folder / "audit.key"
    code, key, _ = medsharp("access", "key", "pacs", "--file", access)
    assert code == 0
    assert medsharp("access", "user", "anna", "--file", access, stdin="correct horse\n")[0] == 0
    audit_key.write_text(KEY + "\n")
    server = serve_command(
        *("--access", access, "--audit-log", audit, "--audit-key", audit_key, "--audit-addresses"),
        *("--certfile", certificates[0], "--keyfile", certificates[1]),
        *("--root-path", "/medsharp/", "--allowed-host", "ward.example.org", "--trusted-proxy", "127.0.0.1"),
        *("--deadline", "300", "--waiting", "5", "--max-wait", "0", "--max-batch", "2"),
    )
    yield Ward(server, certificates[0], key.strip(), access, audit, audit_key)
    assert "Traceback" not in server.stop()


def test_command_speaks_tls_and_asks_for_a_key(ward: Ward) -> None:
    assert ward.server.address.startswith("https://127.0.0.1:")
    assert send(ward.server, "healthz", certificate=ward.certificate).status == 200
    assert send(ward.server, certificate=ward.certificate).status == 401
    answer = send(ward.server, certificate=ward.certificate, Authorization=f"Bearer {ward.key}")
    assert answer.status == 200
    assert json.loads(answer.body)["classes"]
    with pytest.raises(urllib.error.URLError, match="certificate verify failed"):
        send(ward.server, certificate=None)


def test_command_takes_users_and_their_password(ward: Ward) -> None:
    import base64

    token = base64.b64encode(b"anna:correct horse").decode()
    assert send(ward.server, certificate=ward.certificate, Authorization=f"Basic {token}").status == 200
    wrong = base64.b64encode(b"anna:correct house").decode()
    assert send(ward.server, certificate=ward.certificate, Authorization=f"Basic {wrong}").status == 401


def test_command_answers_to_the_names_that_it_was_given(ward: Ward) -> None:
    key = {"Authorization": f"Bearer {ward.key}"}
    for host, status in (("ward.example.org", 200), ("localhost:1", 200), ("other.example.org", 421)):
        assert send(ward.server, certificate=ward.certificate, Host=host, **key).status == status
    # A trusted proxy's word is taken.
    answer = send(ward.server, certificate=ward.certificate, X_Forwarded_Host="other.example.org", **key)
    assert answer.status == 421


def test_command_lives_below_its_root_path(ward: Ward) -> None:
    key = {"Authorization": f"Bearer {ward.key}"}
    page = send(ward.server, "", certificate=ward.certificate, **key).body.decode()
    assert "/medsharp" in page
    config = json.loads(send(ward.server, "config", certificate=ward.certificate, **key).body)
    assert config["root"].endswith("/medsharp")


def test_command_writes_who_was_told_what_of_which_image(ward: Ward, png: bytes) -> None:
    body, kind = form(("Doe_Jane.png", png), ("Doe_John.png", b"words"))
    number = uuid.uuid4().hex
    answer = send(
        ward.server,
        "v1/predict",
        body,
        ward.certificate,
        Authorization=f"Bearer {ward.key}",
        Content_Type=kind,
        X_Request_ID=number,
        X_Forwarded_For="192.0.2.55",
    )
    assert answer.status == 200
    assert answer.headers["x-request-id"] == number
    said = json.loads(answer.body)
    text = ward.audit.read_text()
    first, second = [entry for entry in map(json.loads, text.splitlines()) if entry["request"] == number]
    assert (first["who"], first["by"], first["address"]) == ("pacs", "key", "192.0.2.55")
    for entry, content in ((first, png), (second, b"words")):
        assert entry["input"] == f"hmac-sha256:{hmac.new(KEY.encode(), content, hashlib.sha256).hexdigest()}"
    assert first["probability"] == said[0]["positive_probability"]
    assert (first["side"], first["status"], first["checks"]) == (said[0]["side"], said[0]["status"], said[0]["checks"])
    assert first["model_sha256"] == said[0]["digest"]
    assert (second["status"], second["probability"]) == ("failed", None)
    assert "Doe" not in text
    assert stat.S_IMODE(ward.audit.stat().st_mode) == 0o600


def test_key_that_is_removed_is_let_in_no_longer(ward: Ward) -> None:
    _, key, _ = medsharp("access", "key", "passing", "--file", ward.access)

    def becomes(status: int) -> bool:
        # The file is looked at once a second; and who fails too often meanwhile would have to wait.
        for _ in range(60):
            answer = send(ward.server, certificate=ward.certificate, Authorization=f"Bearer {key.strip()}")
            if answer.status == status:
                return True
            time.sleep(float(answer.headers.get("Retry-After", 1)))
        return False

    assert becomes(200), "a key that was added is not let in"
    assert medsharp("access", "remove", "passing", "--file", ward.access)[0] == 0
    assert becomes(401), "a key that was removed is let in"


def test_settings_come_from_the_environment_too(
    serve_command: Callable[..., RunningServer], tmp_path: Path, png: bytes
) -> None:
    access = tmp_path / "access"
    _, key, _ = medsharp("access", "key", "file", "--file", access)
    server = serve_command(
        MEDSHARP_AUTH="ward:s3:cret",
        MEDSHARP_API_KEYS="one.0123456789abcdef two.0123456789abcdef",
        MEDSHARP_ACCESS=str(access),
        # Where nobody can write, root neither: nothing but the folder for temporary files is needed.
        HOME="/proc/nowhere",
        XDG_CACHE_HOME="/proc/nowhere/cache",
    )
    body, kind = form(("a.png", png))
    token = "Bearer one.0123456789abcdef"
    assert send(server, "v1/predict?heatmap=1", body, Authorization=token, Content_Type=kind).status == 200
    assert send(server, "", Authorization=token).status == 200
    assert send(server).status == 401
    for token in ("one.0123456789abcdef", "two.0123456789abcdef", key.strip()):
        assert send(server, Authorization=f"Bearer {token}").status == 200
    assert send(server, Authorization="Basic d2FyZDpzMzpjcmV0").status == 200
    # Nobody's word on the client is taken, so that all of these are one address.
    statuses = [
        send(server, Authorization="Basic d2FyZDp3cm9uZw==", X_Forwarded_For=f"192.0.2.{n}").status for n in range(6)
    ]
    assert statuses == [401] * 5 + [429]


def refused(*arguments: object) -> str:
    with mock.patch("serve.server.listen", side_effect=AssertionError("it began to listen")):
        code, _, sentence = medsharp("serve", "--no-browser", *arguments)
    assert code == 2
    assert sentence.startswith("error: ")
    return sentence


def test_wrong_certificates_are_one_sentence(certificates: tuple[Path, Path, Path], tmp_path: Path) -> None:
    certificate, key, other = certificates
    assert "is not that of the certificate" in refused("--certfile", certificate, "--keyfile", other)
    assert "no certificate with its private key" in refused("--certfile", certificate)
    assert "no certificate with its private key" in refused("--certfile", key, "--keyfile", certificate)
    assert f"cannot read {tmp_path / 'no.pem'}" in refused("--certfile", tmp_path / "no.pem")
    assert "of no use without --certfile" in refused("--keyfile", key)
    secret = tmp_path / "secret.pem"
    subprocess.run(
        ["openssl", "rsa", "-aes256", "-passout", "pass:x", "-in", key, "-out", secret], check=True, capture_output=True
    )
    assert "is encrypted" in refused("--certfile", certificate, "--keyfile", secret)


def test_wrong_settings_are_one_sentence(tmp_path: Path) -> None:
    assert "a password is needed" in refused("--host", "0.0.0.0")
    assert "user:password" in refused("--auth", "ward")
    assert "cannot read the accounts" in refused("--access", tmp_path / "missing")
    assert "--audit-log" in refused("--audit-addresses")
    assert "--audit-log" in refused("--audit-key", tmp_path / "key")
    assert "cannot write the audit log" in refused("--audit-log", tmp_path / "missing" / "log")
    (tmp_path / "key").write_text("short")
    assert "5 bytes" in refused("--audit-log", tmp_path / "log", "--audit-key", tmp_path / "key")
    assert "cannot read the key" in refused("--audit-log", tmp_path / "log", "--audit-key", tmp_path / "no")
    for proxy in ("*", "proxy.example.org", "10.0.0.1/8"):
        assert "--trusted-proxy" in refused("--trusted-proxy", proxy)
    for host in ("https://ward.example.org", "ward:443", "a b", "", "*"):
        assert "--allowed-host" in refused("--allowed-host", host)
    for path in ("medsharp", "/a b", "/a//b", "/a?b"):
        assert "--root-path" in refused("--root-path", path)


def test_wrong_keys_in_the_environment_are_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDSHARP_API_KEYS", "pacs.short")
    sentence = refused()
    assert "MEDSHARP_API_KEYS" in sentence
    assert "5 characters" in sentence


def test_help_is_readable_in_a_terminal_of_eighty_columns() -> None:
    result = CliRunner().invoke(app, ["serve", "--help"], env={"COLUMNS": "80"})
    lines = result.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert len(lines) < 100
    for panel in ("Under load", "Who may ask", "What is written of it", "On a network", "On Ray"):
        assert any(panel in line for line in lines), panel


def test_access_commands_change_and_list_a_file(tmp_path: Path) -> None:
    path = tmp_path / "access"
    code, key, beside = medsharp("access", "key", "pacs", "--file", path)
    assert code == 0
    assert key.strip().startswith("pacs.")
    assert len(key.split()) == 1
    assert "the only time" in beside
    assert medsharp("access", "user", "anna", "--file", path, stdin="long enough\n")[0] == 0
    assert medsharp("access", "list", "--file", path)[1] == "key pacs\nuser anna\n"
    assert "replaced" in medsharp("access", "key", "pacs", "--file", path)[2]
    assert "removed the user anna" in medsharp("access", "remove", "anna", "--file", path)[1]
    before = path.read_text()
    for arguments, stdin, words in (
        (("user", "anna"), "short\n", "5 characters"),
        (("user", "an na"), "long enough\n", "user:password"),
        (("key", "pa.cs"), None, "letters, digits"),
        (("remove", "pac"), None, "did you mean pacs?"),
    ):
        code, _, sentence = medsharp("access", *arguments, "--file", path, stdin=stdin)
        assert code == 2
        assert words in sentence
    assert path.read_text() == before
    assert "cannot read the accounts" in medsharp("access", "list", "--file", tmp_path / "no")[2]


HELD = """
import os, time
from medsharp.inference import Predictor

predict = Predictor.predict_readings

def held(self, read):
    while not os.path.exists(os.environ["GO"]):
        time.sleep(0.02)
    return predict(self, read)

Predictor.predict_readings = held
"""
LONGER_THAN_UVICORN = 2.5
"""Seconds; it waits two for what is not answered, and then gives it up."""


@pytest.mark.skipif(os.name != "posix", reason="stops the server with a signal")
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_requests_that_are_inside_when_a_signal_comes_are_all_answered(
    serve_command: Callable[..., RunningServer], png: bytes, tmp_path: Path, how: signal.Signals
) -> None:
    """The network answers nothing before the server is stopping, so that all of them are inside then."""
    server = serve_command(before=HELD, GO=str(tmp_path / "go"))
    body, kind = form(("a.png", png), ("b.png", png))

    def ask(number: int) -> tuple[int, int]:
        path = "v1/predict?heatmap=1" if number % 2 else "v1/predict"
        answer = send(server, path, body, Content_Type=kind)
        return answer.status, len(json.loads(answer.body))

    def inside() -> bool:
        return b"medsharp_requests_inside 8.0" in send(server, "metrics").body

    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(ask, number) for number in range(8)]
        end = time.monotonic() + 60
        while not inside():
            assert time.monotonic() < end
            time.sleep(0.02)
        server.process.send_signal(how)
        while send(server, "readyz").status == 200:
            time.sleep(0.02)
        time.sleep(LONGER_THAN_UVICORN)
        (tmp_path / "go").touch()
        assert [one.result() for one in asked] == [(200, 2)] * 8
    server.process.wait(60)
    assert "Traceback" not in server.said()
    assert server.files() == []
