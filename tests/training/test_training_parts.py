"""Runs that go on with other parts of a batch than they had: which are another training, and that they say so."""

from __future__ import annotations

import functools
import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from torch import nn
from two_processes import Weights, weights_of_two

import training.loop
from medsharp.config import TrainConfig, validate_config
from medsharp.data.manifest import read_manifest
from medsharp.data.sharing import Division
from medsharp.networks import create_network
from training import Processes, Run, train
from training.notes import notes_on_parts
from training.strategy import division_of

PARTS = {"schedule": {"accumulation": 2}}
"""Of one process as many as of two."""


def configured(network: str, *changes: dict[str, dict[str, Any]]) -> TrainConfig:
    values: dict[str, dict[str, Any]] = {
        "data": {"image_size": 32, "crop": "none", "augmentation": "none", "cache": "memory"},
        "network": {"name": network},
        "optimizer": {"name": "sam", "base": "sgd", "lr": 0.01},
        "schedule": {"epochs": 2, "warmup_epochs": 0, "batch_size": 8},
        "run": {"device": "cpu", "precision": "fp32", "perturbation": "synchronised"},
    }
    for change in changes:
        for section, own in change.items():
            values[section] = {**values[section], **own}
    return validate_config(values)


@functools.cache
def network_of(name: str, drop_rate: float) -> Any:
    return create_network(name, num_classes=2, image_size=32, drop_rate=drop_rate)


MICRO = {"optimizer": {"micro_batch": 4}}
NOISE = {"network": {"drop_rate": 0.3}}
SYNCHRONISED = {"run": {"sync_batch_norm": True}}


@pytest.mark.parametrize(
    ("network", "changes", "begun", "now", "words"),
    [
        (
            "resnet10_w16",
            {},
            Division(1, 1, 1),
            2,
            r"^1 process had a batch of 8 images in 1 part, and 2 have it in 2: batch norm",
        ),
        (
            "resnet10_w16",
            {},
            Division(4, 1, 0),
            3,
            r"^4 processes had .* in 4 parts, and 3 have it in 6: .* by 4 processes",
        ),
        ("resnet10_w16", NOISE, Division(1, 1, 1), 2, "batch norm .* and dropout draws"),
        (
            "resnet10_w16",
            MICRO,
            Division(1, 1, 1),
            3,
            "in 2 parts, and 3 have it in 3: the method climbs .* and batch norm",
        ),
        ("resnet10_w16", {**SYNCHRONISED, **NOISE}, Division(1, 1, 1), 2, "in 2: dropout draws"),
        ("test_convnext", NOISE, Division(1, 1, 1), 2, "in 2: dropout draws"),
        ("test_convnext", MICRO, Division(1, 1, 1), 3, "in 3: the method climbs"),
        ("test_convnext", {}, Division(1, 1, 1), 2, None),
        ("resnet10_w16", SYNCHRONISED, Division(1, 1, 1), 2, None),
        ("resnet10_w16", {**SYNCHRONISED, **PARTS}, Division(1, 2, 1), 2, "in 4: batch norm normalises other images"),
        ("resnet10_w16", MICRO, Division(1, 1, 1), 2, None),
        ("resnet10_w16", NOISE, Division(1, 2, 1), 2, None),
        ("resnet10_w16", NOISE, Division(2, 1, 0), 1, None),
        ("resnet10_w16", NOISE, Division(2, 1, 0), 2, None),
        ("resnet10_w16", NOISE, None, 2, None),
    ],
)
def test_what_other_parts_change_is_said(
    network: str, changes: dict[str, Any], begun: Division | None, now: int, words: str | None
) -> None:
    config = configured(network, changes)
    before = None if begun is None else asdict(begun)
    about = (before, division_of(config, now, before), config, network_of(network, config.network.drop_rate))
    notes = notes_on_parts(*about, epoch=1)
    assert len(notes) == (words is not None)
    assert notes_on_parts(*about, epoch=2) == []  # nothing is trained any more
    for note in notes:
        assert re.search(str(words), note), note


@pytest.mark.parametrize("rate", [0.0, 0.3])
def test_dropout_of_a_layer_by_itself_is_seen(rate: float) -> None:
    layers = nn.Sequential(nn.Linear(3, 2), nn.Dropout(rate))
    config = configured("test_convnext")
    notes = notes_on_parts(asdict(Division(1, 1, 1)), Division(2, 1, 1), config, layers, epoch=0)
    assert len(notes) == (rate > 0)
    assert all("dropout draws for each part by itself" in note for note in notes)


def resume(rank: int, data: Path, out: Path) -> Weights:
    """What each of two processes does with the runs that one has begun."""
    notes: dict[str, list[str]] = {}
    for name in ("one part", "two parts"):
        run = Run(out / name) if rank == 0 else None
        config = configured("resnet10_w16", PARTS if name == "two parts" else {}) if run is None else run.config

        def tell(event: dict[str, Any], name: str = name) -> None:
            if event["kind"] == "start":
                notes[name] = event["notes"]

        train(
            config, read_manifest(data), out=out / name, resume=True, events=tell, processes=Processes(rank, 2, rank, 2)
        )
    if rank == 0:
        (out / "notes.json").write_text(json.dumps(notes))
    return {}


def test_batch_norm_of_more_processes_than_parts_is_another_training_and_says_so(
    squares: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Begun by one process and stopped after an epoch, resumed by two."""
    whole = {
        name: train(configured("resnet10_w16", changes), squares, out=tmp_path / f"whole of {name}")
        for name, changes in (("one part", {}), ("two parts", PARTS))
    }
    with monkeypatch.context() as patched:
        run_epoch = training.loop._Trainer.run_epoch

        def stopped(self: Any, epoch: int) -> None:
            if epoch == 1:
                raise KeyboardInterrupt
            run_epoch(self, epoch)

        patched.setattr(training.loop._Trainer, "run_epoch", stopped)
        for name, changes in (("one part", {}), ("two parts", PARTS)):
            with pytest.raises(KeyboardInterrupt):
                train(configured("resnet10_w16", changes), squares, out=tmp_path / name)
    (tmp_path / "ranks").mkdir()
    weights_of_two(functools.partial(resume, data=squares.root, out=tmp_path), tmp_path / "ranks")
    notes = json.loads((tmp_path / "notes.json").read_text())
    assert notes["two parts"] == []
    (note,) = notes["one part"]
    assert "batch norm normalises each part by its own images" in note
    differences = {}
    for name, run in whole.items():
        one, other = (
            load_file(each.folder / "checkpoints" / "last.safetensors") for each in (run, Run(tmp_path / name))
        )
        differences[name] = max(float((value - other[key]).abs().max()) for key, value in one.items())
    assert differences["two parts"] < 1e-5
    assert differences["one part"] > 1e-3
