"""`torchrun -m medsharp train` as it is typed: two processes of this machine, and what becomes of a killed one."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file
from typer.testing import CliRunner

import medsharp
from medsharp.cli import app
from medsharp.data.manifest import Manifest
from training import Run, train

# Kills the second process in mid-epoch, the first time it comes there.
KILLING = """
import os, signal
import training.loop
from medsharp.cli import main

step = training.loop._Trainer._step

def killed(self, batch):
    first = os.environ["TORCHELASTIC_RESTART_COUNT"] == "0" and not os.path.exists(os.environ["KILLED"])
    if self.processes.rank == 1 and self.training.epoch == 1 and self.number == 1 and first:
        open(os.environ["KILLED"], "w").close()
        os.kill(os.getpid(), signal.SIGKILL)
    return step(self, batch)

training.loop._Trainer._step = killed
main()
"""

SETTINGS = {
    "data": {"image_size": 32, "crop": "none", "augmentation": "light", "cache": "disk"},
    "network": {"name": "resnet10_w16", "drop_rate": 0.2},
    "optimizer": {"name": "sam", "lr": 2e-3},
    "schedule": {"epochs": 3, "warmup_epochs": 1, "batch_size": 6},
    "run": {"device": "cpu", "precision": "fp32"},
}


def torchrun(*command: str | Path, options: tuple[str, ...] = (), **variables: str) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", *options, *command]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200", **variables}
    return subprocess.run(
        list(map(str, words)),
        cwd=Path(medsharp.__file__).parents[1],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("config") / "config.yaml"
    path.write_text(yaml.safe_dump(SETTINGS))
    return path


@pytest.fixture(scope="module")
def whole(squares: Manifest, config: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, str]:
    """A run of two processes, and what they printed."""
    out = tmp_path_factory.mktemp("whole") / "run"
    done = torchrun("-m", "medsharp", "train", "--config", config, "--data", squares.root, "--out", out)
    assert done.returncode == 0, done.stderr
    return Run(out), done.stdout


def assert_same(one: Run, other: Run) -> None:
    for name in ("best", "last"):
        first, second = (load_file(run.folder / f"checkpoints/{name}.safetensors") for run in (one, other))
        assert all(torch.equal(value, second[key]) for key, value in first.items())
    assert (one.folder / "predictions.csv").read_bytes() == (other.folder / "predictions.csv").read_bytes()


def test_one_of_two_processes_tells_and_writes(whole: tuple[Run, str], squares: Manifest, tmp_path: Path) -> None:
    run, printed = whole
    assert printed.count("Training resnet10_w16 with sam, 3 epochs, 2 processes") == 1
    assert len(re.findall(r"epoch +\d/3", printed)) == 3
    assert [record["epoch"] for record in run.metrics()] == [0, 1, 2]
    assert len(run.predictions()) == 14
    alone = train(run.config, squares, out=tmp_path / "alone")
    assert sorted(file.name for file in alone.folder.rglob("*")) == sorted(file.name for file in run.folder.rglob("*"))


@pytest.mark.slow
def test_two_machines_train_what_two_processes_of_one_do(
    whole: tuple[Run, str], squares: Manifest, config: Path, tmp_path: Path
) -> None:
    """Both are this one: a torchrun each, with a process each, that find each other at a port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ["--nnodes=2", "--nproc-per-node=1", "--rdzv-backend=c10d", f"--rdzv-endpoint=127.0.0.1:{port}"]
    options += ["--rdzv-id=two", "--local-addr=127.0.0.1"]
    command = ["-m", "medsharp", "train", "--config", config, "--data", squares.root, "--out", tmp_path / "run"]
    words = [sys.executable, "-m", "torch.distributed.run", *options, *command]
    settings: dict[str, Any] = {
        "cwd": Path(medsharp.__file__).parents[1],
        "env": {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200"},
        "stdout": subprocess.PIPE,
        "stderr": subprocess.PIPE,
        "text": True,
    }
    machines = [subprocess.Popen(list(map(str, words)), **settings) for _ in range(2)]
    said = [machine.communicate() for machine in machines]
    assert [machine.returncode for machine in machines] == [0, 0], said
    printed = "".join(out for out, _ in said)
    assert printed.count("Training resnet10_w16 with sam, 3 epochs, 2 processes") == 1  # on one of them
    assert_same(whole[0], Run(tmp_path / "run"))


def test_killed_process_is_a_resumed_run(
    whole: tuple[Run, str], squares: Manifest, config: Path, tmp_path: Path
) -> None:
    script = tmp_path / "killing.py"
    script.write_text(KILLING)
    command = (script, "train", "--config", config, "--data", squares.root, "--out", tmp_path / "run")
    done = torchrun(*command, options=("--max-restarts=1",), KILLED=str(tmp_path / "killed"))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "killed").exists()
    assert_same(whole[0], Run(tmp_path / "run"))


def test_lost_process_is_told_in_a_sentence_and_the_same_command_goes_on(
    whole: tuple[Run, str], squares: Manifest, config: Path, tmp_path: Path
) -> None:
    script = tmp_path / "killing.py"
    script.write_text(KILLING)
    command = (script, "train", "--config", config, "--data", squares.root, "--out", tmp_path / "run")
    lost = torchrun(*command, KILLED=str(tmp_path / "killed"))
    assert lost.returncode != 0
    assert not Run(tmp_path / "run").finished
    assert len(Run(tmp_path / "run").metrics()) == 1
    assert lost.stderr.count("error: a process of this training was lost;") <= 1  # torchrun may end it before it speaks
    again = torchrun(*command, KILLED=str(tmp_path / "killed"))
    assert again.returncode == 0, again.stderr
    assert_same(whole[0], Run(tmp_path / "run"))


def test_wrong_input_is_one_sentence_of_all_processes(config: Path, tmp_path: Path) -> None:
    done = torchrun("-m", "medsharp", "train", "--config", config, "--data", "nowhere", "--out", tmp_path / "run")
    assert done.returncode != 0
    assert len(re.findall("^error:", done.stderr, re.MULTILINE)) == 1
    assert not (tmp_path / "run").exists()


def test_restarts_need_to_know_the_folder(config: Path, squares: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    variables = {"TORCHELASTIC_RUN_ID": "none", "TORCHELASTIC_MAX_RESTARTS": "1", "WORLD_SIZE": "1"}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    done = CliRunner().invoke(app, ["train", "--config", str(config), "--data", str(squares.root)])
    assert done.exit_code == 2
    assert "give --out, so that it finds its run then" in done.stderr
