"""Two processes train what one trains: the same images a step, the same weights, every image judged once."""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from two_processes import Weights, weights_of_two

import training.loop
from medsharp.config import TrainConfig, validate_config
from medsharp.data.manifest import Manifest, read_manifest
from medsharp.data.sharing import Division
from medsharp.errors import InputError, ToldElsewhereError
from training import ALONE, Processes, Run, check_config, torchrun_processes, train
from training.strategy import division_of

METHODS = ("sam", "asam", "gsam", "wsam", "crsam")
PLAIN = "test_convnext"
"""Without batch norm."""

BASE: dict[str, dict[str, Any]] = {
    "data": {"image_size": 32, "crop": "none", "augmentation": "standard", "cache": "memory"},
    "network": {"name": PLAIN},
    "optimizer": {"name": "sam", "base": "sgd", "lr": 0.01},
    "schedule": {"epochs": 1, "warmup_epochs": 0, "batch_size": 8},
    "run": {"device": "cpu", "precision": "fp32", "perturbation": "synchronised"},
}
Changes = dict[str, dict[str, Any]]

PARTS: Changes = {"schedule": {"accumulation": 2}}
SLOW: Changes = {"optimizer": {"lr": 0.002}}
FSDP: Changes = {"run": {"strategy": "fsdp", "perturbation": "worker"}}
WORKER: Changes = {"run": {"perturbation": "worker"}}
RESNET: Changes = {"network": {"name": "resnet10_w16"}}
NOISE: Changes = {
    "network": {"name": "resnet10_w16", "drop_rate": 0.3, "drop_path_rate": 0.2},
    "data": {"augmentation": "strong", "sampling": "balanced"},
    "loss": {"mask_weight": 0.5},
    "run": {"ema_decay": 0.9},
    "schedule": {"epochs": 2, "frozen_epochs": 1},
}

# What two processes train, and what one does in its place.
SAME: dict[str, tuple[Changes, Changes]] = {
    **{name: ({"optimizer": {"name": name}}, {"optimizer": {"name": name}}) for name in METHODS},
    "sgd": ({"optimizer": {"name": "sgd"}}, {"optimizer": {"name": "sgd"}}),
    # Adam divides by the root of the second moment, which for a gradient near zero is rounding: not so with an epsilon.
    "adamw": ({"optimizer": {"base": "adamw", "eps": 1e-3}}, {"optimizer": {"base": "adamw", "eps": 1e-3}}),
    **{
        f"{name}, each for itself": (
            {"optimizer": {"name": name}, **WORKER},
            {"optimizer": {"name": name, "micro_batch": 4}, **WORKER},
        )
        for name in ("sam", "wsam")
    },
    "accumulation": (PARTS, {}),
    **{f"fsdp, {name}": ({"optimizer": {"name": name}, **FSDP}, {"optimizer": {"name": name}}) for name in METHODS},
    "fsdp, accumulation": ({**PARTS, **FSDP}, {}),
    # Gradients are halved before they are added up, and batch norm enlarges the rounding.
    "fsdp, batch norm": (
        {**RESNET, **SLOW, **FSDP},
        {**RESNET, **SLOW, **PARTS, "run": {"channels_last": False}},
    ),
    "batch norm": (RESNET, {**RESNET, **PARTS}),
    "noise": (NOISE, {**NOISE, "schedule": {**NOISE["schedule"], **PARTS["schedule"]}}),
    # Of 29 images: the last batch has 3, fewer than there are parts.
    "last batch smaller than the parts": (
        {"schedule": {"batch_size": 13, "accumulation": 2}},
        {"schedule": {"batch_size": 13}},
    ),
}


def configured(*changes: Changes) -> TrainConfig:
    values: dict[str, Any] = {name: dict(section) for name, section in BASE.items()}
    for change in changes:
        for name, section in change.items():
            values[name] = {**values.get(name, {}), **section}
    return validate_config(values)


@contextlib.contextmanager
def stopping_after(epochs: int) -> Iterator[None]:
    """Let every process of a training be interrupted after so many epochs."""
    run_epoch = training.loop._Trainer.run_epoch

    def stopped(self: Any, epoch: int) -> None:
        if epoch >= epochs:
            raise KeyboardInterrupt
        run_epoch(self, epoch)

    training.loop._Trainer.run_epoch = stopped  # type: ignore[method-assign]
    try:
        with contextlib.suppress(KeyboardInterrupt):
            yield
    finally:
        training.loop._Trainer.run_epoch = run_epoch  # type: ignore[method-assign]


RESUMED: dict[str, Changes] = {
    "together": {"schedule": {"epochs": 2}},
    "each for itself": {**WORKER, "schedule": {"epochs": 2}},
    "remembering": {"optimizer": {"name": "fsam", "lr": 0.003}, **WORKER, "schedule": {"epochs": 2}},
    "plain": {"optimizer": {"name": "sgd"}, **WORKER, "schedule": {"epochs": 2}},
    "noise": NOISE,
    "fsdp": {
        **FSDP,
        "optimizer": {"name": "fsam", "base": "adamw", "eps": 1e-3},
        "schedule": {"epochs": 2},
    },
}


def worker(rank: int, data: Path, out: Path) -> Weights:
    """What each of the two processes does."""
    processes = Processes(rank, 2, rank, 2)
    manifest = read_manifest(data)
    for name, (two, _) in SAME.items():
        train(configured(two), manifest, out=out / "two" / name, processes=processes)
    for name, changes in RESUMED.items():
        train(configured(changes), manifest, out=out / "whole by two" / name, processes=processes)
        # Begun by two, to be resumed by one; and begun by one, resumed by two.
        with stopping_after(1):
            train(configured(changes), manifest, out=out / "begun by two" / name, processes=processes)
        run = Run(out / "begun by one" / name) if rank == 0 else None
        config = configured(changes) if run is None else run.config
        train(config, manifest, out=out / "begun by one" / name, resume=True, processes=processes)
    with stopping_after(1):
        train(configured(NOISE), manifest, out=out / "again", processes=processes)
    train(configured(NOISE), manifest, out=out / "again", resume=True, processes=processes)
    refusing(processes, manifest, out)
    return {}


def refusing(processes: Processes, manifest: Manifest, out: Path) -> None:
    """What one of them cannot do ends both, with the sentence told by one."""
    with pytest.raises(InputError, match="exists already" if processes.leads else "process 0: .* exists already"):
        train(configured(), manifest, out=out / "two" / "sam", processes=processes)
    kind = InputError if processes.rank == 1 else ToldElsewhereError
    broken = manifest.replace(table=manifest.table.assign(image="nowhere.png")) if processes.rank == 1 else manifest
    with pytest.raises(kind, match=r"nowhere\.png") as raised:
        train(configured(), broken, out=out / "refused", processes=processes)
    assert isinstance(raised.value, ToldElsewhereError) == (processes.rank == 0)
    assert not (out / "refused").exists()
    small = configured({"schedule": {"batch_size": 2}, **RESNET})
    with pytest.raises(InputError, match="batch_size = 2 for 2 processes leaves 1 images to a part, and batch norm"):
        train(small, manifest, out=out / "refused", processes=processes)
    with pytest.raises(InputError, match="synchronises batch norm on GPUs only"):
        train(configured({"run": {"sync_batch_norm": True}}), manifest, out=out / "refused", processes=processes)


@pytest.fixture(scope="module")
def squares_29(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """No split is divided by two, nor is the last batch of an epoch."""
    from tests.training.conftest import make_manifest

    return make_manifest(tmp_path_factory.mktemp("squares"), {"train": 29, "val": 9, "test": 5})


@pytest.fixture(scope="module")
def out(squares_29: Manifest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The runs of two processes, and those of one by the same names."""
    out = tmp_path_factory.mktemp("out")
    for name, (_, one) in SAME.items():
        train(configured(one), squares_29, out=out / "one" / name)
    for name, changes in RESUMED.items():
        train(configured(changes), squares_29, out=out / "whole by one" / name)
        with stopping_after(1):
            train(configured(changes), squares_29, out=out / "begun by one" / name)
    weights_of_two(functools.partial(worker, data=squares_29.root, out=out), tmp_path_factory.mktemp("ranks"))
    for name in RESUMED:
        run = Run(out / "begun by two" / name)
        train(run.config, run.manifest, out=run.folder, resume=True)
    return out


def weights(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "checkpoints" / "last.safetensors")


def farthest(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    """The largest difference of a weight or running statistic, as a share of those above 1."""
    assert one.keys() == other.keys()
    differences = [(value.double(), (value.double() - other[key].double()).abs()) for key, value in one.items()]
    return max(float((far / value.abs().clamp(min=1)).max()) for value, far in differences)


@pytest.mark.parametrize("name", SAME)
def test_two_processes_come_to_the_weights_of_one(name: str, out: Path) -> None:
    one, two = out / "one" / name, out / "two" / name
    assert farthest(weights(one), weights(two)) <= 1e-6
    assert Run(two).metrics()[-1]["train_loss"] == pytest.approx(Run(one).metrics()[-1]["train_loss"], abs=1e-6)


@pytest.mark.parametrize("name", SAME)
def test_two_processes_judge_every_image_once(name: str, out: Path) -> None:
    one, two = (Run(out / number / name) for number in ("one", "two"))
    for first, second in zip(one.metrics(), two.metrics(), strict=True):
        assert first["val_auroc"] == second["val_auroc"]
        assert first["val_loss"] == pytest.approx(second["val_loss"], abs=1e-6)
    tables = [pd.read_csv(run.folder / "predictions.csv") for run in (one, two)]
    assert len(tables[0]) == 14
    pd.testing.assert_frame_equal(tables[0], tables[1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", RESUMED)
def test_run_begun_by_two_is_finished_by_one(name: str, out: Path) -> None:
    assert farthest(weights(out / "begun by two" / name), weights(out / "whole by two" / name)) <= 1e-6
    assert Run(out / "begun by two" / name).finished


@pytest.mark.parametrize("name", [name for name in RESUMED if name != "noise"])
def test_run_begun_by_one_is_finished_by_two(name: str, out: Path) -> None:
    assert farthest(weights(out / "begun by one" / name), weights(out / "whole by one" / name)) <= 1e-6
    about = json.loads((out / "begun by one" / name / "environment.json").read_text())
    assert about["processes"] == 2


def test_stopped_run_of_two_resumes_to_the_same_bits(out: Path) -> None:
    assert farthest(weights(out / "again"), weights(out / "two" / "noise")) == 0
    records = [Run(out / name).metrics() for name in ("again", "two/noise")]
    for first, second in zip(*records, strict=True):
        assert first["val_loss"] == second["val_loss"]


def test_climbing_each_for_itself_is_not_climbing_together(out: Path) -> None:
    for name in ("sam", "wsam"):
        assert farthest(weights(out / "two" / name), weights(out / "two" / f"{name}, each for itself")) > 1e-5


@pytest.mark.parametrize(
    ("changes", "begun", "processes", "expected"),
    [
        ({}, None, 1, Division(1, 1, 1)),
        ({}, None, 4, Division(4, 1, 0)),
        (WORKER, None, 4, Division(4, 1, 1)),
        (PARTS, None, 4, Division(4, 2, 0)),
        ({}, Division(4, 1, 0), 2, Division(2, 2, 0)),
        ({}, Division(4, 1, 0), 3, Division(3, 2, 0)),
        (WORKER, Division(4, 1, 1), 2, Division(2, 2, 2)),
        (WORKER, Division(4, 2, 1), 1, Division(1, 8, 4)),
        (WORKER, Division(1, 1, 1), 2, Division(2, 1, 0)),
        (WORKER, Division(2, 1, 1), 2, Division(2, 1, 1)),
        ({**WORKER, "optimizer": {"name": "sgd"}}, Division(3, 1, 1), 2, Division(2, 2, 1)),
        ({**WORKER, "optimizer": {"micro_batch": 2}}, Division(4, 1, 1), 3, Division(3, 1, 1)),
    ],
)
def test_run_is_divided_as_it_was_begun(
    changes: Changes, begun: Division | None, processes: int, expected: Division
) -> None:
    assert division_of(configured(changes), processes, None if begun is None else asdict(begun)) == expected


@pytest.mark.parametrize(
    ("changes", "processes"),
    [(WORKER, 3), (WORKER, 8), ({**WORKER, "optimizer": {"name": "esam", "beta": 0.5}}, 2)],
)
def test_climbs_that_cannot_be_divided_are_refused(changes: Changes, processes: int) -> None:
    with pytest.raises(InputError, match="begun by 4 processes, each of which climbs for itself"):
        division_of(configured(changes), processes, asdict(Division(4, 1, 1)))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {**PARTS, "optimizer": {"micro_batch": 2}},
            r"schedule\.accumulation = 2: optimizer\.sam\.micro_batch divides",
        ),
        ({**PARTS, "optimizer": {"name": "esam", "gamma": 0.5}}, r"schedule\.accumulation = 2: optimizer\.esam\.gamma"),
        ({"optimizer": {"name": "esam", "beta": 0.5}}, r"run\.perturbation = synchronised: .*beta=1"),
        ({"run": {"strategy": "fsdp"}, "optimizer": {"name": "esam"}}, "esam needs whole tensors"),
        ({"run": {"strategy": "fsdp", "precision": "fp16"}}, r"run\.strategy = fsdp: fp16"),
        ({"run": {"strategy": "fsdp", "ema_decay": 0.9}}, r"run\.strategy = fsdp: run\.ema_decay"),
        ({"run": {"strategy": "fsdp", "compile": True}}, r"run\.strategy = fsdp: .*run\.compile"),
        ({**FSDP, "schedule": {"frozen_epochs": 1}}, r"run\.strategy = fsdp: schedule\.frozen_epochs"),
    ],
)
def test_settings_that_do_not_go_together_are_named(changes: Changes, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        check_config(configured(changes))


def test_variables_of_torchrun_alone_make_nothing_of_several_processes(
    squares_29: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a study's or a cross-validation's processes, or a job of Slurm, may find them."""
    for name, value in {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2", "TORCHELASTIC_RUN_ID": "none"}.items():
        monkeypatch.setenv(name, value)
    assert train(configured(), squares_29, out=tmp_path / "run").finished


def test_single_process_of_torchrun_trains_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    monkeypatch.setenv("WORLD_SIZE", "1")
    with torchrun_processes(pytest.fail) as processes:
        assert processes == ALONE


def test_each_process_has_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    second = Processes(1, 2, 1, 2)
    assert second.device("cpu") == torch.device("cpu")
    with pytest.raises(InputError, match="'cuda:1' is one GPU, and torchrun has started 2 processes"):
        second.device("cuda:1")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert second.device("auto") == second.device("cuda") == torch.device("cuda:1")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(InputError, match="started 2 processes on this machine, which has 1 GPUs"):
        second.device("auto")
