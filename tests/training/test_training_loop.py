"""What a training learns, keeps, counts and tells."""

from __future__ import annotations

import json
import math
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from sklearn.metrics import log_loss, roc_auc_score
from torch import Tensor

import training.loop
from medsharp.config import TrainConfig, validate_config
from medsharp.data.manifest import DatasetInfo, Manifest
from medsharp.data.pipeline import make_dataset
from medsharp.errors import InputError
from medsharp.networks import Classifier
from medsharp.optim import list_optimizers
from medsharp.preprocess import PreprocessSpec
from training import Interrupted, Run, train
from training.losses import Objective
from training.schedule import rate_factor


@pytest.fixture(scope="module")
def run(squares: Manifest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, list[dict[str, Any]]]:
    """A finished run with a mask loss, and what it told."""
    told: list[dict[str, Any]] = []
    config = validate_config(
        {
            "data": {"image_size": 32, "crop": "none", "augmentation": "light", "cache": "memory"},
            "network": {"name": "resnet10_w16"},
            "optimizer": {"name": "wsam", "lr": 3e-3},
            "schedule": {"epochs": 8, "warmup_epochs": 1, "batch_size": 6},
            "loss": {"mask_weight": 0.5},
            "run": {"device": "cpu", "precision": "fp32"},
        }
    )
    out = tmp_path_factory.mktemp("runs") / "run"
    return train(config, squares, out=out, events=told.append), told


@pytest.mark.parametrize("name", list_optimizers())
def test_every_optimizer_learns_what_is_easy(
    name: str, many_squares: Manifest, configure: Callable[..., TrainConfig], tmp_path: Path
) -> None:
    rate = {"sgd": 0.05, "bayesiansam": 0.5}.get(name, 3e-3)
    config = configure(
        optimizer={"name": name, "lr": rate, "weight_decay": 0}, schedule={"epochs": 16}, data={"augmentation": "none"}
    )
    records = train(config, many_squares, out=tmp_path / "run").metrics()
    assert records[-1]["train_loss"] < 0.7 * records[0]["train_loss"]
    assert max(record["val_auroc"] for record in records) >= 0.9


@pytest.mark.parametrize(
    "optimizer",
    [
        {"name": "esam", "beta": 0.6, "gamma": 0.5},
        {"name": "gsam", "micro_batch": 2},
        {"name": "CR-SAM", "base": "sgd", "lr": 0.1},
    ],
    ids=lambda optimizer: optimizer["name"],
)
def test_methods_that_choose_samples_train(
    optimizer: dict[str, Any], squares: Manifest, configure: Callable[..., TrainConfig], tmp_path: Path
) -> None:
    config = configure(optimizer={"lr": 3e-3, **optimizer}, schedule={"epochs": 10}, loss={"mask_weight": 0.5})
    records = train(config, squares, out=tmp_path / "run").metrics()
    assert records[-1]["train_loss"] < 0.9 * records[0]["train_loss"]


def test_predictions_are_those_of_the_best_epoch(run: tuple[Run, list[dict[str, Any]]]) -> None:
    folder = run[0].folder
    table = pd.read_csv(folder / "predictions.csv", dtype={"patient": str, "site": str, "birads": str})
    assert list(table["split"].value_counts().loc[["val", "test"]]) == [8, 6]
    validation = table[table["split"] == "val"]
    best = max(run[0].metrics(), key=lambda record: (record["val_auroc"], -record["val_loss"]))
    assert roc_auc_score(validation["label"] == "malignant", validation["p_malignant"]) == best["val_auroc"]
    loss = log_loss(validation["label"] == "malignant", validation["p_malignant"])
    assert loss == pytest.approx(best["val_loss"], rel=1e-5)
    assert json.loads((folder / "environment.json").read_text())["best"]["epoch"] == best["epoch"]


def test_predictions_hold_names_probabilities_and_their_logits(run: tuple[Run, list[dict[str, Any]]]) -> None:
    table = pd.read_csv(run[0].folder / "predictions.csv")
    named = ["image", "patient", "site", "label", "split", "group", "device", "birads"]
    shares = ["p_benign", "logit_benign", "p_malignant", "logit_malignant"]
    assert list(table) == [*named, *shares, "threshold", "threshold_class", "threshold_from"]
    logits = torch.tensor(table[["logit_benign", "logit_malignant"]].to_numpy())
    np.testing.assert_allclose(logits.softmax(1), table[["p_benign", "p_malignant"]], rtol=1e-5)


def test_predictions_carry_the_threshold_that_the_validation_images_fix(run: tuple[Run, list[dict[str, Any]]]) -> None:
    table = pd.read_csv(run[0].folder / "predictions.csv")
    (threshold,) = set(table["threshold"])
    decides = table[table["split"] == "val"]
    positives = decides["label"] == "malignant"
    # Four positives: a sensitivity of 0.95 finds them all, half way down to the next lower score.
    least = decides["p_malignant"][positives].min()
    lower = decides["p_malignant"][decides["p_malignant"] < least]
    assert threshold == pytest.approx((least + (lower.max() if len(lower) else 0)) / 2, rel=1e-6)
    assert set(table["threshold_class"]) == {"malignant"}
    assert set(table["threshold_from"]) == {"sensitivity 0.95 on the run's 8 validation images"}


def test_validation_images_of_one_class_fix_no_threshold(run: tuple[Run, list[dict[str, Any]]]) -> None:
    from training.predictions import with_threshold

    table = run[0].predictions().assign(label="benign")
    empty = with_threshold(table, run[0].config.data)
    assert set(empty["threshold"]) == {""}
    assert set(empty["threshold_from"]) == {"the validation images allow none"}


def test_best_network_gives_the_predictions_again(run: tuple[Run, list[dict[str, Any]]]) -> None:
    manifest, network = run[0].manifest, run[0].load_network()
    spec = PreprocessSpec(32, "none", "letterbox")
    dataset = make_dataset(manifest.of_split("test"), manifest, spec=spec, classes=("benign", "malignant"))
    assert not network.training
    with torch.no_grad():
        logits = network(torch.stack([dataset[index]["image"] for index in range(len(dataset))]))
    table = pd.read_csv(run[0].folder / "predictions.csv")
    kept = table.loc[table["split"] == "test", ["logit_benign", "logit_malignant"]]
    np.testing.assert_allclose(logits, kept, atol=1e-4)


def test_normalization_is_that_of_the_training_images(run: tuple[Run, list[dict[str, Any]]]) -> None:
    network, manifest = run[0].load_network("last"), run[0].manifest
    pixels = np.stack([np.asarray(Image.open(manifest.path(name))) for name in manifest.of_split("train")["image"]])
    assert float(network.mean) == pytest.approx(pixels.mean() / 255, abs=1e-6)
    assert float(network.std) == pytest.approx(pixels.std() / 255, abs=1e-6)


def test_weights_hold_the_classifier_alone(run: tuple[Run, list[dict[str, Any]]]) -> None:
    weights = load_file(run[0].folder / "checkpoints/best.safetensors")
    assert not [key for key in weights if "lesion" in key]
    state = torch.load(run[0].folder / "checkpoints/last.pt", weights_only=True)
    assert [key for key in state["objective"] if key.startswith("lesion.")]


def test_events_tell_everything_in_order(run: tuple[Run, list[dict[str, Any]]]) -> None:
    told = run[1]
    caching = [event for event in told if event["kind"] == "cache"]
    assert [event["done"] for event in caching] == list(range(1, 31))
    assert {event["total"] for event in caching} == {30}
    rest = [event for event in told if event["kind"] != "cache"]
    assert [event["kind"] for event in rest] == ["start", *(["batch"] * 3 + ["epoch"]) * 8, "end"]
    assert [event["done"] for event in rest if event["kind"] == "batch"][:4] == [1, 2, 3, 1]
    assert all(event["wait_seconds"] >= 0 < event["images_per_second"] for event in rest if event["kind"] == "batch")
    lines = [{key: event[key] for key in event if key not in {"kind", "best"}} for event in rest if "val_loss" in event]
    assert lines == run[0].metrics()
    assert (rest[-1]["epochs"], rest[-1]["trained"]) == (8, 8)


def test_environment_names_versions_and_no_machine(run: tuple[Run, list[dict[str, Any]]]) -> None:
    text = (run[0].folder / "environment.json").read_text()
    about = json.loads(text)
    assert {"torch", "timm", "monai", "numpy"} <= set(about["packages"])
    assert about["seed"] == 0
    assert about["device"] == "cpu"
    assert about["seconds"] == pytest.approx(sum(record["seconds"] for record in run[0].metrics()), abs=1e-3)
    assert socket.gethostname() not in text
    assert str(Path.home()) not in text


def test_seed_decides_the_weights(squares: Manifest, configure: Callable[..., TrainConfig], tmp_path: Path) -> None:
    config = configure(schedule={"epochs": 1}, network={"drop_rate": 0.5})
    torch.rand(7)  # what was drawn before must not matter
    first, second, other = (
        load_file(train(made, squares, out=tmp_path / name).folder / "checkpoints/last.safetensors")
        for name, made in (("a", config), ("b", config), ("c", config.model_copy(update={"seed": 1})))
    )
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert not torch.equal(first["backbone.fc.weight"], other["backbone.fc.weight"])


def test_best_is_highest_auroc_and_ties_go_to_the_lower_loss(
    squares: Manifest, configure: Callable[..., TrainConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted = iter([(0.7, 0.1), (0.8, 0.5), (0.8, 0.4), (0.8, 0.6), (0.75, 0.01)])
    monkeypatch.setattr(training.loop, "judge", lambda *_: next(scripted))
    last = tmp_path / "run/checkpoints/last.safetensors"
    weights, best = [], []

    def events(event: dict[str, Any]) -> None:
        if event["kind"] == "epoch":
            weights.append(last.read_bytes())
            best.append(event["best"])

    train(configure(schedule={"epochs": 5}), squares, out=tmp_path / "run", events=events)
    assert best == [True, True, True, False, False]
    assert last.with_name("best.safetensors").read_bytes() == weights[2]


def test_average_is_what_is_judged_and_kept(
    squares: Manifest, configure: Callable[..., TrainConfig], tmp_path: Path
) -> None:
    last = tmp_path / "run/checkpoints/last.safetensors"
    best: list[bytes] = []

    def events(event: dict[str, Any]) -> None:
        if event["kind"] == "epoch" and event["best"]:
            best.append(last.read_bytes())

    run = train(configure(run={"ema_decay": 0.9}), squares, out=tmp_path / "run", events=events)
    assert last.with_name("best.safetensors").read_bytes() == best[-1]
    told = run.predictions()
    chosen = told[told["split"] == "val"]
    loss = log_loss(chosen["label"] == "malignant", chosen["p_malignant"])
    assert json.loads((run.folder / "environment.json").read_text())["kept"]["loss"] == pytest.approx(loss, rel=1e-4)
    state = torch.load(run.folder / "checkpoints/last.pt", weights_only=True)
    kept = load_file(last)
    for key, value in kept.items():
        assert torch.equal(value, state["average"][f"module.{key}"])
    assert not torch.equal(kept["backbone.fc.weight"], state["objective"]["network.backbone.fc.weight"])
    assert not torch.equal(kept["backbone.bn1.running_mean"], state["objective"]["network.backbone.bn1.running_mean"])


def test_average_is_that_of_the_weights_after_every_step(
    squares: Manifest, configure: Callable[..., TrainConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step, after = training.loop._Trainer._step, []

    def watched(self: Any, batch: dict[str, Tensor]) -> Tensor:
        loss = step(self, batch)
        after.append(self.network.backbone.fc.weight.detach().clone())
        return loss

    monkeypatch.setattr(training.loop._Trainer, "_step", watched)
    run = train(configure(run={"ema_decay": 0.15}), squares, out=tmp_path / "run")
    assert len(after) == 9
    expected = after[0]
    for count, weight in enumerate(after[1:], start=1):
        decay = min(0.15, (1 + count) / (10 + count))
        expected = decay * expected + (1 - decay) * weight
    kept = load_file(run.folder / "checkpoints/last.safetensors")["backbone.fc.weight"]
    torch.testing.assert_close(kept, expected, rtol=1e-5, atol=1e-7)


def test_batch_of_one_is_left_out(squares: Manifest, configure: Callable[..., TrainConfig], tmp_path: Path) -> None:
    told: list[dict[str, Any]] = []
    train(configure(schedule={"epochs": 1, "batch_size": 5}), squares, out=tmp_path / "run", events=told.append)
    assert next(event["steps"] for event in told if event["kind"] == "start") == 3  # of 16 images


def test_batch_larger_than_the_data_is_all_of_it(
    squares: Manifest, configure: Callable[..., TrainConfig], tmp_path: Path
) -> None:
    told: list[dict[str, Any]] = []
    train(configure(schedule={"epochs": 1, "batch_size": 1000}), squares, out=tmp_path / "run", events=told.append)
    assert next(event["steps"] for event in told if event["kind"] == "start") == 1


@pytest.mark.parametrize(
    ("sections", "key"),
    [
        ({"schedule": {"batch_size": 1}}, r"schedule\.batch_size = 1"),
        ({"optimizer": {"name": "gsam", "micro_batch": 1}}, r"optimizer\.gsam\.micro_batch = 1"),
    ],
)
def test_batch_norm_that_would_learn_from_one_image_is_refused(
    sections: dict[str, Any], key: str, squares: Manifest, configure: Callable[..., TrainConfig], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=rf"{key}: network resnet10_w16 has batch norm.*2 or more"):
        train(configure(**sections), squares, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    without = configure(schedule={"epochs": 1}, network={"name": "convnext_atto"})
    values = {**without.model_dump(mode="json"), "data": {**without.data.model_dump(mode="json")}}
    for section, changes in sections.items():
        values[section] = {**values[section], **changes}
    assert train(validate_config(values), squares, out=tmp_path / "run").finished


@pytest.mark.parametrize(("batch_size", "micro_batch"), [(16, 15), (7, 2), (6, 5), (3, 2)])
def test_no_micro_batch_is_of_one_image(
    batch_size: int, micro_batch: int, squares: Manifest, configure: Callable[..., TrainConfig], tmp_path: Path
) -> None:
    config = configure(
        optimizer={"name": "sam", "micro_batch": micro_batch}, schedule={"epochs": 1, "batch_size": batch_size}
    )
    assert train(config, squares, out=tmp_path / "run").finished


@pytest.mark.parametrize("name", ["adamw", "wsam"])
def test_step_with_a_loss_that_is_not_finite_is_skipped_and_counted(
    name: str,
    squares: Manifest,
    configure: Callable[..., TrainConfig],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    forward, calls = Classifier.forward_features, []

    def sometimes(self: Classifier, image: Tensor) -> Tensor:
        calls.append(self.training)
        # The input is spoiled, so that batch norm sees it too.
        return forward(self, image * math.nan if self.training and calls.count(True) == 3 else image)

    monkeypatch.setattr(Classifier, "forward_features", sometimes)
    run = train(configure(optimizer={"name": name}), squares, out=tmp_path / "run")
    assert [record["skipped_steps"] for record in run.metrics()] == [1, 0, 0]
    weights = load_file(run.folder / "checkpoints/last.safetensors")
    assert all(torch.isfinite(value).all() for value in weights.values())
    assert int(weights["backbone.bn1.num_batches_tracked"]) == 8  # of 9 steps


@pytest.mark.parametrize("name", ["adamw", "wsam"])
def test_epoch_without_a_finite_step_ends_the_training(
    name: str,
    squares: Manifest,
    configure: Callable[..., TrainConfig],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    forward = Objective.forward
    monkeypatch.setattr(Objective, "forward", lambda self, batch: forward(self, batch) * math.nan)
    with pytest.raises(InputError, match=r"epoch 1; .*lower optimizer\.lr"):
        train(configure(optimizer={"name": name}), squares, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["sgd", "sam", "wsam"])
def test_clipping_bounds_what_is_applied(
    name: str, squares: Manifest, configure: Callable[..., TrainConfig], tmp_path: Path
) -> None:
    plain = {"momentum": 0.0, "weight_decay": 0.0, "lr": 1.0}
    for clip in (1e-3, 1e-6):
        config = configure(
            optimizer={"name": name, "base": "sgd", **plain},
            schedule={"epochs": 1, "warmup_epochs": 0},
            run={"clip_grad_norm": clip},
        )
        weights = load_file(train(config, squares, out=tmp_path / str(clip)).folder / "checkpoints/last.safetensors")
        parameters = torch.cat(
            [value.flatten() for key, value in weights.items() if "running" not in key and "num" not in key]
        )
        if clip == 1e-3:
            moved_far = parameters
    # At most 3 steps of rate 1 each: 3e-3 apart for the two limits, and far more without clipping.
    assert 1e-4 < float((moved_far - parameters).norm()) < 3.1e-3


def test_unusable_splits_and_devices_are_refused_before_anything_is_written(
    squares: Manifest, configure: Callable[..., TrainConfig], tmp_path: Path
) -> None:
    out = tmp_path / "run"
    table = squares.table
    with pytest.raises(InputError, match="no images in split 'val'"):
        train(configure(), squares.replace(table=table[table["split"] != "val"]), out=out)
    one_class = (table["split"] != "val") | (table["label"] == "benign")
    with pytest.raises(InputError, match="split 'val' needs images of malignant"):
        train(configure(), squares.replace(table=table[one_class]), out=out)
    with pytest.raises(InputError, match="no training image of squares has a mask"):
        train(configure(loss={"mask_weight": 1}), squares.replace(table=table.assign(mask="")), out=out)
    if not torch.cuda.is_available():
        with pytest.raises(InputError, match=r"run\.device = 'cuda'"):
            train(configure(run={"device": "cuda"}), squares, out=out)
    assert not out.exists()


def test_three_classes_are_judged_by_the_positive_one_against_the_rest(
    squares: Manifest, configure: Callable[..., TrainConfig], tmp_path: Path
) -> None:
    table = squares.table.copy()
    table.loc[table.index % 4 == 0, "label"] = "normal"
    names = ("normal", "benign", "malignant")
    info = DatasetInfo("squares", names)
    three = Manifest(table, info, squares.root)
    run = train(configure(data={"classes": list(names)}), three, out=tmp_path / "run")
    predictions = pd.read_csv(run.folder / "predictions.csv")
    validation = predictions[predictions["split"] == "val"]
    best = max(record["val_auroc"] for record in run.metrics())
    assert roc_auc_score(validation["label"] == "malignant", validation["p_malignant"]) == best


def test_schedule_is_stepped_every_batch(run: tuple[Run, list[dict[str, Any]]]) -> None:
    schedule = run[0].config.schedule
    expected = [3e-3 * rate_factor(3 * epoch + 2, 3, schedule) for epoch in range(8)]
    assert [record["lr"] for record in run[0].metrics()] == pytest.approx(expected)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_training_runs_and_resumes_on_a_gpu(
    squares: Manifest, configure: Callable[..., TrainConfig], tmp_path: Path
) -> None:
    def stop(event: dict[str, Any]) -> None:
        if event["kind"] == "batch" and event["epoch"] == 1:
            raise KeyboardInterrupt

    config = configure(run={"device": "cuda", "ema_decay": 0.9}, loss={"mask_weight": 0.5})
    with pytest.raises(Interrupted):
        train(config, squares, out=tmp_path / "run", events=stop)
    run = train(config, squares, out=tmp_path / "run", resume=True)
    assert [record["epoch"] for record in run.metrics()] == [0, 1, 2]
