"""Every key of the configuration arrives where it acts, by way of `train` and on data whose classes are uneven."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

import training.datasets
import training.learner
import training.loop
from medsharp.config import TrainConfig, validate_config
from medsharp.data.manifest import DatasetInfo, Manifest, make_table
from medsharp.data.pipeline import make_dataset, make_loader
from medsharp.optim import XSAM
from medsharp.optimizer_config import METHODS
from medsharp.preprocess import PreprocessSpec
from medsharp.settings import Section
from training import Run, train
from training.losses import Objective

COUNTS = {("train", "benign"): 9, ("train", "malignant"): 4, ("val", "benign"): 3, ("val", "malignant"): 2}
COUNTS |= {("test", "benign"): 2, ("test", "malignant"): 1}

# Of all training images at once: the one step of an epoch, whose gradient depends on nothing but the configuration.
BASE: dict[str, dict[str, Any]] = {
    "data": {"image_size": 32, "crop": "none", "augmentation": "none", "cache": "memory"},
    "network": {"name": "resnet10_w16"},
    "optimizer": {"name": "adamw", "lr": 0.01},
    "schedule": {"epochs": 2, "warmup_epochs": 0, "batch_size": 64},
    "run": {"device": "cpu", "precision": "fp32"},
}


@pytest.fixture(scope="module")
def uneven(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """Oblong noise with a black border; malignant ones are rarer, brighter and have all the masks but one."""
    folder = tmp_path_factory.mktemp("uneven")
    rng = np.random.default_rng(3)
    rows = []
    for (split, label), count in COUNTS.items():
        for number in range(count):
            pixels = np.zeros((48, 40), np.uint8)
            pixels[6:42, 4:36] = rng.integers(60, 160, size=(36, 32))
            top, left = rng.integers(8, 24, size=2)
            pixels[top : top + 10, left : left + 8] = 220 if label == "malignant" else 30
            name = f"{split}-{label}-{number}"
            Image.fromarray(pixels).save(folder / f"{name}.png")
            row = {"image": f"{name}.png", "label": label, "split": split, "patient": name}
            if label == "malignant" or number == 0:
                area = np.zeros_like(pixels)
                area[top : top + 10, left : left + 8] = 255
                Image.fromarray(area).save(folder / f"{name}-mask.png")
                row["mask"] = f"{name}-mask.png"
            rows.append(row)
    return Manifest(make_table(rows), DatasetInfo("uneven", ("benign", "malignant")), folder)


def changed(*changes: dict[str, Any]) -> TrainConfig:
    values: dict[str, Any] = {name: dict(section) for name, section in BASE.items()}
    for change in changes:
        for name, section in change.items():
            values[name] = {**values.get(name, {}), **section} if isinstance(section, dict) else section
    return validate_config(values)


Trained = Callable[..., dict[str, Tensor]]


@pytest.fixture(scope="module")
def trained(uneven: Manifest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trained]:
    """Train with changes to the base; gives the last weights, once for each change."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    kept: dict[str, dict[str, Tensor]] = {}

    def run(*changes: dict[str, Any]) -> dict[str, Tensor]:
        key = repr(changes)
        if key not in kept:
            out = tmp_path_factory.mktemp("run") / "run"
            kept[key] = load_file(train(changed(*changes), uneven, out=out).folder / "checkpoints/last.safetensors")
        return kept[key]

    yield run
    torch.set_num_threads(threads)


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return all(torch.equal(first[key], second[key]) for key in first)


SAM = {"optimizer": {"name": "sam"}}
MID = {"network": {"mean": 0.5, "std": 0.5}}
SGD = {"optimizer": {"name": "sgd"}}

# What is trained without and with a key: the weights must differ.
CHANGES_WEIGHTS: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("seed", {}, {"seed": 1}),
    ("data.image_size", {}, {"data": {"image_size": 48}}),
    ("data.crop", {}, {"data": {"crop": "scan"}}),
    ("data.fit", {}, {"data": {"fit": "stretch"}}),
    ("data.margin", {"data": {"crop": "scan"}}, {"data": {"crop": "none", "margin": 0.5}}),
    ("data.augmentation", {}, {"data": {"augmentation": "strong"}}),
    ("data.sampling", {}, {"data": {"sampling": "balanced"}}),
    ("network.drop_rate", {}, {"network": {"drop_rate": 0.5}}),
    ("network.drop_path_rate", {}, {"network": {"drop_path_rate": 0.5}}),
    ("network.normalization", {}, {"network": {"normalization": "image"}}),
    ("network.pooling", {"loss": {"mask_weight": 1.0}, "data": {"image_size": 64}}, {"network": {"pooling": "lesion"}}),
    ("network.mean", MID, {"network": {"mean": 0.3}}),
    ("network.std", MID, {"network": {"std": [0.1, 0.2, 0.3]}}),
    ("optimizer.name", {}, {"optimizer": {"name": "adam"}}),
    ("optimizer.base", SAM, {"optimizer": {"base": "sgd"}}),
    ("optimizer.lr", {}, {"optimizer": {"lr": 0.02}}),
    ("optimizer.weight_decay", {}, {"optimizer": {"weight_decay": 0.5}}),
    ("optimizer.backbone_lr_ratio", {}, {"optimizer": {"backbone_lr_ratio": 0.5}}),
    ("optimizer.layer_decay", {}, {"optimizer": {"layer_decay": 0.5}}),
    ("schedule.epochs", {}, {"schedule": {"epochs": 1}}),
    ("schedule.warmup_epochs", {"schedule": {"epochs": 3}}, {"schedule": {"warmup_epochs": 2.0}}),
    ("schedule.batch_size", {}, {"schedule": {"batch_size": 7}}),
    ("schedule.accumulation", {}, {"schedule": {"accumulation": 2}}),  # parts are normalised by themselves
    ("schedule.final_lr_ratio", {}, {"schedule": {"final_lr_ratio": 0.5}}),
    ("schedule.frozen_epochs", {}, {"schedule": {"frozen_epochs": 1}}),
    ("schedule.rho", SAM, {"schedule": {"rho": "linear"}}),
    ("schedule.final_rho_ratio", {**SAM, "schedule": {"rho": "cosine"}}, {"schedule": {"final_rho_ratio": 0.5}}),
    ("loss.label_smoothing", {}, {"loss": {"label_smoothing": 0.0}}),
    ("loss.class_weights", {}, {"loss": {"class_weights": "none"}}),
    ("loss.mask_weight", {}, {"loss": {"mask_weight": 1.0}}),
    ("run.precision", {}, {"run": {"precision": "bf16"}}),
    ("run.clip_grad_norm", SGD, {"run": {"clip_grad_norm": 0.01}}),
    ("run.ema_decay", {}, {"run": {"ema_decay": 0.9}}),
    # Settings of methods: one each that draws, that the base has, and that divides a batch; the rest elsewhere.
    ("optimizer.sam.rho", SAM, {"optimizer": {"sam": {"rho": 0.5}}}),
    ("optimizer.sam.micro_batch", SAM, {"optimizer": {"sam": {"micro_batch": 4}}}),
    ("optimizer.esam.gamma", {"optimizer": {"name": "esam"}}, {"optimizer": {"esam": {"gamma": 0.5}}}),
    ("optimizer.sgd.momentum", SGD, {"optimizer": {"sgd": {"momentum": 0.1}}}),
    ("optimizer.adamw.betas", SAM, {"optimizer": {"adamw": {"betas": [0.5, 0.6]}}}),
    ("optimizer.gsam.alpha", {"optimizer": {"name": "gsam"}}, {"optimizer": {"gsam": {"alpha": 0.0}}}),
]

# Looked at in tests of their own, here or elsewhere.
ELSEWHERE = {
    *("data.path", "data.fractions", "data.folds", "data.official_folds", "data.fold", "data.fold_role"),  # make it
    *("data.leave_site", "data.split_seed", "data.source", "data.label_from", "data.label_values", "data.range"),
    *("data.classes", "data.positive"),  # in test_training_loop
    *("network.name", "network.pretrained", "network.checkpoint", "run.device"),
    "schedule.keep",  # in test_training_keep
    *("data.inpaint", "data.limits", "data.cache", "run.workers", "run.channels_last"),
    *("run.strategy", "run.perturbation", "run.sync_batch_norm"),  # in test_training_processes
    "run.compile",  # in test_training_options
}


@pytest.mark.parametrize(("key", "without", "change"), CHANGES_WEIGHTS, ids=[row[0] for row in CHANGES_WEIGHTS])
def test_key_changes_what_is_learned(
    key: str, without: dict[str, Any], change: dict[str, Any], trained: Trained
) -> None:
    assert not same(trained(without), trained(without, change))


def test_no_key_is_forgotten_here() -> None:
    known = {key for key, *_ in CHANGES_WEIGHTS} | ELSEWHERE
    for name, field in TrainConfig.model_fields.items():
        section: Any = field.annotation
        if isinstance(section, type) and issubclass(section, Section):
            for key in section.model_fields:
                assert f"{name}.{key}" in known or key in METHODS, f"{name}.{key}"
        else:
            assert name in known


def test_images_are_prepared_as_configured(uneven: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []

    def watched(rows: Any, manifest: Manifest, **options: Any) -> Any:
        asked.append(options)
        return make_dataset(rows, manifest, **options)

    monkeypatch.setattr(training.datasets, "make_dataset", watched)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    data = {"crop": "lesion", "margin": 0.6, "fit": "stretch", "inpaint": True, "limits": {"max_side": 99}}
    masked = uneven.table[uneven.table["mask"] != ""]
    config = changed({"data": {**data, "cache": "disk"}, "schedule": {"epochs": 1}})
    train(config, uneven.replace(table=masked), out=tmp_path / "run")
    assert len(asked) == 3
    for options in asked:
        assert options["spec"] == PreprocessSpec(32, "lesion", "stretch", 0.6, True)
        assert options["limits"].max_side == 99
        assert options["cache"] == "disk"


def test_worker_processes_are_as_many_as_configured(
    uneven: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def watched(*given: Any, workers: int = 0, **options: Any) -> Any:
        asked.append(workers)
        return make_loader(*given, workers=0, **options)

    monkeypatch.setattr(training.loop, "make_loader", watched)
    train(changed({"run": {"workers": 3}}), uneven, out=tmp_path / "run")
    assert 3 in asked


@pytest.mark.parametrize("method", ["adamw", "sam", "bayesiansam"])
def test_norm_layers_and_biases_are_not_decayed(method: str, trained: Trained) -> None:
    one_step = {"optimizer": {"name": method}, "schedule": {"epochs": 1}}
    plain = trained(one_step, {"optimizer": {"name": method, "weight_decay": 0.0}})
    decayed = trained(one_step, {"optimizer": {"name": method, "weight_decay": 5.0}})
    parameters = {key for key in plain if key.endswith(("weight", "bias"))}
    assert {key for key in parameters if plain[key].ndim > 1} == {
        key for key in parameters if not torch.equal(plain[key], decayed[key])
    }


@pytest.fixture
def evaluated(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """The indices of the images of every pass, as they come."""
    seen: list[list[int]] = []
    forward = Objective.forward

    def watched(self: Objective, batch: dict[str, Tensor]) -> Tensor:
        assert {len(value) for value in batch.values()} == {len(batch["label"])}
        seen.append(batch["index"].tolist())
        return forward(self, batch)

    monkeypatch.setattr(Objective, "forward", watched)
    return seen


def test_micro_batches_are_evaluated_by_themselves(
    evaluated: list[list[int]], uneven: Manifest, tmp_path: Path
) -> None:
    method = {"optimizer": {"name": "sam", "micro_batch": 5}, "schedule": {"epochs": 1}}
    train(changed(method), uneven, out=tmp_path / "run")
    assert max(map(len, evaluated)) <= 5
    assert evaluated[::2] == evaluated[1::2]  # the two passes of each
    assert sorted(index for part in evaluated[::2] for index in part) == list(range(13))


@pytest.mark.parametrize("sampling", ["shuffled", "balanced", "sites", "sites_and_classes"])
def test_images_are_drawn_as_configured(
    sampling: str, evaluated: list[list[int]], uneven: Manifest, tmp_path: Path
) -> None:
    config = changed({"data": {"sampling": sampling}, "schedule": {"epochs": 1, "batch_size": 5}})
    train(config, uneven.replace(table=uneven.table.assign(site="A")), out=tmp_path / "run")
    drawn = [index for batch in evaluated for index in batch]
    assert len(drawn) == 13
    assert (sorted(drawn) == list(range(13))) == (sampling == "shuffled")
    assert drawn != sorted(drawn)


def test_samples_are_chosen_for_the_last_pass(evaluated: list[list[int]], uneven: Manifest, tmp_path: Path) -> None:
    method = {"optimizer": {"name": "esam", "gamma": 0.5}, "schedule": {"epochs": 1}}
    train(changed(method), uneven, out=tmp_path / "run")
    first, raised, last = evaluated
    assert sorted(first) == list(range(13))
    assert raised == first
    assert 2 <= len(last) <= 6
    assert set(last) < set(first)


@pytest.mark.parametrize("on", [True, False])
def test_feature_maps_have_the_configured_memory_format(
    on: bool, uneven: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: set[bool] = set()
    forward = Objective.forward

    def watched(self: Objective, batch: dict[str, Tensor]) -> Tensor:
        def look(layer: Any, given: Any, output: Tensor) -> None:
            assert min(output.shape) > 1  # else both formats are one
            seen.add(output.is_contiguous(memory_format=torch.channels_last))

        hook = self.network.backbone.layer1.register_forward_hook(look)
        try:
            return forward(self, batch)
        finally:
            hook.remove()

    monkeypatch.setattr(Objective, "forward", watched)
    train(changed({"run": {"channels_last": on}}), uneven, out=tmp_path / "run")
    assert seen == {on}


@pytest.mark.parametrize("method", ["esam", "bayesiansam", "eigensam"])
def test_seed_reaches_what_the_method_itself_draws(
    method: str, uneven: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # All else that depends on the seed is held fast: weights, order; there is neither augmentation nor dropout.
    monkeypatch.setattr(training.loop, "seed_everything", lambda *numbers: torch.manual_seed(7))
    monkeypatch.setattr(
        training.loop, "make_loader", lambda *given, **options: make_loader(*given, **{**options, "seed": 0})
    )
    settings = {"esam": {"beta": 0.5}, "bayesiansam": {}, "eigensam": {"freq": 1}}[method]
    weights = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        config = changed({"seed": seed, "optimizer": {"name": method, method: settings}})
        weights.append(load_file(train(config, uneven, out=tmp_path / name).folder / "checkpoints/last.safetensors"))
    assert same(weights[0], weights[1])
    assert not same(weights[0], weights[2])


def test_bayesian_sam_counts_the_training_images(
    uneven: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = []
    make = training.learner.make_optimizer

    def watched(*given: Any, **options: Any) -> Any:
        told.append(options["data_size"])
        return make(*given, **options)

    monkeypatch.setattr(training.learner, "make_optimizer", watched)
    run: Run = train(changed({"optimizer": {"name": "bayesiansam"}}), uneven, out=tmp_path / "run")
    assert told == [13]
    assert run.config.optimizer.bayesiansam.data_size is None


def test_xsam_searches_on_the_first_batch_of_an_epoch(
    uneven: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    searched: list[int] = []
    search = XSAM._search

    def watched(self: XSAM, *given: Any) -> int:
        searched.append(self._memory.numbers["steps"])
        return search(self, *given)

    monkeypatch.setattr(XSAM, "_search", watched)
    # Of 13 training images.
    schedule = {"epochs": 3, "batch_size": 4}
    train(changed({"optimizer": {"name": "xsam"}, "schedule": schedule}), uneven, out=tmp_path / "run")
    assert searched == [0, 3, 6]
