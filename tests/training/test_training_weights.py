"""Runs that start from other weights: origin kept, normalisation followed, the source not needed a second time."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file
from torch import Tensor

from medsharp.bundle import read_bundle
from medsharp.config import TrainConfig
from medsharp.data.manifest import Manifest
from medsharp.errors import InputError
from medsharp.export import export_run
from medsharp.inference import Predictor
from medsharp.networks import create_network
from training import Interrupted, Run, train
from training.losses import Objective

Configure = Callable[..., TrainConfig]


@pytest.fixture
def start(tmp_path: Path) -> Path:
    """Weights of three colours, as another project would leave them."""
    torch.manual_seed(4)
    weights = create_network("resnet10_w16", num_classes=5, image_size=32).backbone.state_dict()
    weights["conv1.weight"] = weights["conv1.weight"].repeat(1, 3, 1, 1) / 3
    torch.save({"state_dict": weights}, tmp_path / "start.pth")
    return tmp_path / "start.pth"


def last(run: Run) -> dict[str, Tensor]:
    return load_file(run.folder / "checkpoints/last.safetensors")


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize("method", ["wsam", "adamw", "looksam", "bayesiansam", "eigensam", "msam"])
def test_a_run_that_was_killed_before_its_first_epoch_resumes_without_the_file(
    method: str, start: Path, squares: Manifest, configure: Configure, tmp_path: Path
) -> None:
    config = configure(
        network={"checkpoint": str(start), "mean": 0.4, "std": 0.2}, optimizer={"name": method}, run={"ema_decay": 0.9}
    )
    whole = train(config, squares, out=tmp_path / "whole")

    def kill(event: dict[str, Any]) -> None:
        if event["kind"] == "batch":
            raise KeyboardInterrupt

    with pytest.raises(Interrupted):
        train(config, squares, out=tmp_path / "killed", events=kill)
    origin = json.loads((tmp_path / "killed/weights.json").read_text())
    assert origin["sha256"] == hashlib.sha256(start.read_bytes()).hexdigest()
    start.unlink()
    told: list[dict[str, Any]] = []
    resumed = train(config, squares, out=tmp_path / "killed", resume=True, events=told.append)
    assert same(last(whole), last(resumed))
    assert json.loads((tmp_path / "killed/weights.json").read_text()) == origin
    (begun,) = (event for event in told if event["kind"] == "start")
    assert (
        begun["notes"][0] == f"starts from weights of the file start.pth (licence unknown; sha256 {origin['sha256']})"
    )
    network = resumed.load_network()
    assert (float(network.mean), float(network.std)) == (pytest.approx(0.4), pytest.approx(0.2))


def test_what_was_adapted_is_told_and_kept(
    start: Path, squares: Manifest, configure: Configure, tmp_path: Path
) -> None:
    told: list[dict[str, Any]] = []
    config = configure(network={"checkpoint": str(start)}, schedule={"epochs": 1})
    run = train(config, squares, out=tmp_path / "run", events=told.append)
    (begun,) = (event for event in told if event["kind"] == "start")
    notes = "\n".join(begun["notes"])
    assert "conv1.weight of start.pth is of three colours, which were summed" in notes
    assert "left as initialised, being of another shape in start.pth: fc.weight, fc.bias" in notes
    assert run.origin is not None
    assert list(run.origin.notes) == begun["notes"][1 : 1 + len(run.origin.notes)]
    assert train(configure(schedule={"epochs": 1}), squares, out=tmp_path / "plain").origin is None


def test_normalisation_is_told_with_whose_it_is(
    start: Path, squares: Manifest, configure: Configure, tmp_path: Path
) -> None:
    def told(name: str, **network: Any) -> str:
        events: list[dict[str, Any]] = []
        config = configure(network={"checkpoint": str(start), **network}, schedule={"epochs": 1})
        train(config, squares, out=tmp_path / name, events=events.append)
        return str(next(event for event in events if event["kind"] == "start")["notes"][-1])

    assert told("given", mean=[0.1, 0.2, 0.6], std=0.25).endswith("normalised by mean 0.3 and deviation 0.25")
    assert told("image", normalization="image") == "each image is normalised by its own mean and deviation"
    own = load_file(tmp_path / "given/checkpoints/best.safetensors")
    assert float(own["mean"]) == pytest.approx(0.3)
    inherited = told("own", checkpoint=str(tmp_path / "given/checkpoints/best.safetensors"))
    assert inherited.endswith("mean 0.3 and deviation 0.25, those of the weights")
    assert not told("dataset", normalization="dataset").endswith("those of the weights")


def test_weights_say_where_each_image_is_normalised_by_itself(
    squares: Manifest, configure: Configure, tmp_path: Path
) -> None:
    run = train(
        configure(network={"normalization": "image"}, schedule={"epochs": 1}, run={"ema_decay": 0.9}),
        squares,
        out=tmp_path / "run",
    )
    file = run.folder / "checkpoints/best.safetensors"
    assert [float(load_file(file)[name]) for name in ("mean", "std")] == [0, 0]
    export_run(run.folder, tmp_path / "bundle")
    answers = Predictor.load(tmp_path / "bundle").session.run(np.full((1, 32, 32), 90, dtype=np.uint8))
    assert np.isfinite(answers["logits"]).all()
    copy = tmp_path / "copy.safetensors"
    copy.write_bytes(file.read_bytes())
    for wanted in ("auto", "weights"):
        config = configure(network={"checkpoint": str(copy), "normalization": wanted}, schedule={"epochs": 1})
        with pytest.raises(InputError, match=r"copy\.safetensors was trained with network\.normalization: image"):
            train(config, squares, out=tmp_path / wanted)
        assert not (tmp_path / wanted).exists()
    config = configure(network={"checkpoint": str(copy), "normalization": "image"}, schedule={"epochs": 1})
    again = train(config, squares, out=tmp_path / "again")
    assert again.origin is not None
    assert (again.origin.mean, again.origin.notes) == (None, ())
    given = configure(network={"checkpoint": str(copy), "mean": 0.4, "std": 0.2}, schedule={"epochs": 1})
    assert float(train(given, squares, out=tmp_path / "given").load_network().std) == pytest.approx(0.2)


def test_bundle_and_card_say_what_a_network_started_from_and_normalise_as_it_did(
    start: Path, squares: Manifest, configure: Configure, tmp_path: Path
) -> None:
    config = configure(network={"checkpoint": str(start), "mean": 0.7, "std": 0.1}, schedule={"epochs": 2})
    run = train(config, squares, out=tmp_path / "run")
    spec = export_run(run.folder, tmp_path / "bundle")
    digest = hashlib.sha256(start.read_bytes()).hexdigest()
    assert spec.training.weights == run.origin
    assert read_bundle(tmp_path / "bundle").training.weights == run.origin
    assert digest in (tmp_path / "bundle/MODEL_CARD.md").read_text().replace("\n", " ")
    assert spec.training.config["network"]["checkpoint"] == "start.pth"
    written = "".join(file.read_text() for file in (tmp_path / "bundle").glob("*.[yjm][asd]*"))
    assert str(tmp_path) not in written
    # The graph against the bare backbone, normalised by hand.
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32), dtype=np.uint8)
    backbone = run.load_network().backbone
    with torch.no_grad():
        expected = backbone((torch.from_numpy(images[:, None]) / 255 - 0.7) / 0.1)
    found = Predictor.load(tmp_path / "bundle", device="cpu").session.run(images)["logits"]
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-3)


def test_bundle_of_random_weights_says_nothing_of_an_origin(
    squares: Manifest, configure: Configure, tmp_path: Path
) -> None:
    run = train(configure(schedule={"epochs": 1}), squares, out=tmp_path / "run")
    export_run(run.folder, tmp_path / "bundle")
    assert "weights" not in yaml.safe_load((tmp_path / "bundle/bundle.yaml").read_text())["training"]
    assert "It started from" not in (tmp_path / "bundle/MODEL_CARD.md").read_text()


def test_checkpoint_that_is_refused_leaves_no_run_folder(
    start: Path, squares: Manifest, configure: Configure, tmp_path: Path
) -> None:
    start.write_bytes(start.read_bytes()[:-900])
    with pytest.raises(InputError, match=r"start\.pth cannot be read"):
        train(configure(network={"checkpoint": str(start)}), squares, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_training_that_learned_nothing_leaves_no_run_folder_nor_the_weights_it_started_from(
    start: Path, squares: Manifest, configure: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nothing(self: Objective, batch: dict[str, Tensor]) -> Tensor:
        return self.network(batch["image"])[:, 0] * float("nan")

    monkeypatch.setattr(Objective, "forward", nothing)
    with pytest.raises(InputError, match="not finite in any step of epoch 1"):
        train(configure(network={"checkpoint": str(start)}), squares, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_damaged_record_of_an_origin_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "weights.json").write_text('{"kind": "hub"}')
    with pytest.raises(InputError, match=r"weights\.json is damaged"):
        _ = Run(tmp_path).origin
