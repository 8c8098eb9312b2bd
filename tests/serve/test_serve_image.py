"""The steps of the Dockerfile, run in a fresh virtual environment: minutes, and a package index, so on request.

MEDSHARP_TEST_IMAGE=1 python -m pytest tests/serve/test_serve_image.py
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not os.environ.get("MEDSHARP_TEST_IMAGE"), reason="asked for with MEDSHARP_TEST_IMAGE=1"),
]


def steps() -> list[tuple[str, str]]:
    text = (ROOT / "deploy" / "Dockerfile").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [(line.split(None, 1)[0], line.split(None, 1)[1]) for line in joined.splitlines()]


def copy(arguments: str, source: Path, target: Path) -> None:
    *names, last = arguments.split()
    for name in names:
        destination = target / last / name if last.endswith("/") else target / last
        destination.parent.mkdir(parents=True, exist_ok=True)
        if (source / name).is_dir():
            shutil.copytree(source / name, destination, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source / name, destination)


def test_image_built_step_by_step_serves_without_torch(tmp_path: Path) -> None:
    installed, sources, home = tmp_path / "medsharp", tmp_path / "source", tmp_path / "srv"
    environment = {
        name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PIP_CONSTRAINT")
    } | {"RUNTIME": "cpu", "PATH": f"{Path(sys.executable).resolve().parent}:{os.environ['PATH']}"}
    stages = 0
    for instruction, arguments in steps():
        stages += instruction == "FROM"
        if stages == 1 and instruction == "COPY":
            copy(arguments, ROOT, sources)
        elif stages == 1 and instruction == "RUN":
            script = arguments.replace("/opt/medsharp", str(installed))
            subprocess.run(["bash", "-euo", "pipefail", "-c", script], cwd=sources, env=environment, check=True)
        elif stages == 2 and instruction == "COPY" and not arguments.startswith("--from"):
            name, target = arguments.split()
            copy(f"{name} {target.removeprefix('/srv/')}", ROOT, home)
    python = installed / "bin" / "python"
    missing = subprocess.run(
        [python, "-c", "import torch"], cwd=home, env=environment, capture_output=True, check=False
    )
    assert b"No module named 'torch'" in missing.stderr
    found = subprocess.run([installed / "bin" / "pip", "list"], env=environment, capture_output=True, check=True).stdout
    assert b"onnxruntime " in found
    assert b"onnxruntime-gpu" not in found

    by_name = dict(steps())
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (tmp_path / "tmp").mkdir()
    command = [*json.loads(by_name["ENTRYPOINT"]), *json.loads(by_name["CMD"]), "--port", str(port)]
    own = environment | {
        "PATH": f"{installed / 'bin'}:{environment['PATH']}",
        "MEDSHARP_AUTH": "ward:a long password",
        "TMPDIR": str(tmp_path / "tmp"),
        "HOME": "/nonexistent",
    }
    server = subprocess.Popen(command, cwd=home, env=own)
    try:
        health = json.loads(by_name["HEALTHCHECK"].split("CMD ", 1)[1])
        check = [word.replace(":7860", f":{port}") for word in health]
        for _ in range(600):
            if subprocess.run(check, env=own, capture_output=True, check=False).returncode == 0:
                break
            assert server.poll() is None
            time.sleep(0.2)
        else:
            pytest.fail("the health check never succeeds")
        memory = re.findall(r"VmRSS:\s+(\d+)", Path(f"/proc/{server.pid}/status").read_text())
        size = sum(path.stat().st_size for path in installed.rglob("*") if path.is_file() and not path.is_symlink())
        print(f"packages: {size / 2**20:.0f} MiB; memory when started: {int(memory[0]) / 2**10:.0f} MiB")
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(f"http://127.0.0.1:{port}/model")
    finally:
        server.terminate()
        server.wait(60)
