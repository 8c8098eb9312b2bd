"""`medsharp serve --ray`: replicas answer as one process does, a killed one is replaced, and nothing stays behind."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from fastapi.testclient import TestClient
from typer.testing import CliRunner

from medsharp.cli import app

if TYPE_CHECKING:
    from tests.serve.conftest import RunningServer

pytest.importorskip("ray")
pytest.importorskip("grpc")

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of Ray, of its own settings

KEY = "tests.0123456789abcdef0123456789abcdef"


def ask(
    server: RunningServer, path: str, data: bytes | None = None, key: str | None = KEY, **headers: str
) -> tuple[int, Any]:
    """Send a request, to a connection of its own; return the status, and JSON or text."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    if key is not None:
        named["Authorization"] = f"Bearer {key}"
    try:
        with urllib.request.urlopen(urllib.request.Request(server.address + path, data, named), timeout=120) as answer:
            status, body = answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            status, body = error.code, error.read()
    try:
        return status, json.loads(body)
    except ValueError:
        return status, body.decode()


def assess(server: RunningServer, png: bytes, **headers: str) -> tuple[int, Any]:
    return ask(server, "v1/predict", png, Content_Type="image/png", **headers)


def form(*files: tuple[str, bytes]) -> tuple[bytes, str]:
    boundary = uuid.uuid4().hex
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n\r\n'.encode()
        + content
        + b"\r\n"
        for name, content in files
    ]
    return b"".join(parts) + f"--{boundary}--\r\n".encode(), f"multipart/form-data; boundary={boundary}"


def below(process: int) -> list[int]:
    """Return a process and all that came of it."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        try:
            children.setdefault(int((entry / "stat").read_text().rpartition(")")[2].split()[1]), []).append(
                int(entry.name)
            )
        except (OSError, ValueError, IndexError):
            continue  # no process, or one that has just ended
    found = [process]
    for one in found:
        found += children.get(one, [])
    return found


def replicas_of(server: RunningServer) -> list[int]:
    found = []
    for process in below(server.process.pid):
        try:
            if Path(f"/proc/{process}/cmdline").read_bytes().startswith(b"ray::ServeReplica:medsharp"):
                found.append(process)
        except OSError:
            continue
    return found


@pytest.fixture(scope="module")
def audit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("audited") / "audit.jsonl"


@pytest.fixture(scope="module")
def server(serve_command: Callable[..., RunningServer], audit: Path) -> Iterator[RunningServer]:
    """Two replicas on this machine, for whoever has a key, in an environment that would have everybody believed."""
    options = ("--audit-log", audit, "--audit-addresses", "--trusted-proxy", "10.9.8.7")
    return serve_command("--ray", "--replicas", "2:2", *options, MEDSHARP_API_KEYS=KEY, FORWARDED_ALLOW_IPS="*")


def written(audit: Path) -> list[dict[str, Any]]:
    """Return what all replicas wrote."""
    return [json.loads(line) for log in audit.parent.glob("audit.jsonl.*") for line in log.read_text().splitlines()]


def test_answer_is_that_of_one_process(server: RunningServer, client: TestClient, png: bytes) -> None:
    status, answer = assess(server, png)
    here = client.post("/v1/predict", content=png, headers={"Content-Type": "image/png"})
    assert status == here.status_code == 200
    keep = [{key: value for key, value in one.items() if key != "seconds"} for one in (*answer, *here.json())]
    assert keep[0] == keep[1]
    assert keep[0]["digest"]
    body, kind = form(("a.png", png), ("b.txt", b"no image"))
    status, many = ask(server, "v1/predict", body, Content_Type=kind)
    assert status == 200
    assert [one["name"] for one in many] == ["a.png", "b.txt"]
    assert many[0]["positive_probability"] == answer[0]["positive_probability"]
    assert "b.txt" in many[1]["error"]


def test_who_may_ask_and_by_which_name_is_as_in_one_process(server: RunningServer, png: bytes) -> None:
    for _ in range(6):  # both replicas
        assert assess(server, png)[0] == 200
        assert ask(server, "model", key="tests.0123456789abcdef0123456789abcdee")[0] in (401, 429)
        status, refusal = ask(server, "model", key=None)
        assert status == 401
        assert refusal["detail"] == "log in: user and password, or a key, are needed"
        assert ask(server, "readyz", key=None)[0] == 200
    status, refusal = ask(server, "model", Host="elsewhere.example")
    assert (status, refusal["detail"]) == (421, "this server is not asked by that name; --allowed-host lets it be")
    assert assess(server, png, Origin="http://elsewhere.example")[0] == 403


def test_client_is_not_who_it_says_it_is_unless_a_trusted_proxy_says_so(
    server: RunningServer, audit: Path, png: bytes
) -> None:
    said = {"X_Forwarded_For": "10.9.8.7", "X_Forwarded_Host": "localhost", "X_Forwarded_Proto": "https"}
    assert ask(server, "model", Host="evil.example", **said)[0] == 421
    # As plain HTTP; under TLS the page would be another origin.
    origin = server.address.rstrip("/")
    for given in ("9.9.9.9", "10.9.8.7", "9.9.9.9:1234, 10.9.8.7", ""):
        number = uuid.uuid4().hex
        headers = {"X_Forwarded_For": given, "X_Forwarded_Proto": "https", "X_Request_ID": number}
        assert assess(server, png, Origin=origin, **headers)[0] == 200
        assert [line["address"] for line in written(audit) if line["request"] == number] == ["127.0.0.1"], given


def test_limits_are_as_in_one_process(server: RunningServer, png: bytes) -> None:
    status, refusal = ask(server, "v1/predict", png, Content_Type="text/plain")
    assert status == 415
    status, refusal = ask(server, "v1/predict", bytes(65 * 2**20), Content_Type="image/png")
    assert status in (200, 413, 422)
    assert "64 MiB" in str(refusal)
    request = urllib.request.Request(server.address + "v1/predict", b"1", {"Content-Length": str(2**29)})
    request.add_header("Authorization", f"Bearer {KEY}")
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=60)
    with refused.value as refusal:
        assert refusal.code == 413


def test_there_is_no_page_and_no_metrics_of_one_of_several(server: RunningServer) -> None:
    for path, words in (("", "which have no page"), ("metrics", "each of which counts for itself")):
        status, refusal = ask(server, path)
        assert status == 404
        assert words in refusal["detail"]
    assert ask(server, "gradio_api/upload", b"")[0] in (404, 405)


def test_killed_replica_is_replaced_and_no_later_request_fails(server: RunningServer, png: bytes) -> None:
    before = replicas_of(server)
    assert len(before) == 2
    for process in before:
        os.kill(process, signal.SIGKILL)
    with ThreadPoolExecutor(4) as pool:
        statuses = list(pool.map(lambda _: assess(server, png)[0], range(40)))
    assert statuses == [200] * 40
    deadline = time.monotonic() + 120
    while len(now := replicas_of(server)) < 2 and time.monotonic() < deadline:
        time.sleep(0.2)
    assert len(now) == 2
    assert set(now).isdisjoint(before)


def test_each_replica_keeps_an_audit_log_of_its_own(server: RunningServer, audit: Path, png: bytes) -> None:
    assert not audit.exists()
    assert len(list(audit.parent.glob("audit.jsonl.*"))) >= 2
    before = len(written(audit))
    assert all(assess(server, png)[0] == 200 for _ in range(5))
    lines = written(audit)
    assert len(lines) == before + 5
    assert {line["who"] for line in lines} == {"tests"}


def test_stop_finishes_what_is_inside_and_leaves_no_process_and_no_file(server: RunningServer, png: bytes) -> None:
    family = below(server.process.pid)
    folders = {part for part in Path("/tmp").glob("medsharp-ray-*") if part.stat().st_mode & 0o077 == 0}
    mine = {folder for folder in folders if any(str(folder) in command_of(process) for process in family)}
    assert len(mine) == 1
    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(assess, server, png) for _ in range(8)]
        time.sleep(0.05)
        said = server.stop(signal.SIGTERM)
        statuses = [one.result()[0] for one in asked]
    assert server.process.returncode == 0
    assert set(statuses) <= {200, 404, 503}, said
    assert 200 in statuses
    assert "Traceback" not in said
    deadline = time.monotonic() + 30
    while any(Path(f"/proc/{process}").exists() for process in family) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not [process for process in family if Path(f"/proc/{process}").exists()]
    assert not any(folder.exists() for folder in mine)
    # Ray's own token, without which nobody joins a Ray of this machine alone.
    assert server.files() == [server.folder / "home/.ray/auth_token"]


@pytest.mark.slow
def test_more_requests_than_are_aimed_at_start_another_replica(
    serve_command: Callable[..., RunningServer], png: bytes
) -> None:
    server = serve_command("--ray", "--replicas", "1:2", "--target-ongoing-requests", "1", MEDSHARP_API_KEYS=KEY)
    assert len(replicas_of(server)) == 1
    assert [assess(server, png)[0] for _ in range(4)] == [200] * 4  # one at a time
    assert len(replicas_of(server)) == 1
    enough, statuses = threading.Event(), []

    def press() -> None:
        while not enough.is_set():
            statuses.append(assess(server, png)[0])

    with ThreadPoolExecutor(6) as pool:
        pressing = [pool.submit(press) for _ in range(6)]
        deadline = time.monotonic() + 300
        while len(replicas_of(server)) < 2 and time.monotonic() < deadline:
            time.sleep(0.5)
        enough.set()
        for one in pressing:
            one.result()
    assert len(replicas_of(server)) == 2
    assert set(statuses) == {200}
    server.stop(signal.SIGTERM)
    assert server.process.returncode == 0


def command_of(process: int) -> str:
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes().decode(errors="replace")
    except OSError:
        return ""


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--replicas", "2"), "--replicas is of replicas on Ray; give --ray too"),
        (("--ray", "--replicas", "3:2"), "--replicas 3:2: write how many, or MIN:MAX, such as 2:8"),
        (("--ray", "--replicas", "0"), "--replicas 0: write how many"),
        (("--ray", "--replicas", "99"), "CPUs, and each of 99 replicas needs 1 CPU; ask for less"),
        (("--ray", "ray://127.0.0.1:1"), "run it there"),
        (("--ray", "127.0.0.1:1"), "--ray 127.0.0.1:1: nothing answers there"),
        (("--ray", "--host", "0.0.0.0"), "a password is needed"),
        (("--ray", "--root-path", "/medsharp"), "--root-path is not known to Ray Serve's proxies"),
        (("--ray", "--access", "nowhere"), "nowhere"),
        (("--ray", "--audit-addresses"), "--audit-key and --audit-addresses say how --audit-log is written"),
        (("--ray", "--keyfile", "key.pem"), "--keyfile is of no use without --certfile"),
    ],
)
def test_what_cannot_work_is_a_sentence(bundle: Path, options: tuple[str, ...], words: str) -> None:
    result = CliRunner().invoke(app, ["serve", str(bundle), "--port", "0", *options], env={"COLUMNS": "200"})
    assert result.exit_code == 2, result.output
    assert words in " ".join(result.stderr.split())
    assert "Traceback" not in result.output


@pytest.mark.slow
def test_what_only_a_replica_finds_wrong_is_its_sentence(bundle: Path, tmp_path: Path) -> None:
    options = ["--ray", "--port", "0", "--audit-log", str(tmp_path / "nowhere/audit.jsonl")]
    result = CliRunner().invoke(app, ["serve", str(bundle), *options], env={"COLUMNS": "200"})
    assert result.exit_code == 2, result.output
    assert result.stderr.startswith(f"error: cannot write the audit log {tmp_path}/nowhere/audit.jsonl.")
    assert result.stderr.strip().endswith("No such file or directory")
