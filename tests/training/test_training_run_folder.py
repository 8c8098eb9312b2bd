from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from medsharp.config import TrainConfig
from medsharp.data.manifest import Manifest
from medsharp.errors import InputError
from training import Interrupted, Run, train


def _interrupt(event: dict[str, Any]) -> None:
    if event["kind"] == "start":
        raise KeyboardInterrupt


def test_folder_with_files_is_refused_and_left_alone(
    squares: Manifest, configure: Callable[..., TrainConfig], tmp_path: Path
) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match="exists already; choose another folder"):
        train(configure(), squares, out=tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.txt"]


def test_existing_run_is_offered_for_resumption(
    squares: Manifest, configure: Callable[..., TrainConfig], tmp_path: Path
) -> None:
    with pytest.raises(Interrupted):
        train(configure(), squares, out=tmp_path / "run", events=_interrupt)
    with pytest.raises(InputError, match=f"medsharp train --resume {tmp_path / 'run'}"):
        train(configure(), squares, out=tmp_path / "run")


def test_file_in_place_of_the_folder_is_refused(
    squares: Manifest, configure: Callable[..., TrainConfig], tmp_path: Path
) -> None:
    (tmp_path / "run").write_text("")
    with pytest.raises(InputError, match="cannot make the run folder"):
        train(configure(), squares, out=tmp_path / "run")


def test_resuming_what_is_not_there_makes_nothing(
    squares: Manifest, configure: Callable[..., TrainConfig], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="does not exist"):
        train(configure(), squares, out=tmp_path / "run", resume=True)
    assert not (tmp_path / "run").exists()


def test_refusal_before_the_first_checkpoint_leaves_nothing(
    squares: Manifest, configure: Callable[..., TrainConfig], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"nowhere\.pt does not exist"):
        train(configure(network={"checkpoint": "nowhere.pt"}), squares, out=tmp_path / "run")
    assert not list(tmp_path.iterdir())
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"nowhere\.pt does not exist"):
        train(configure(network={"checkpoint": "nowhere.pt"}), squares, out=tmp_path / "empty")
    assert train(configure(schedule={"epochs": 1}), squares, out=tmp_path / "empty").finished


def test_second_training_in_the_same_folder_is_refused(
    squares: Manifest, configure: Callable[..., TrainConfig], tmp_path: Path
) -> None:
    refused = []

    def events(event: dict[str, Any]) -> None:
        if event["kind"] == "start":
            with pytest.raises(InputError, match="another training is writing") as caught:
                train(configure(), squares, out=tmp_path / "run", resume=True)
            refused.append(caught)

    assert train(configure(schedule={"epochs": 3}), squares, out=tmp_path / "run", events=events).finished
    assert refused


def test_incomplete_run_folders_name_what_they_lack(
    squares: Manifest, configure: Callable[..., TrainConfig], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="does not exist"):
        Run.load(tmp_path / "none")
    with pytest.raises(InputError, match=r"no config\.yaml"):
        Run.load(tmp_path)
    with pytest.raises(Interrupted):
        train(configure(), squares, out=tmp_path / "run", events=_interrupt)
    run = Run.load(tmp_path / "run")
    assert not run.finished
    assert run.metrics() == []
    with pytest.raises(InputError, match=r"no checkpoints/best\.safetensors"):
        run.load_network()
    (tmp_path / "run/metrics.jsonl").write_text('{"epoch": 0}\n{"epo')
    with pytest.raises(InputError, match=r"metrics\.jsonl"):
        run.metrics()
    (tmp_path / "run/manifest.csv").unlink()
    with pytest.raises(InputError, match=r"no manifest\.csv"):
        Run.load(tmp_path / "run")


def test_damaged_weights_are_named(squares: Manifest, configure: Callable[..., TrainConfig], tmp_path: Path) -> None:
    run = train(configure(schedule={"epochs": 1}), squares, out=tmp_path / "run")
    weights = run.folder / "checkpoints/best.safetensors"
    weights.write_bytes(weights.read_bytes()[:500])
    with pytest.raises(InputError, match=r"best\.safetensors"):
        run.load_network()


def test_run_keeps_configuration_and_manifest(
    squares: Manifest, configure: Callable[..., TrainConfig], tmp_path: Path
) -> None:
    with pytest.raises(Interrupted):
        train(configure(), squares, out=tmp_path / "run", events=_interrupt)
    run = Run.load(tmp_path / "run")
    assert run.config.optimizer.wsam.gamma == 0.9
    assert run.manifest.table.equals(squares.table)
    assert run.manifest.root == squares.root
