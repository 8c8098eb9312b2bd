"""What is shipped to run the server with: image, compose file and systemd unit hold to the rules; nginx is run."""

from __future__ import annotations

import base64
import configparser
import contextlib
import fnmatch
import http.client
import json
import re
import shlex
import shutil
import socket
import ssl
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from typer.main import get_command

from medsharp.cli import app

if TYPE_CHECKING:
    from tests.serve.conftest import RunningServer

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"


def instructions() -> list[tuple[str, str]]:
    """Instruction and arguments of each step of the Dockerfile, with its lines joined."""
    text = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [(line.split(None, 1)[0], line.split(None, 1)[1]) for line in joined.splitlines()]


def of(name: str) -> list[str]:
    return [arguments for instruction, arguments in instructions() if instruction == name]


def serve_options() -> set[str]:
    command: Any = get_command(app)
    parameters = command.commands["serve"].params
    return {name for parameter in parameters for name in (*parameter.opts, *parameter.secondary_opts)}


def check_options(arguments: list[str]) -> None:
    """Each option of a command line is one that `medsharp serve` has."""
    given = {argument.split("=")[0] for argument in arguments if argument.startswith("--")}
    assert given
    assert given <= serve_options()


def test_image_is_made_from_a_pinned_slim_base_in_two_stages() -> None:
    bases = [one.split()[0] for one in of("FROM")]
    assert len(bases) == 2
    for base in bases:
        assert re.fullmatch(r"python:3\.1[123]\.\d+-slim-[a-z]+", base), base
    assert "ADD" not in dict(instructions())
    for run in of("RUN"):
        assert "sudo" not in run
        assert "curl" not in run
        assert "apt-get install" not in run or "rm -rf /var/lib/apt/lists" in run
        assert "pip install" not in run or run.count("pip install") == run.count("pip install --no-cache-dir")
        assert "apt-get upgrade" not in run


def test_image_runs_one_process_as_nobody_in_particular() -> None:
    steps = [name for name, _ in instructions()]
    last_stage = steps[len(steps) - steps[::-1].index("FROM") :]
    assert last_stage.count("USER") == 1
    assert not {"RUN", "COPY", "ADD"} & set(last_stage[last_stage.index("USER") :])
    (user,) = of("USER")
    assert re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", user), "a number, so that Kubernetes sees that it is not root"
    (entry,), (command,) = of("ENTRYPOINT"), of("CMD")
    assert json.loads(entry) == ["medsharp", "serve"]
    check_options(json.loads(command))
    assert "0.0.0.0" in json.loads(command)
    (health,) = of("HEALTHCHECK")
    assert json.loads(health.split("CMD ", 1)[1])[0] == "python"
    assert f":{of('EXPOSE')[0]}/healthz" in health
    assert not re.search(r"(?i)password|secret|token|MEDSHARP_AUTH", " ".join(of("ENV") + of("ARG")))


def test_image_has_no_torch_and_the_asked_build_of_the_runtime() -> None:
    (install,) = [run for run in of("RUN") if "pip install" in run]
    assert "--constraint constraints.txt ." in install
    assert not re.search(r"\.\[|torch|\[train|\[dev", install)
    assert {"RUNTIME=cpu"} == set(of("ARG"))
    for variant, package in (("cpu", '"onnxruntime=='), ("gpu", '"onnxruntime-gpu[cuda,cudnn]==')):
        assert package in install.split(f"{variant})")[1].split(";;")[0]


def test_what_is_copied_is_there_and_not_ignored_and_data_never_is() -> None:
    lines = [
        line
        for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
        if line and not line.startswith("#")
    ]
    assert lines[0] == "*"
    kept = {line[1:] for line in lines if line.startswith("!")}
    copied = {source for step in of("COPY") if not step.startswith("--from") for source in step.split()[:-1]}
    assert copied == kept
    for name in kept:
        assert (ROOT / name).exists(), name
    assert not any(fnmatch.fnmatch(name, pattern) for name in kept for pattern in ("data*", "runs*", ".env*", "tests"))


def test_compose_file_takes_every_right_away() -> None:
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
    (service,) = compose["services"].values()
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["tmpfs"][0].startswith("/tmp:")
    assert "noexec" in service["tmpfs"][0]
    assert not {"privileged", "cap_add", "network_mode", "pid", "user"} & set(service)
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])
    assert not service["image"].endswith(":latest")
    assert (DEPLOY / service["build"]["context"] / service["build"]["dockerfile"]).is_file()
    assert set(service["build"]["args"]) == {"RUNTIME"}
    assert {"mem_limit", "cpus", "pids_limit", "restart"} <= set(service)
    check_options(service["command"])
    assert any(argument.startswith("--access=") for argument in service["command"])
    mounted = [volume for volume in service["volumes"] if not volume.endswith(":ro")]
    assert mounted == ["audit:/audit"]


def test_systemd_unit_takes_every_right_away() -> None:
    parser = configparser.RawConfigParser(strict=False)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read(DEPLOY / "systemd" / "medsharp.service", encoding="utf-8")
    service = dict(parser["Service"])
    assert service["User"] not in ("", "root")
    for name in ("NoNewPrivileges", "PrivateDevices", "ProtectHome", "ProtectKernelTunables", "RestrictNamespaces"):
        assert service[name] == "yes", name
    assert service["ProtectSystem"] == "strict"
    assert service["CapabilityBoundingSet"] == ""
    assert {"MemoryMax", "TasksMax", "TimeoutStopSec"} <= set(service)
    command = shlex.split(service["ExecStart"].replace("\\", " "))
    assert command[1] == "serve"
    check_options(command)
    assert command[command.index("--host") + 1] == "127.0.0.1"
    assert "-HUP" in service["ExecReload"]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
def test_systemd_knows_every_setting_of_the_unit() -> None:
    unit = DEPLOY / "systemd" / "medsharp.service"
    said = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, check=False).stderr
    about = [line for line in said.splitlines() if "medsharp.service" in line and "is not executable" not in line]
    assert about == []


@dataclass
class Proxied:
    """nginx with the shipped configuration, in front of a server."""

    server: RunningServer
    port: int
    certificate: Path
    folder: Path
    key: str
    audit: Path

    def send(self, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, Any, bytes]:
        context = ssl.create_default_context(cafile=str(self.certificate))
        connection = http.client.HTTPSConnection("127.0.0.1", self.port, timeout=60, context=context)
        host = {"Host": f"ward.example.org:{self.port}", "Authorization": f"Bearer {self.key}"}
        named = {**host, **{name.replace("_", "-"): value for name, value in headers.items()}}
        with contextlib.closing(connection):
            connection.request(method, path, body or None, named)
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()

    def files(self) -> list[Path]:
        return [path for path in (self.folder / "temporary").rglob("*") if path.is_file()]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module", params=["", "/medsharp"])
def proxied(
    request: pytest.FixtureRequest,
    serve_command: Callable[..., RunningServer],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Proxied]:
    nginx = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/bin:/usr/local/sbin")
    if nginx is None or shutil.which("openssl") is None:
        pytest.skip("needs nginx and openssl")
    root: str = request.param
    folder = tmp_path_factory.mktemp("nginx")
    certificate, private = folder / "certificate.pem", folder / "key.pem"
    subject = ["-subj", "/CN=ward.example.org", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2"]
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", *subject, "-keyout", private, "-out", certificate],
        check=True,
        capture_output=True,
    )
    key, audit, port = "pacs.0123456789abcdef0123", folder / "audit", free_port()
    options = ["--allowed-host", "ward.example.org", "--trusted-proxy", "127.0.0.1", "--audit-log", audit]
    server = serve_command(
        *options, "--audit-addresses", *(["--root-path", root] if root else []), MEDSHARP_API_KEYS=key
    )
    shipped = (DEPLOY / "nginx" / "medsharp.conf").read_text(encoding="utf-8")
    for before, after in (
        ("127.0.0.1:7860", f"127.0.0.1:{server.port}"),
        ("listen 443 ssl", f"listen 127.0.0.1:{port} ssl"),
        ("/etc/ssl/medsharp/certificate.pem", str(certificate)),
        ("/etc/ssl/medsharp/key.pem", str(private)),
        *(
            (("location / {", f"location {root}/ {{"), ("proxy_pass http://medsharp;", "proxy_pass http://medsharp/;"))
            if root
            else ()
        ),
    ):
        assert shipped.count(before) >= 1, before
        shipped = shipped.replace(before, after)
    (folder / "site.conf").write_text(shipped)
    temporary = "".join(
        f"{kind}_temp_path {folder}/temporary/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "temporary").mkdir()
    main = folder / "nginx.conf"
    main.write_text(
        f"daemon off; pid {folder}/pid; error_log {folder}/error.log; worker_processes 1; "
        f"events {{}} http {{ {temporary} include {folder}/site.conf; }}"
    )
    process = subprocess.Popen([nginx, "-p", str(folder), "-c", str(main), "-e", str(folder / "start.log")])
    try:
        for _ in range(3000):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            assert process.poll() is None, (folder / "start.log").read_text()
            time.sleep(0.02)
        yield Proxied(server, port, certificate, folder, key, audit)
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture
def root(proxied: Proxied, request: pytest.FixtureRequest) -> str:
    return (
        "/medsharp" if "location /medsharp/ {" in (proxied.folder / "site.conf").read_text().split("# Below")[0] else ""
    )


def form(name: str, content: bytes) -> tuple[bytes, str]:
    boundary = uuid.uuid4().hex
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n\r\n'
    return head.encode() + content + f"\r\n--{boundary}--\r\n".encode(), f"multipart/form-data; boundary={boundary}"


def test_behind_nginx_the_api_answers_and_the_log_has_the_client(proxied: Proxied, root: str, png: bytes) -> None:
    assert proxied.send("GET", f"{root}/healthz", Authorization="")[0] == 200
    assert proxied.send("GET", f"{root}/model", Authorization="")[0] == 401
    body, kind = form("Doe_Jane.png", png)
    status, headers, text = proxied.send(
        "POST",
        f"{root}/v1/predict",
        body,
        Content_Type=kind,
        Origin=f"https://ward.example.org:{proxied.port}",
        X_Forwarded_For="203.0.113.9",
    )
    assert status == 200, text
    assert json.loads(text)[0]["name"] == "Doe_Jane.png"
    assert headers["strict-transport-security"]
    entry = json.loads(proxied.audit.read_text().splitlines()[-1])
    # What the client itself says of its address reaches nobody.
    assert entry["address"] == "127.0.0.1"
    assert entry["request"] == headers["x-request-id"]
    status, _, _ = proxied.send("POST", f"{root}/v1/predict", body, Content_Type=kind, Origin="https://evil.example")
    assert status == 403


def test_behind_nginx_the_page_finds_itself_and_answers(proxied: Proxied, root: str, png: bytes) -> None:
    status, _, page = proxied.send("GET", f"{root}/")
    assert status == 200
    address = f"https://ward.example.org:{proxied.port}{root}"
    config = json.loads(proxied.send("GET", f"{root}/config")[2])
    assert config["root"] == address
    for asset in set(re.findall(r'(?:src|href)="(\.?/[^"]+\.(?:js|css))"', page.decode())):
        assert proxied.send("GET", f"{root}/{asset.lstrip('./')}")[0] == 200, asset
    body, kind = form("scan.png", png)
    status, _, text = proxied.send("POST", f"{root}/gradio_api/upload", body, Content_Type=kind)
    assert status == 200
    question = {"data": [[{"path": json.loads(text)[0], "meta": {"_type": "gradio.FileData"}}]]}
    asked = proxied.send(
        "POST", f"{root}/gradio_api/call/assess", json.dumps(question).encode(), Content_Type="application/json"
    )[2]
    stream = proxied.send("GET", f"{root}/gradio_api/call/assess/{json.loads(asked)['event_id']}")[2].decode()
    assert "event: complete" in stream
    assert "scan.png" in stream


def test_nginx_writes_nothing_of_an_upload(proxied: Proxied, root: str) -> None:
    secret = base64.b64encode(b"pixels of Doe_Jane") * 100_000
    body, kind = form("Doe_Jane.png", secret)
    context = ssl.create_default_context(cafile=str(proxied.certificate))
    raw = socket.create_connection(("127.0.0.1", proxied.port), 60)
    with context.wrap_socket(raw, server_hostname="127.0.0.1") as connection:
        connection.sendall(
            f"POST {root}/v1/predict?name=Doe_Jane HTTP/1.1\r\nHost: ward.example.org\r\n"
            f"Authorization: Bearer {proxied.key}\r\nContent-Type: {kind}\r\n"
            f"Content-Length: {len(body)}\r\n\r\n".encode()
            + body[:-500]
        )
        # The server has it, so that nginx has passed it on.
        for _ in range(3000):
            held = proxied.send("GET", f"{root}/metrics")[2].decode()
            if float(re.findall(r"^medsharp_held_bytes (\S+)", held, re.MULTILINE)[0]) > len(secret) - 2**17:
                break
            time.sleep(0.02)
        else:
            pytest.fail("the upload did not arrive")
        assert proxied.files() == []
    for log in proxied.folder.glob("*.log"):
        assert "Doe" not in log.read_text()
