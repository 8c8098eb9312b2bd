"""The README's own commands, run word for word on small folders of simulated images."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

README = Path(__file__).parents[2] / "README.md"
MEDSHARP = [sys.executable, "-c", "from medsharp.cli import main; main()"]


def _commands() -> list[list[str]]:
    """Every `medsharp` line of the README's shell blocks that works on the reader's own images."""
    blocks = re.findall(r"```bash\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("medsharp ")]


def _run(arguments: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"OMP_NUM_THREADS": "2", "COLUMNS": "120", "PYTHONWARNINGS": "default"}
    return subprocess.run(
        MEDSHARP + arguments, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.slow
def test_readme_commands_run_in_order(workspace: Path) -> None:
    commands = _commands()
    assert [command[0] for command in commands] == ["train", "export", "predict", "evaluate", "serve"]
    for command in commands[:-1]:
        done = _run(command, workspace)
        assert done.returncode == 0, f"medsharp {shlex.join(command)}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr
    evaluation = json.loads((workspace / "evaluations/first/evaluation.json").read_text())
    assert [entry["role"] for entry in evaluation["datasets"]] == ["internal", "external"]
    external = evaluation["datasets"][1]["figures"]["auroc"]
    assert external["low"] <= external["value"] <= external["high"]
    assert "ot for diagnostic use" in (workspace / "evaluations/first/report.html").read_text()
    _serves(commands[-1], workspace)


def _serves(command: list[str], folder: Path) -> None:
    process = subprocess.Popen(
        [*MEDSHARP, *command, "--no-browser", "--port", "0"], cwd=folder, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        # The address is printed once it can be reached; the output ends where the server does.
        address = next((found[0] for line in process.stdout if (found := re.search(r"http://\S+:\d+/", line))), None)
        assert address is not None, "the server ended"
        with urllib.request.urlopen(f"{address}healthz") as response:
            assert json.load(response)["status"] == "ok"
    finally:
        process.terminate()
        process.communicate()
