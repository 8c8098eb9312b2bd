"""Lesion pooling through training and export: the convolution is learned from masks, kept, resumed and exported."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from typer.testing import CliRunner

from medsharp.cli import app
from medsharp.config import TrainConfig
from medsharp.data.manifest import Manifest
from medsharp.errors import InputError
from medsharp.inference import Predictor
from medsharp.networks import create_network
from training import Interrupted, Run, check_config, train
from training.losses import Objective

Configure = Callable[..., TrainConfig]
LESION: dict[str, Any] = {"network": {"pooling": "lesion"}, "loss": {"mask_weight": 0.5}, "data": {"image_size": 64}}


def batch_of(masked: bool) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {
        "image": torch.randint(0, 256, (4, 1, 64, 64), generator=generator, dtype=torch.uint8),
        "label": torch.tensor([0, 1, 1, 0]),
        "mask": (torch.rand((4, 1, 64, 64), generator=generator) > 0.5).float(),
        "has_mask": torch.full((4,), float(masked)),
    }


def test_masks_alone_teach_where_to_look(configure: Configure) -> None:
    network = create_network("resnet10_w16", num_classes=2, image_size=64, pooling="lesion")
    objective = Objective(network, configure(**LESION).loss, torch.tensor([5.0, 2.0]))
    assert objective.lesion is None
    assert network.lesion is not None
    assert network.lesion.weight.grad is None
    objective(batch_of(masked=False)).mean().backward()
    assert network.lesion.weight.grad is not None
    assert not network.lesion.weight.grad.any()
    assert network.backbone.get_parameter("fc.weight").grad.any()  # type: ignore[union-attr]
    objective(batch_of(masked=True)).mean().backward()
    assert network.lesion.weight.grad.any()


def test_mask_loss_is_that_of_the_convolution_that_is_left_behind_otherwise(configure: Configure) -> None:
    def losses(pooling: Any) -> Tensor:
        torch.manual_seed(0)
        network = create_network("resnet10_w16", num_classes=2, image_size=64, pooling=pooling)
        objective = Objective(network, configure(**LESION).loss, torch.tensor([5.0, 2.0])).eval()
        lesion = objective.lesion or network.lesion
        assert lesion is not None
        with torch.no_grad():
            lesion.weight.fill_(0.1)
            lesion.bias.fill_(0.2)  # type: ignore[union-attr]
            return objective(batch_of(masked=True)) - objective(batch_of(masked=False))

    torch.testing.assert_close(losses("lesion"), losses("average"))


@pytest.mark.parametrize("method", ["adamw", "wsam"])
def test_run_keeps_resumes_and_loads_what_it_looks_by(
    method: str, squares: Manifest, configure: Configure, tmp_path: Path
) -> None:
    def stop(event: dict[str, Any]) -> None:
        if event["kind"] == "batch" and (event["epoch"], event["done"]) == (1, 2):
            raise KeyboardInterrupt

    schedule = {"epochs": 3, "frozen_epochs": 1, "keep": "last"}
    config = configure(**LESION, optimizer={"name": method}, schedule=schedule, run={"ema_decay": 0.9})
    whole = train(config, squares, out=tmp_path / "whole")
    with pytest.raises(Interrupted):
        train(config, squares, out=tmp_path / "stopped", events=stop)
    run = Run.load(tmp_path / "stopped")
    train(run.config, run.manifest, out=run.folder, resume=True)
    first, second = (load_file(folder / "checkpoints/last.safetensors") for folder in (whole.folder, run.folder))
    assert first["lesion.weight"].shape == (1, 128, 1, 1)
    assert all(torch.equal(first[key], second[key]) for key in first)
    network = whole.load_network()
    assert network.lesion is not None
    assert torch.equal(network.lesion.weight, first["lesion.weight"])


def test_exported_graph_pools_as_the_network_does(squares: Manifest, configure: Configure, tmp_path: Path) -> None:
    schedule = {"epochs": 12, "warmup_epochs": 1}
    run = train(configure(**LESION, schedule=schedule, optimizer={"lr": 5e-3}), squares, out=tmp_path / "run")
    network = run.load_network()
    result = CliRunner().invoke(app, ["export", str(run.folder), "--out", str(tmp_path / "bundle")])
    assert result.exit_code == 0, result.output
    predictor = Predictor.load(tmp_path / "bundle")
    pixels = np.random.default_rng(0).integers(0, 255, (3, 64, 64), dtype=np.uint8)
    pixels[:, 10:30, 35:55] //= 8
    found = predictor.session.run(pixels)
    with torch.no_grad():
        maps = network.forward_features(torch.from_numpy(pixels[:, None]))
        assert network.lesion is not None
        assert float(network.lesion(maps).sigmoid().std()) > 1e-3
        expected = network.forward_all(torch.from_numpy(pixels[:, None]))
    assert set(found) == {"logits", "features", "cam"}
    for key, values in found.items():
        np.testing.assert_allclose(values, expected[key], atol=1e-4, err_msg=key)
    bias = network.backbone.get_classifier().bias.detach().numpy()  # type: ignore[operator]
    np.testing.assert_allclose(found["cam"].mean(axis=(2, 3)) + bias, found["logits"], atol=1e-4)
    parity = json.loads((tmp_path / "bundle/parity.json").read_text())
    assert parity["graphs"]["fp32"]["largest_difference"]["logits from cam"] < 1e-4
    table = pd.read_csv(run.folder / "predictions.csv")
    assert np.isfinite(table["logit_malignant"]).all()


def test_printed_configuration_tells_that_a_checkpoint_brings_the_convolution(tmp_path: Path) -> None:
    options: dict[str, Any] = {"num_classes": 2, "image_size": 64}
    network = create_network("resnet10_w16", **options, pooling="lesion")
    save_file(network.state_dict(), tmp_path / "w.safetensors")
    settings = {
        "network.name": "resnet10_w16",
        "network.checkpoint": str(tmp_path / "w.safetensors"),
        "data.image_size": "64",
        "loss.mask_weight": "1",
    }
    pairs = [f"--set={key}={value}" for key, value in settings.items()]
    for pooling, unused in (("average", True), ("lesion", False)):
        command = ["train", "--print-config", *pairs, f"--set=network.pooling={pooling}"]
        result = CliRunner().invoke(app, command)
        assert result.exit_code == 0, result.output
        assert ("not used" in result.output) == unused, result.output


def test_lesion_pooling_without_a_mask_to_learn_from_is_refused(
    squares: Manifest, configure: Configure, tmp_path: Path
) -> None:
    config = configure(network={"pooling": "lesion"})
    with pytest.raises(InputError, match=r"network\.pooling = lesion: .*; set loss\.mask_weight"):
        check_config(config)
    table = squares.table.copy()
    table["mask"] = ""
    with pytest.raises(InputError, match=r"loss\.mask_weight = 0\.5: no training image of squares has a mask"):
        train(configure(**LESION), squares.replace(table=table), out=tmp_path / "run")
    config = configure(**{**LESION, "network": {"pooling": "lesion", "name": "convnext_atto"}})
    with pytest.raises(InputError, match=r"network\.pooling = lesion: this network does not average"):
        train(config, squares, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
