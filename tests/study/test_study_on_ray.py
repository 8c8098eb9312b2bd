"""A study's chains as tasks of Ray are the runs of one process, whoever is killed meanwhile."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from command_line import run
from killing import processes_of_ray

from training.study import StudyDefinition, run_study

if TYPE_CHECKING:
    from medsharp.cluster import Cluster

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of Ray, of its own settings


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    pytest.importorskip("ray")
    from medsharp.cluster import joined

    with joined(cpus=2) as cluster:
        yield cluster


@pytest.fixture(autouse=True)
def nobody_says_how_many_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)


def weights_of(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("last.safetensors")}


@pytest.mark.slow
def test_runs_are_those_of_one_process_also_after_a_worker_was_killed_in_mid_training(
    cluster: Cluster, define: Callable[..., StudyDefinition], tmp_path: Path
) -> None:
    from medsharp.cluster import PieceTasks

    # Long enough that a run has not come to its end when its first epoch is heard of.
    study = define(hospitals=[{"name": "north", "site": "North"}], base={"schedule": {"epochs": 25}})
    assert not run_study(study, out=tmp_path / "here").failures
    seen: list[dict[str, Any]] = []

    def events(event: dict[str, Any]) -> None:
        seen.append(event)
        if event["kind"] == "epoch" and sum(one["kind"] == "epoch" for one in seen) == 1:
            for process in processes_of_ray("_do"):
                os.kill(process, signal.SIGKILL)

    outcome = run_study(study, out=tmp_path / "there", hand_out=PieceTasks(cluster), events=events)
    assert not outcome.failures
    assert outcome.forecast.finished_cells == outcome.forecast.cells == 4
    assert weights_of(tmp_path / "there") == weights_of(tmp_path / "here")
    begun = [event["cell"] for event in seen if event["kind"] == "begin"]
    assert len(begun) > 4  # what was killed was begun again
    assert sorted(event["chain"] for event in seen if event["kind"] == "chain") == [
        f"north/cnn/{optimizer}/fold-{fold}" for optimizer in ("adam", "sam") for fold in (0, 1)
    ]


@pytest.mark.slow
def test_command_that_is_killed_goes_on_to_the_same_weights(
    cluster: Cluster, define: Callable[..., StudyDefinition], tmp_path: Path
) -> None:
    study = define(hospitals=[{"name": "north", "site": "North"}], base={"schedule": {"epochs": 6}})
    assert not run_study(study, out=tmp_path / "here").failures
    path, out, quiet = tmp_path / "study.yaml", tmp_path / "there", subprocess.DEVNULL
    path.write_text(yaml.safe_dump(study.model_dump(mode="json", exclude_unset=True)))
    command = ["study", "run", str(path), "--out", str(out), "--ray"]
    with subprocess.Popen([sys.executable, "-m", "medsharp", *command], stdout=quiet, stderr=quiet) as driver:
        deadline = time.monotonic() + 300
        while not epochs_in(out) and driver.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        driver.send_signal(signal.SIGKILL)
    assert driver.returncode == -signal.SIGKILL
    assert 0 < epochs_in(out) < 4 * 6
    deadline, quieted = time.monotonic() + 120, False
    while not quieted and time.monotonic() < deadline:  # a Ray of its own ends a little after it
        before = epochs_in(out)
        time.sleep(3)
        quieted = epochs_in(out) == before
    result = run(*command)
    assert result.exit_code == 0, result.output
    assert weights_of(out) == weights_of(tmp_path / "here")
    assert len(weights_of(out)) == 4


def epochs_in(root: Path) -> int:
    """Return how many epochs the runs of a study have."""
    return sum(len(path.read_text().splitlines()) for path in root.rglob("metrics.jsonl"))


def test_command_goes_on_in_a_folder_of_one_process_and_lists_what_fails(
    cluster: Cluster, define: Callable[..., StudyDefinition], tmp_path: Path
) -> None:
    study = define(hospitals=[{"name": "north", "site": "North"}])
    path, out = tmp_path / "study.yaml", tmp_path / "out"
    path.write_text(yaml.safe_dump(study.model_dump(mode="json", exclude_unset=True)))
    run_study(study, out=out)
    for folder in (out / "cells/north/cnn/sam", out / "runs"):
        assert folder.exists()
    (out / "cells/north/cnn/sam/fold-0/epochs-seed-0.json").unlink()
    result = run("study", "run", path, "--out", out, "--ray")
    assert result.exit_code == 0, result.output
    assert "runs on Ray on this machine: 2 CPUs" in result.output
    assert (out / "cells/north/cnn/sam/fold-0/epochs-seed-0.json").exists()
    both = run("study", "run", path, "--out", out, "--ray", "--devices", "cpu")
    assert "--devices are of this machine" in both.output
    refused = run("study", "run", path, "--out", out, "--ray", "--gpus-each", "0.5", "--cpus-each", "4")
    assert refused.exit_code == 2
    assert "and a piece of the work needs 4 CPUs and 0.5 GPUs; ask for less" in refused.output


def test_piece_whose_process_dies_every_time_is_a_failure_and_others_are_done(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    from medsharp.cluster import PieceTasks

    def work(name: str, device: str) -> Iterator[dict[str, Any]]:
        yield {"kind": "note", "device": device, "threads": os.environ.get("OMP_NUM_THREADS")}
        time.sleep(0.1)
        if name == "dead":
            os._exit(9)
        yield {"kind": "ended", "failure": "no such thing" if name == "bad" else ""}

    found = list(PieceTasks(cluster)(["good", "bad", "dead"], work))
    assert ("good", {"kind": "note", "device": "cpu", "threads": "1"}) in found
    ends = {name: event["failure"] for name, event in found if event["kind"] == "ended"}
    assert ends["good"] == ""
    assert ends["bad"] == "no such thing"
    assert ends["dead"].startswith("WorkerCrashedError: ")
    assert len(ends) == 3
    found = list(PieceTasks(cluster, cpus_each=2)(["wide"], work))  # in a process that may have done a narrow one
    assert found[0] == ("wide", {"kind": "note", "device": "cpu", "threads": "2"})
    monkeypatch.setenv("OMP_NUM_THREADS", "3")  # somebody has said how many
    found = list(PieceTasks(cluster)(["narrow"], work))
    assert found[0] == ("narrow", {"kind": "note", "device": "cpu", "threads": "3"})
