"""What a loop is expected to have: accumulation, fp16 with a scaled loss, a compiled model, a longer training."""

from __future__ import annotations

import functools
import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from medsharp.config import TrainConfig
from medsharp.data.manifest import Manifest
from medsharp.errors import InputError
from training import Interrupted, Run, change_settings, train
from training.losses import Objective

Configure = Callable[..., TrainConfig]
NO_BATCH_NORM = {"network": {"name": "test_convnext"}, "optimizer": {"name": "gsam", "base": "sgd", "lr": 0.01}}


def farthest(one: Run, other: Run) -> float:
    first, second = (load_file(run.folder / "checkpoints/last.safetensors") for run in (one, other))
    return max(float((value.double() - second[key].double()).abs().max()) for key, value in first.items())


def stop_at(epoch: int, done: int) -> Callable[[dict[str, Any]], None]:
    def events(event: dict[str, Any]) -> None:
        if event["kind"] == "batch" and (event["epoch"], event["done"]) == (epoch, done):
            raise KeyboardInterrupt

    return events


@pytest.fixture
def evaluated(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many images each forward pass has."""
    sizes: list[int] = []
    forward = Objective.forward

    def watched(self: Objective, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        sizes.append(len(batch["label"]))
        return forward(self, batch)

    monkeypatch.setattr(Objective, "forward", watched)
    return sizes


def test_accumulated_parts_take_the_step_of_the_whole_batch(
    squares: Manifest, configure: Configure, tmp_path: Path, evaluated: list[int]
) -> None:
    whole = train(configure(**NO_BATCH_NORM, schedule={"epochs": 1}), squares, out=tmp_path / "whole")
    assert max(evaluated) == 6
    evaluated.clear()
    parts = train(
        configure(**NO_BATCH_NORM, schedule={"epochs": 1, "accumulation": 4}), squares, out=tmp_path / "parts"
    )
    assert max(evaluated) == 2
    assert farthest(whole, parts) <= 1e-6
    assert parts.metrics()[0]["train_loss"] == pytest.approx(whole.metrics()[0]["train_loss"], abs=1e-6)


def test_accumulated_run_resumes_to_the_same_weights(squares: Manifest, configure: Configure, tmp_path: Path) -> None:
    config = configure(
        network={"drop_rate": 0.3}, schedule={"accumulation": 2}, run={"ema_decay": 0.9}, optimizer={"name": "crsam"}
    )
    whole = train(config, squares, out=tmp_path / "whole")
    with pytest.raises(Interrupted):
        train(config, squares, out=tmp_path / "stopped", events=stop_at(1, 2))
    run = Run(tmp_path / "stopped")
    train(run.config, run.manifest, out=run.folder, resume=True)
    assert farthest(whole, run) == 0


def test_parts_of_one_image_are_refused_where_there_is_batch_norm(
    squares: Manifest, configure: Configure, tmp_path: Path
) -> None:
    with pytest.raises(
        InputError, match=r"batch_size = 6 for one process by schedule\.accumulation = 6 leaves 1 images"
    ):
        train(configure(schedule={"accumulation": 6}), squares, out=tmp_path / "run")
    with pytest.raises(InputError, match="leaves 0 images to a part; set it to 7 or more"):
        train(configure(**NO_BATCH_NORM, schedule={"accumulation": 7}), squares, out=tmp_path / "run")


def test_float16_scales_its_loss_and_learns(
    squares: Manifest, configure: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.amp, "GradScaler", functools.partial(torch.amp.GradScaler, init_scale=2.0**10))
    half = train(configure(run={"precision": "fp16"}), squares, out=tmp_path / "half")
    full = train(configure(), squares, out=tmp_path / "full")
    state = torch.load(half.folder / "checkpoints/last.pt", weights_only=True)
    assert state["scaler"]["scale"] == 2**10
    assert farthest(half, full) > 0
    for one, other in zip(half.metrics(), full.metrics(), strict=True):
        assert one["skipped_steps"] == 0
        assert one["train_loss"] == pytest.approx(other["train_loss"], abs=0.05)


def test_float16_run_resumes_to_the_same_weights(squares: Manifest, configure: Configure, tmp_path: Path) -> None:
    config = configure(run={"precision": "fp16"}, optimizer={"name": "sam"})
    whole = train(config, squares, out=tmp_path / "whole")
    with pytest.raises(Interrupted):
        train(config, squares, out=tmp_path / "stopped", events=stop_at(2, 1))
    run = Run(tmp_path / "stopped")
    train(run.config, run.manifest, out=run.folder, resume=True)
    assert farthest(whole, run) == 0


def test_scale_that_is_looked_for_is_no_divergence(
    squares: Manifest, configure: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scaler = functools.partial(torch.amp.GradScaler, init_scale=2.0**40)  # too high for every step of an epoch
    monkeypatch.setattr(torch.amp, "GradScaler", scaler)
    run = train(configure(run={"precision": "fp16"}, schedule={"epochs": 12}), squares, out=tmp_path / "run")
    records = run.metrics()
    assert records[0]["skipped_steps"] == 3
    assert records[-1]["skipped_steps"] < 3


@pytest.mark.filterwarnings("ignore")  # of the compiler's own, which differ from release to release
@pytest.mark.parametrize("method", ["wsam", "adamw"])
def test_compiled_model_trains_and_is_saved_as_the_plain_one(
    method: str, squares: Manifest, configure: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = train(configure(optimizer={"name": method}), squares, out=tmp_path / "plain")
    compiled: list[Any] = []
    real = torch.compile

    def compile_by_hand(model: Any, **options: Any) -> Any:
        compiled.append(model)
        return real(model, backend="eager", **options)  # the same operations, without a C++ compiler

    monkeypatch.setattr(torch, "compile", compile_by_hand)
    run = train(configure(optimizer={"name": method}, run={"compile": True}), squares, out=tmp_path / "compiled")
    assert len(compiled) == 1
    assert farthest(plain, run) == 0
    assert (plain.folder / "predictions.csv").read_bytes() == (run.folder / "predictions.csv").read_bytes()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the compiler's own, which differ from release to release
@pytest.mark.skipif(not any(map(shutil.which, ("c++", "g++", "clang++"))), reason="there is no C++ compiler")
def test_compiler_of_torch_makes_the_same_training(
    squares: Manifest, configure: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `run.compile` is meant: C++ is generated and built here."""
    from torch._dynamo.utils import counters
    from torch._inductor import metrics

    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))
    counters.clear()
    metrics.reset()
    # Steps of SGD follow the gradient, and not its sign where it is next to nothing.
    sections: dict[str, Any] = {"optimizer": {"name": "sam", "base": "sgd", "lr": 0.01}, "schedule": {"epochs": 2}}
    plain = train(configure(**sections), squares, out=tmp_path / "plain")
    assert metrics.generated_kernel_count == 0
    run = train(configure(**sections, run={"compile": True}), squares, out=tmp_path / "compiled")
    assert metrics.generated_kernel_count > 10
    assert not counters["graph_break"]
    assert farthest(plain, run) < 1e-3  # sums of kernels that are fused have another order
    for one, other in zip(plain.metrics(), run.metrics(), strict=True):
        assert one["train_loss"] == pytest.approx(other["train_loss"], rel=1e-3)
    resumed = change_settings(run.folder, ["schedule.epochs=3", "run.compile=false"])  # what is saved is the network
    train(resumed.config, resumed.manifest, out=resumed.folder, resume=True)
    assert len(resumed.metrics()) == 3


def test_finished_run_trains_longer(squares: Manifest, configure: Configure, tmp_path: Path) -> None:
    short = train(configure(schedule={"epochs": 2}), squares, out=tmp_path / "run")
    before = short.metrics()
    run = change_settings(short.folder, ["schedule.epochs=4"])
    assert not run.finished
    told: list[dict[str, Any]] = []
    train(run.config, run.manifest, out=run.folder, resume=True, events=told.append)
    assert Run(run.folder).finished
    records = run.metrics()
    assert records[:2] == before
    # The schedule is that of four epochs from here on; the first two had gone down that of two.
    whole = train(configure(schedule={"epochs": 4}), squares, out=tmp_path / "whole")
    assert [record["lr"] for record in records[2:]] == [record["lr"] for record in whole.metrics()[2:]]
    assert records[1]["lr"] < records[2]["lr"]
    (note,) = next(event["notes"] for event in told if event["kind"] == "start")
    assert "schedule.epochs was 2 and is 4: the learning rate was 2e-05 and goes on at 0.00" in note
    about = json.loads((run.folder / "environment.json").read_text())
    assert about["epochs_before"] == [2]
    # A second time: nothing is lost, and what was stopped on the way goes on.
    run = change_settings(run.folder, ["schedule.epochs=6"])
    with pytest.raises(Interrupted):
        train(run.config, run.manifest, out=run.folder, resume=True, events=stop_at(5, 1))
    run = change_settings(run.folder, ["schedule.epochs=6"])
    train(run.config, run.manifest, out=run.folder, resume=True)
    assert json.loads((run.folder / "environment.json").read_text())["epochs_before"] == [2, 4]
    assert len(run.metrics()) == 6


def test_backbone_that_was_frozen_to_the_end_stays_so(squares: Manifest, configure: Configure, tmp_path: Path) -> None:
    for frozen, after in ((2, 3), (1, 1)):
        config = configure(schedule={"epochs": 2, "frozen_epochs": frozen, "keep": "last"})
        run = train(config, squares, out=tmp_path / f"run-{frozen}")
        before = run.load_network().backbone.state_dict()
        longer = change_settings(run.folder, ["schedule.epochs=3"])
        assert longer.config.schedule.frozen_epochs == after
        train(longer.config, longer.manifest, out=run.folder, resume=True)
        weights = {key: value for key, value in before.items() if key.startswith("conv1")}
        trained = Run(run.folder).load_network().backbone.state_dict()
        assert all(torch.equal(value, trained[key]) for key, value in weights.items()) == (frozen == 2)
    with pytest.raises(InputError, match=r"schedule\.frozen_epochs of a run that has begun stays as it is"):
        change_settings(tmp_path / "run-1", ["schedule.frozen_epochs=2", "schedule.epochs=5"])


def test_run_that_was_stopped_may_end_earlier(squares: Manifest, configure: Configure, tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        train(configure(), squares, out=tmp_path / "run", events=stop_at(2, 1))
    with pytest.raises(InputError, match="has trained 2 epochs already"):
        change_settings(tmp_path / "run", ["schedule.epochs=1"])
    run = change_settings(tmp_path / "run", ["schedule.epochs=2", "run.workers=1", "run.device=auto"])
    assert (run.config.run.workers, run.config.run.device) == (1, "auto")
    train(run.config, run.manifest, out=run.folder, resume=True)
    assert Run(run.folder).finished
    assert len(run.metrics()) == 2


def test_other_settings_of_a_begun_run_stay(squares: Manifest, configure: Configure, tmp_path: Path) -> None:
    run = train(configure(schedule={"epochs": 1}), squares, out=tmp_path / "run")
    before = {file: file.read_bytes() for file in run.folder.rglob("*") if file.is_file()}
    for key in ("optimizer.lr=0.1", "schedule.batch_size=4", "seed=2", "optimizer.sam.rho=1"):
        with pytest.raises(InputError, match=f"{key.partition('=')[0]} of a run that has begun stays as it is"):
            change_settings(run.folder, [key, "schedule.epochs=3"])
    change_settings(run.folder, ["schedule.epochs=1"])
    assert {file: file.read_bytes() for file in run.folder.rglob("*") if file.is_file()} == before
    (run.folder / "checkpoints/last.pt").unlink()
    with pytest.raises(InputError, match=r"cannot go on: it has no checkpoints/last\.pt any more"):
        change_settings(run.folder, ["schedule.epochs=3"])
    assert Run(run.folder).finished


@pytest.mark.gpu
def test_options_train_on_a_gpu(squares: Manifest, configure: Configure, tmp_path: Path) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    options = {"device": "cuda", "precision": "fp16", "compile": True}
    run = train(configure(run=options, schedule={"accumulation": 2}), squares, out=tmp_path / "run")
    assert math.isfinite(run.metrics()[-1]["train_loss"])
    if torch.cuda.device_count() > 1:
        train(configure(run={"device": "cuda:1"}), squares, out=tmp_path / "second")
