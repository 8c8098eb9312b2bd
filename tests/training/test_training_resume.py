"""A run that was cut short, however that happened, goes on to the weights of one that was not."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import training.loop
from medsharp.config import TrainConfig, dump_config
from medsharp.data.manifest import Manifest
from medsharp.errors import InputError
from medsharp.networks import create_network
from training import Interrupted, Run, train

# Everything that a resumed run could forget: dropout's noise, the average, the mask head, the optimizer's state.
EVERYTHING: dict[str, Any] = {
    "data": {"augmentation": "strong"},
    "network": {"drop_rate": 0.3, "drop_path_rate": 0.2},
    "loss": {"mask_weight": 0.5},
    "run": {"ema_decay": 0.9},
}

KILLED_IN_MID_EPOCH = """
import os, signal, sys, torch
from medsharp.config import load_config
from medsharp.data.manifest import read_manifest
from training import train
torch.set_num_threads(1)
def events(event):
    if event["kind"] == "batch" and (event["epoch"], event["done"]) == (1, 2):
        os.kill(os.getpid(), signal.SIGKILL)
train(load_config(sys.argv[1]), read_manifest(sys.argv[2]), out=sys.argv[3], events=events)
"""


def stop_at(epoch: int, done: int) -> Callable[[dict[str, Any]], None]:
    def events(event: dict[str, Any]) -> None:
        if event["kind"] == "batch" and (event["epoch"], event["done"]) == (epoch, done):
            raise KeyboardInterrupt

    return events


def resume(folder: Path, **options: Any) -> Run:
    run = Run.load(folder)
    return train(run.config, run.manifest, out=folder, resume=True, **options)


def assert_same_run(one: Path, other: Path) -> None:
    for name in ("best", "last"):
        first, second = (load_file(folder / f"checkpoints/{name}.safetensors") for folder in (one, other))
        assert first.keys() == second.keys()
        for key in first:
            assert torch.equal(first[key], second[key]), f"{name}: {key}"
    assert (one / "predictions.csv").read_bytes() == (other / "predictions.csv").read_bytes()
    timings = {"images_per_second", "wait_seconds", "wait_share", "seconds"}
    first_lines, second_lines = (
        [{key: value for key, value in record.items() if key not in timings} for record in Run.load(folder).metrics()]
        for folder in (one, other)
    )
    assert first_lines == second_lines


def test_run_killed_in_mid_epoch_resumes_to_the_same_weights(
    squares: Manifest, configure: Callable[..., TrainConfig], tmp_path: Path
) -> None:
    config = configure(**EVERYTHING)
    train(config, squares, out=tmp_path / "whole")
    (tmp_path / "config.yaml").write_text(dump_config(config))
    killed = subprocess.run(
        [sys.executable, "-c", KILLED_IN_MID_EPOCH, tmp_path / "config.yaml", squares.root, tmp_path / "killed"],
        cwd=Path(training.__file__).parents[1],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    assert len(Run.load(tmp_path / "killed").metrics()) == 1
    resume(tmp_path / "killed")
    assert_same_run(tmp_path / "whole", tmp_path / "killed")


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize(
    ("method", "workers"),
    [("adamw", 0), ("sam", 0), ("wsam", 1), ("esam", 0), ("xsam", 0), ("bayesiansam", 0), ("eigensam", 0)],
)
def test_interrupted_run_resumes_to_the_same_weights(
    method: str, workers: int, squares: Manifest, configure: Callable[..., TrainConfig], tmp_path: Path
) -> None:
    own = {"esam": {"beta": 0.5, "gamma": 0.5}, "eigensam": {"freq": 2}}.get(method, {})
    config = configure(**{**EVERYTHING, "run": {"workers": workers}, "optimizer": {"name": method, **own}})
    train(config, squares, out=tmp_path / "whole")
    with pytest.raises(Interrupted, match=f"medsharp train --resume {tmp_path / 'stopped'}"):
        train(config, squares, out=tmp_path / "stopped", events=stop_at(2, 1))
    resume(tmp_path / "stopped")
    assert_same_run(tmp_path / "whole", tmp_path / "stopped")


@pytest.mark.parametrize(
    ("method", "place"),
    [("adamw", (2, 1)), ("asam", (2, 1)), ("wsam", (1, 1)), ("looksam", (2, 2)), ("gsam", (2, 1)), ("looksam", (3, 1))],
)
def test_run_resumes_to_the_same_weights_across_the_epoch_in_which_it_thaws(
    method: str, place: tuple[int, int], squares: Manifest, configure: Callable[..., TrainConfig], tmp_path: Path
) -> None:
    shares = {"backbone_lr_ratio": 0.5, "layer_decay": 0.8}
    schedule = {"epochs": 4, "frozen_epochs": 2}
    config = configure(**{**EVERYTHING, "optimizer": {"name": method, **shares}, "schedule": schedule})
    train(config, squares, out=tmp_path / "whole")
    with pytest.raises(Interrupted):
        train(config, squares, out=tmp_path / "stopped", events=stop_at(*place))
    resume(tmp_path / "stopped")
    assert_same_run(tmp_path / "whole", tmp_path / "stopped")


def test_run_begun_before_groups_had_shares_goes_on(
    squares: Manifest, configure: Callable[..., TrainConfig], tmp_path: Path
) -> None:
    train(configure(), squares, out=tmp_path / "whole")
    with pytest.raises(Interrupted):
        train(configure(), squares, out=tmp_path / "stopped", events=stop_at(1, 1))
    path = tmp_path / "stopped/checkpoints/last.pt"
    state = torch.load(path, weights_only=True)
    for group in state["optimizer"]["param_groups"]:
        del group["lr_scale"]
    torch.save(state, path)
    resume(tmp_path / "stopped")
    assert_same_run(tmp_path / "whole", tmp_path / "stopped")


@pytest.mark.parametrize("call", [1, 2])
def test_run_stopped_between_two_files_of_a_checkpoint_repeats_that_epoch(
    call: int,
    squares: Manifest,
    configure: Callable[..., TrainConfig],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = configure()
    train(config, squares, out=tmp_path / "whole")
    save, calls = training.loop.save_state, []

    def stop(path: Path, state: dict[str, Any]) -> None:
        calls.append(path)
        if len(calls) == call:
            raise KeyboardInterrupt
        save(path, state)

    monkeypatch.setattr(training.loop, "save_state", stop)
    with pytest.raises(Interrupted):
        train(config, squares, out=tmp_path / "stopped")
    assert len(Run.load(tmp_path / "stopped").metrics()) == call  # one more than the checkpoint
    monkeypatch.setattr(training.loop, "save_state", save)
    resume(tmp_path / "stopped")
    assert_same_run(tmp_path / "whole", tmp_path / "stopped")


def test_full_disk_loses_nothing_and_resumes_to_the_same_weights(
    squares: Manifest, configure: Callable[..., TrainConfig], tmp_path: Path
) -> None:
    config = configure()
    train(config, squares, out=tmp_path / "whole")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(event: dict[str, Any]) -> None:
        if event["kind"] == "batch" and event["epoch"] == 1:
            # No file may grow beyond this; the system's error is that of a full disk but for its number.
            resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))

    try:
        with pytest.raises(InputError, match=r"cannot write .*checkpoints"):
            train(config, squares, out=tmp_path / "full", events=fill)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list((tmp_path / "full").rglob("*.part"))
    assert len(Run.load(tmp_path / "full").metrics()) == 1
    resume(tmp_path / "full")
    assert_same_run(tmp_path / "whole", tmp_path / "full")


def test_finished_run_is_left_as_it_is(
    squares: Manifest, configure: Callable[..., TrainConfig], tmp_path: Path
) -> None:
    run = train(configure(schedule={"epochs": 1}), squares, out=tmp_path / "run")
    before = {file: file.read_bytes() for file in run.folder.rglob("*") if file.is_file()}
    told: list[dict[str, Any]] = []
    again = resume(run.folder, events=told.append)
    assert again.finished
    assert [(event["kind"], event["trained"]) for event in told] == [("end", 0)]
    assert {file: file.read_bytes() for file in run.folder.rglob("*") if file.is_file()} == before


def test_run_stopped_after_its_last_epoch_only_writes_what_is_missing(
    squares: Manifest, configure: Callable[..., TrainConfig], tmp_path: Path
) -> None:
    run = train(configure(schedule={"epochs": 2}), squares, out=tmp_path / "run")
    predictions = run.folder / "predictions.csv"
    before = predictions.read_bytes()
    predictions.unlink()
    told: list[dict[str, Any]] = []
    resume(run.folder, events=told.append)
    assert predictions.read_bytes() == before
    assert "batch" not in {event["kind"] for event in told}


def test_resuming_needs_the_initial_checkpoint_no_more(
    squares: Manifest, configure: Callable[..., TrainConfig], tmp_path: Path
) -> None:
    network = create_network("resnet10_w16", num_classes=2, image_size=32)
    save_file(network.state_dict(), tmp_path / "start.safetensors")
    config = configure(network={"checkpoint": str(tmp_path / "start.safetensors")})
    with pytest.raises(Interrupted):
        train(config, squares, out=tmp_path / "run", events=stop_at(1, 1))
    (tmp_path / "start.safetensors").unlink()
    assert resume(tmp_path / "run").finished


def test_resuming_with_other_settings_or_data_is_refused(
    squares: Manifest, configure: Callable[..., TrainConfig], tmp_path: Path
) -> None:
    with pytest.raises(Interrupted):
        train(configure(), squares, out=tmp_path / "run", events=stop_at(1, 1))
    with pytest.raises(InputError, match="other settings"):
        train(configure(optimizer={"lr": 1e-4}), squares, out=tmp_path / "run", resume=True)
    fewer = squares.replace(table=squares.table.drop(index=0))
    with pytest.raises(InputError, match="other data"):
        train(configure(), fewer, out=tmp_path / "run", resume=True)


def test_damaged_checkpoint_is_named(squares: Manifest, configure: Callable[..., TrainConfig], tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        train(configure(), squares, out=tmp_path / "run", events=stop_at(1, 1))
    state = tmp_path / "run/checkpoints/last.pt"
    state.write_bytes(state.read_bytes()[:1000])
    with pytest.raises(InputError, match=r"last\.pt is damaged"):
        resume(tmp_path / "run")


def test_checkpoint_is_read_without_unpickling(
    squares: Manifest, configure: Callable[..., TrainConfig], tmp_path: Path
) -> None:
    run = train(configure(schedule={"epochs": 1}, run={"ema_decay": 0.9}), squares, out=tmp_path / "run")
    state = torch.load(run.folder / "checkpoints/last.pt", weights_only=True)
    assert state["epoch"] == 0
    assert state["optimizer"]["state"]
    for line in (run.folder / "metrics.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=pytest.fail)


@pytest.mark.parametrize("written", [False, True], ids=["before the state", "after the state"])
def test_best_weights_are_of_the_best_epoch_when_an_epoch_trained_again_comes_out_otherwise(
    written: bool,
    squares: Manifest,
    configure: Callable[..., TrainConfig],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As on a GPU: the epoch that a kill took back was the best, and is not when it is trained again."""
    weights: dict[int, dict[str, torch.Tensor]] = {}
    best, save = tmp_path / "run/checkpoints/best.safetensors", training.loop.save_state

    def killed(path: Path, state: dict[str, Any]) -> None:
        last = path.parent / "last.safetensors"
        if written or state["epoch"] != 1:
            save(path, state)
        if state["epoch"] >= 0:
            weights[state["epoch"]] = load_file(last)
        if state["epoch"] == 1:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(training.loop, "save_state", killed)
        patched.setattr(training.loop.Best, "beaten_by", lambda self, value, loss: True)
        with pytest.raises((Interrupted, KeyboardInterrupt)):
            train(configure(schedule={"epochs": 3}), squares, out=tmp_path / "run")
    monkeypatch.setattr(training.loop.Best, "beaten_by", lambda self, value, loss: False)
    run = resume(tmp_path / "run")
    about = json.loads((run.folder / "environment.json").read_text(encoding="utf-8"))
    assert about["kept"]["epoch"] == int(written)
    kept = load_file(best)
    assert all(torch.equal(kept[key], value) for key, value in weights[int(written)].items())
    assert sorted(path.name for path in best.parent.iterdir()) == ["best.safetensors", "last.pt", "last.safetensors"]
