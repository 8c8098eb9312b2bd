"""Which weights stand for a run: the best by validation AUROC, or the last, which no validation image has chosen."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from medsharp.config import TrainConfig
from medsharp.data.manifest import Manifest
from training import Run, train

Configure = Callable[..., TrainConfig]


def with_other_validation_labels(manifest: Manifest) -> Manifest:
    table = manifest.table.copy()
    chosen = table["split"] == "val"
    table.loc[chosen, "label"] = table.loc[chosen, "label"].map({"benign": "malignant", "malignant": "benign"})
    return manifest.replace(table=table)


def logits(run: Run) -> np.ndarray:
    return pd.read_csv(run.folder / "predictions.csv")[["logit_benign", "logit_malignant"]].to_numpy()


def same(first: dict[str, Any], second: dict[str, Any]) -> bool:
    return all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize("average", [None, 0.9])
def test_last_weights_depend_on_no_validation_label(
    average: float | None, squares: Manifest, configure: Configure, tmp_path: Path
) -> None:
    schedule = {"keep": "last", "epochs": 4}
    told: list[dict[str, Any]] = []
    config = configure(schedule=schedule, run={"ema_decay": average})
    run = train(config, squares, out=tmp_path / "run", events=told.append)
    other = train(config, with_other_validation_labels(squares), out=tmp_path / "other")
    assert run.kept == "last"
    assert np.array_equal(logits(run), logits(other))
    last = load_file(run.folder / "checkpoints/last.safetensors")
    assert same(last, run.load_network().state_dict())
    assert not (run.folder / "checkpoints/best.safetensors").exists()
    record = run.metrics()[-1]
    kept = json.loads((run.folder / "environment.json").read_text())["kept"]
    assert kept == {"which": "last", "epoch": 3, "auroc": record["val_auroc"], "loss": record["val_loss"]}
    assert (told[-1]["kept_epoch"], told[-1]["val_auroc"]) == (3, record["val_auroc"])
    state = torch.load(run.folder / "checkpoints/last.pt", weights_only=True)
    averaged = average is None or not torch.equal(
        state["objective"]["network.backbone.fc.weight"], last["backbone.fc.weight"]
    )
    assert averaged


def test_best_weights_are_kept_unless_told_otherwise(squares: Manifest, configure: Configure, tmp_path: Path) -> None:
    config = configure(schedule={"epochs": 4}, optimizer={"lr": 0.05})
    run = train(config, squares, out=tmp_path / "run")
    best = max(run.metrics(), key=lambda record: (record["val_auroc"], -record["val_loss"]))
    kept = json.loads((run.folder / "environment.json").read_text())["kept"]
    assert run.kept == "best"
    assert (kept["which"], kept["epoch"], kept["auroc"]) == ("best", best["epoch"], best["val_auroc"])
    assert best["epoch"] < 3
    assert same(load_file(run.folder / "checkpoints/best.safetensors"), run.load_network().state_dict())
    assert same(load_file(run.folder / "checkpoints/last.safetensors"), run.load_network("last").state_dict())


def test_a_finished_run_of_before_tells_of_its_best(squares: Manifest, configure: Configure, tmp_path: Path) -> None:
    run = train(configure(schedule={"epochs": 2}), squares, out=tmp_path / "run")
    path = run.folder / "environment.json"
    about = json.loads(path.read_text())
    del about["kept"]
    path.write_text(json.dumps(about))
    told: list[dict[str, Any]] = []
    train(run.config, run.manifest, out=run.folder, resume=True, events=told.append)
    assert (told[-1]["kept_epoch"], told[-1]["val_auroc"]) == (about["best"]["epoch"], about["best"]["auroc"])
