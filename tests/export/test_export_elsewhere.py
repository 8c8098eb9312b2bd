"""Weights that were trained elsewhere: they answer in the bundle as they do in timm, and are told from our own."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import timm
import torch
import yaml
from command_line import run
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from medsharp.bundle import read_bundle
from medsharp.config import dump_config, load_config
from medsharp.data.manifest import write_manifest
from medsharp.export import gates
from medsharp.inference import Predictor
from medsharp.inference.validation import Validation
from medsharp.networks import create_network
from medsharp.preprocess import PreprocessSpec, preprocess

from .runs import SIZE, copy_run, fold_splits, run_export, speckle_manifest, write_run

MEAN, STD = [0.1, 0.3, 0.5], [0.2, 0.3, 0.4]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty images of thirty patients without splits, in a manifest."""
    folder = tmp_path_factory.mktemp("elsewhere") / "data"
    write_manifest(speckle_manifest(folder), folder)
    return folder


def network(channels: int, classes: int = 2) -> torch.nn.Module:
    """A ResNet as timm has it, whose two logits and whose colours are unlike each other."""
    torch.manual_seed(4)
    model = timm.create_model("test_resnet", in_chans=channels, num_classes=classes).eval()
    with torch.no_grad():
        model.fc.weight *= 40
        model.fc.bias.copy_(torch.tensor([0.7, -0.3, 0.1][:classes]))
        model.conv1[0].weight *= torch.linspace(0.5, 2, channels)[None, :, None, None]
    return model


def described(folder: Path, model: torch.nn.Module, prefix: str = "model.", **values: Any) -> Path:
    """Write weights as a training script leaves them, and the YAML that says what they are."""
    folder.mkdir(exist_ok=True)
    save_file({prefix + key: value.contiguous() for key, value in model.state_dict().items()}, folder / "w.safetensors")
    said = {
        "weights": "w.safetensors",
        "network": "test_resnet",
        "classes": ["benign", "malignant"],
        "positive": "malignant",
        "image_size": SIZE,
        "channels": 3,
        "mean": MEAN,
        "std": STD,
        "dataset": "Hospital X",
        "optimizer": "adam",
        "weights_licence": "CC BY 4.0",
    }
    said = {key: value for key, value in {**said, **values}.items() if value is not None}
    (folder / "model.yaml").write_text(yaml.safe_dump(said), encoding="utf-8")
    return folder / "model.yaml"


def normalised(pixels: np.ndarray, mean: list[float], std: list[float]) -> Tensor:
    """Return an input [1, len(mean), S, S] as torchvision's transforms would make it."""
    grey = torch.from_numpy(pixels).float() / 255
    return torch.stack([(grey - m) / s for m, s in zip(mean, std, strict=True)])[None]


@pytest.mark.parametrize(("channels", "mean", "std"), [(3, MEAN, STD), (1, [0.3], [0.15])])
@pytest.mark.parametrize("order", [["benign", "malignant"], ["malignant", "benign"]])
def test_probabilities_are_those_of_the_network_where_it_comes_from(
    channels: int, mean: list[float], std: list[float], order: list[str], data: Path, tmp_path: Path
) -> None:
    model = network(channels)
    numbers = {"mean": mean, "std": std} if channels == 3 else {"mean": mean[0], "std": std[0]}
    path = described(tmp_path / "from", model, channels=channels, classes=order, **numbers)
    result = run_export(path, "--data", data, "--out", tmp_path / "bundle", "--precision", "fp32,fp16")
    assert result.exit_code == 0, result.output
    spec = read_bundle(tmp_path / "bundle")
    images = sorted((data / "images").glob("*.png"))[:6]
    predictions = Predictor.load(tmp_path / "bundle").answering_anyway().predict(images)
    for image, prediction in zip(images, predictions, strict=True):
        pixels = preprocess(np.asarray(Image.open(image)), PreprocessSpec(size=SIZE))
        with torch.no_grad():
            logits = model(normalised(pixels, mean, std))[0] / spec.temperature
        expected = logits.softmax(dim=-1)
        assert prediction.probabilities == pytest.approx(dict(zip(order, expected.tolist(), strict=True)), abs=1e-5)
    assert len({round(one.positive_probability, 3) for one in predictions}) > 3
    assert spec.operating_point.images == 60


def test_images_of_the_data_decide_as_their_splits_say(data: Path, tmp_path: Path) -> None:
    manifest = speckle_manifest(tmp_path / "split")
    splits = fold_splits(manifest, 0, test=True)
    write_manifest(manifest.replace(table=manifest.table.assign(split=splits)), tmp_path / "split")
    path = described(tmp_path / "from", network(3))
    options = ("--flip", "--average", "logits", "--sensitivity", "0.8", "--precision", "fp32,int8")
    result = run_export(path, "--data", tmp_path / "split", "--out", tmp_path / "bundle", *options)
    assert result.exit_code == 0, result.output
    spec = read_bundle(tmp_path / "bundle")
    counts = {split: splits.count(split) for split in ("train", "val", "test")}
    assert spec.training.images == counts
    assert spec.operating_point.images == counts["val"]
    assert "sensitivity >= 0.8" in spec.operating_point.rule
    internal = pd.read_csv(tmp_path / "bundle" / "internal.csv")
    assert len(internal) == counts["test"]
    assert set(internal["split"]) == {"test"}
    assert spec.combination is not None
    assert (spec.combination.flip, spec.combination.average) == (True, "logits")
    assert "int8" in json.loads((tmp_path / "bundle" / "parity.json").read_text())["graphs"]
    card = (tmp_path / "bundle" / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert "Speckle, test split" in card


def test_images_that_it_did_not_learn_from_are_not_taken_for_training_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A data set's own `train` split is its owner's: here it gives int8 its ranges, and nothing else."""
    folder = tmp_path / "split"
    manifest = speckle_manifest(folder)
    splits = fold_splits(manifest, 0, test=True)
    write_manifest(manifest.replace(table=manifest.table.assign(split=splits)), folder)
    path = described(tmp_path / "from", network(3))
    bundles = {"plain": "fp32", "failed": "fp32,int8", "with_int8": "fp32,int8"}
    for name, precision in bundles.items():
        if name == "with_int8":  # the network is steep, and passes no gate but an open one
            monkeypatch.setitem(gates.AUROC, "int8", 1.0)
            monkeypatch.setitem(gates.DECISIONS, "int8", 1.0)
            monkeypatch.setitem(gates.PROBABILITY, "fp16", 1.0)
        result = run_export(path, "--data", folder, "--out", tmp_path / name, "--precision", precision)
        assert result.exit_code == 0, result.output
        assert not (tmp_path / name / "training_images.sha256").exists()
    card = " ".join((tmp_path / "plain" / "MODEL_CARD.md").read_text(encoding="utf-8").split())
    assert "those that it was trained on are not known" in card
    assert "training_images.sha256" not in card
    marks = {
        name: [line.split()[1] for line in (tmp_path / name / "training_images.dhash").read_text().splitlines()]
        for name in bundles
    }
    assert marks["plain"] == marks["failed"] == ["val"] * splits.count("val")
    assert not (tmp_path / "failed" / "model.int8.onnx").exists()
    assert (tmp_path / "with_int8" / "model.int8.onnx").exists()
    assert sorted(marks["with_int8"]) == ["int8"] * splits.count("train") + ["val"] * splits.count("val")

    for name, split, words in (
        ("plain", "train", ""),
        ("plain", "val", "images by which its epoch or threshold was chosen"),
        ("with_int8", "train", "images that its int8 graph has its ranges from"),
    ):
        chosen = manifest.table[np.array(splits) == split]
        write_manifest(manifest.replace(table=chosen.assign(split="")), folder)
        out = tmp_path / f"{name}-{split}"
        options = ["--resamples", "100", "--format", "json"]
        result = run("evaluate", tmp_path / name, "--data", folder, "--out", out, *options)
        assert result.exit_code == 0, result.output
        entries = json.loads((out / "evaluation.json").read_text(encoding="utf-8"))["datasets"]
        (entry,) = (entry for entry in entries if entry["role"] == "external")
        leaks = [note for note in entry["notes"] if note.startswith("LEAK")]
        assert [words in leak for leak in leaks] == [True] * bool(words)
        assert not any("trained on" in leak for leak in leaks)

    result = run("recalibrate", tmp_path / "plain", "--data", folder, "--out", tmp_path / "updated")
    assert result.exit_code == 2
    assert "plain was trained elsewhere, and nobody gave the hashes" in " ".join(result.output.split())
    assert not (tmp_path / "updated").exists()


def test_bundle_and_card_say_that_it_was_trained_elsewhere(data: Path, tmp_path: Path) -> None:
    path = described(tmp_path / "from", network(3), url="https://example.org/w")
    assert run_export(path, "--data", data, "--out", tmp_path / "bundle").exit_code == 0
    spec = read_bundle(tmp_path / "bundle")
    assert (spec.training.dataset, spec.training.validated_on) == ("Hospital X", "Speckle")
    assert (spec.learned_from, spec.internal_data) == ("Hospital X", "Speckle")
    assert spec.decided_on == "images of Speckle"
    validation = Validation.read(spec, tmp_path / "bundle")
    assert validation is not None
    assert validation.name == "Speckle, validation split"
    origin = spec.training.elsewhere
    assert origin is not None
    assert (origin.file, origin.licence, origin.url) == ("w.safetensors", "CC BY 4.0", "https://example.org/w")
    assert spec.training.weights is None
    card = " ".join((tmp_path / "bundle" / "MODEL_CARD.md").read_text(encoding="utf-8").split())
    assert f"Not trained by medsharp: weights of the file w.safetensors (CC BY 4.0; sha256 {origin.sha256})" in card
    assert "Temperature and operating point were fixed on others: Speckle" in card
    assert "takes three colours" in card
    metadata = json.loads((tmp_path / "bundle" / "metadata.json").read_text(encoding="utf-8"))
    assert metadata["authors"] == "https://example.org/w"
    assert metadata["copyright"] == "of the weights: CC BY 4.0; of the training data: not stated"
    assert "medsharp export DESCRIPTION.yaml --data DATA --out bundle" in card
    assert "The epoch was chosen" not in card
    assert "medsharp train" not in card


def test_weights_of_our_own_bring_their_mean_and_deviation(run_folder: Path, data: Path, tmp_path: Path) -> None:
    own = load_file(run_folder / "checkpoints" / "best.safetensors")
    (tmp_path / "from").mkdir()
    save_file(own, tmp_path / "from" / "w.safetensors")
    said = {"weights": "w.safetensors", "network": "resnet10_w16", "classes": ["benign", "malignant"]}
    said |= {"positive": "malignant", "image_size": SIZE, "dataset": "Speckle"}
    (tmp_path / "from" / "model.yaml").write_text(yaml.safe_dump(said))
    result = run_export(tmp_path / "from" / "model.yaml", "--data", data, "--out", tmp_path / "again")
    assert result.exit_code == 0, result.output
    assert run_export(run_folder, "--out", tmp_path / "run").exit_code == 0
    images = np.random.default_rng(0).integers(0, 255, (4, SIZE, SIZE), dtype=np.uint8)
    one, other = (Predictor.load(tmp_path / name).session.run(images)["logits"] for name in ("again", "run"))
    assert one == pytest.approx(other, abs=1e-5)


@pytest.mark.parametrize("kind", ["that says so", "of an older run"])
def test_weights_of_images_that_were_normalised_by_themselves_are_not_taken_for_others(
    kind: str, data: Path, tmp_path: Path
) -> None:
    manifest = speckle_manifest(tmp_path / "own")
    run_folder = write_run(tmp_path / "run", manifest, fold_splits(manifest, 0), ["network.normalization=image"])
    file = run_folder / "checkpoints" / "best.safetensors"
    (tmp_path / "from").mkdir()
    weights = f"../run/checkpoints/{file.name}"
    if kind == "that says so":
        save_file(load_file(file) | {"mean": torch.tensor(0.0), "std": torch.tensor(0.0)}, file)
        weights = shutil.copy(file, tmp_path / "from" / "copy.safetensors").name
    assert run_export(run_folder, "--out", tmp_path / "bundle").exit_code == 0
    values = {"network": "resnet10_w16", "channels": 1, "mean": None, "std": None, "weights": weights}
    path = described(tmp_path / "from", network(1), **values)
    result = run_export(path, "--data", data, "--out", tmp_path / "again")
    assert result.exit_code == 2, result.output
    assert f"{Path(weights).name} was trained with network.normalization: image" in " ".join(result.output.split())
    assert not (tmp_path / "again").exists()
    described(tmp_path / "from", network(1), **values, normalization="image")
    result = run_export(path, "--data", data, "--out", tmp_path / "again")
    assert result.exit_code == 0, result.output
    coarse = np.random.default_rng(0).integers(0, 255, (4, 8, 8), dtype=np.uint8)
    images = coarse.repeat(SIZE // 8, axis=1).repeat(SIZE // 8, axis=2)
    one, other = (Predictor.load(tmp_path / name).session.run(images)["logits"] for name in ("again", "bundle"))
    assert one == pytest.approx(other, abs=1e-5)
    assert np.ptp(one[:, 1] - one[:, 0]) > 1e-3
    assert read_bundle(tmp_path / "again").training.config["network"]["normalization"] == "image"


def test_lesion_pooling_is_not_left_out(data: Path, tmp_path: Path) -> None:
    torch.manual_seed(2)
    model = create_network("resnet10_w16", num_classes=2, image_size=SIZE, pooling="lesion").eval()
    values = {"network": "resnet10_w16", "channels": 1, "mean": 0.3, "std": 0.2}
    path = described(tmp_path / "from", model, **values)
    result = run_export(path, "--data", data, "--out", tmp_path / "bundle")
    assert result.exit_code == 2, result.output
    assert "is of a network with lesion pooling; give pooling: lesion" in " ".join(result.output.split())
    described(tmp_path / "from", model, **values, pooling="lesion")
    result = run_export(path, "--data", data, "--out", tmp_path / "bundle")
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"mean": None, "std": None}, "does not state by which mean and standard deviation"),
        ({"std": None}, "mean and std go together"),
        ({"std": [0.2, 0.0, 0.2]}, "std.1 = 0.0: Input should be greater than 0"),
        ({"mean": [0.485, 116.28, 0.406]}, "mean.1 = 116.28: Input should be less than or equal to 1"),
        ({"mean": [0.1, -0.3, 0.5]}, "mean.1 = -0.3: Input should be greater than or equal to 0"),
        ({"std": [0.2, 0.3, 57.4]}, "std.2 = 57.4: Input should be less than or equal to 1"),
        ({"mean": [0.1, 0.3, float("nan")]}, "mean.2 = nan: Input should be a finite number"),
        ({"std": [0.2, 0.3]}, "value 3 is missing"),
        ({"channels": 1}, "mean is of three colours, and channels is 1"),
        ({"channels": 4}, "channels"),
        ({"normalization": "image"}, "mean and std are those of weights, and normalization is 'image'"),
        ({"normalization": "image", "mean": None, "std": None}, "is of one grey image, and channels is 3"),
        ({"normalization": "dataset"}, "normalization"),
        ({"positive": "cancer"}, "positive 'cancer' is not one of classes"),
        ({"classes": ["benign", "benign"]}, "has one twice"),
        ({"weights": "gone.safetensors"}, "gone.safetensors does not exist"),
        ({"network": "resnet81"}, "unknown network 'resnet81'"),
        ({"network": "test_efficientnet"}, "does not fit this network"),
        ({"fitt": "stretch"}, "unknown key 'fitt'; did you mean fit"),
        ({"dataset": None}, "dataset"),
    ],
)
def test_wrong_description_is_one_sentence(values: dict[str, Any], words: str, data: Path, tmp_path: Path) -> None:
    path = described(tmp_path / "from", network(3), **values)
    result = run_export(path, "--data", data, "--out", tmp_path / "bundle")
    assert result.exit_code == 2, result.output
    assert words in " ".join(result.output.split())
    assert not (tmp_path / "bundle").exists()


def test_description_nested_beyond_reading_is_one_sentence(data: Path, tmp_path: Path) -> None:
    (tmp_path / "model.yaml").write_text("weights: " + "[" * 5000 + "]" * 5000, encoding="utf-8")
    result = run_export(tmp_path / "model.yaml", "--data", data, "--out", tmp_path / "bundle")
    assert result.exit_code == 2, result.output
    assert "model.yaml is not YAML" in " ".join(result.output.split())


def test_a_head_of_other_classes_is_refused(data: Path, tmp_path: Path) -> None:
    result = run_export(described(tmp_path / "from", network(3, 3)), "--data", data, "--out", tmp_path / "bundle")
    assert result.exit_code == 2
    assert "it lacks fc.weight, fc.bias in its shape" in " ".join(result.output.split())


def test_what_goes_with_runs_alone_is_refused(run_folder: Path, data: Path, tmp_path: Path) -> None:
    path = described(tmp_path / "from", network(3))
    for arguments, words in (
        ((path,), "needs one --data"),
        ((path, "--data", data, "--data", data), "needs one --data"),
        ((path, path, "--data", data), "give it alone"),
        ((run_folder, path, "--data", data), "give it alone"),
        ((run_folder, "--data", data), "a run has its own data"),
        ((path, "--data", data, "--image-size", 128), "--image-size is for runs"),
        ((path, "--data", data, "--held-out", tmp_path), "--held-out is for runs"),
        ((path, "--data", data, "--precision", "int8"), "calibrated on training images, and there are none"),
        ((tmp_path / "none.yaml", "--data", data), "cannot read"),
    ):
        result = run_export(*arguments, "--out", tmp_path / "bundle")
        assert result.exit_code == 2, result.output
        assert words in " ".join(result.output.split())
        assert not (tmp_path / "bundle").exists()


def test_images_of_a_class_are_no_images_without_a_lesion(run_folder: Path, data: Path, tmp_path: Path) -> None:
    classes = ["benign", "malignant", "normal"]
    for number, image in enumerate(sorted((data / "images").glob("*.png"))[:12]):
        folder = tmp_path / "three classes" / classes[number % 3]
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(image, folder)
    path = described(tmp_path / "from", network(3, 3), classes=classes)
    no_lesion = ("--out", tmp_path / "bundle", "--no-lesion", tmp_path / "three classes")
    result = run_export(path, "--data", tmp_path / "three classes", *no_lesion)
    assert result.exit_code == 2, result.output
    sentence = "the model has the class 'normal', and says itself where an image is of it; leave out --no-lesion"
    assert sentence in " ".join(result.output.split())
    other = copy_run(run_folder, tmp_path / "other")
    config = dump_config(load_config(other / "config.yaml", ["data.classes=[benign, malignant, normal]"]))
    (other / "config.yaml").write_text(config, encoding="utf-8")
    result = run_export(other, *no_lesion)
    assert result.exit_code == 2, result.output
    assert sentence in " ".join(result.output.split())
    assert not (tmp_path / "bundle").exists()


def test_splits_must_have_images_that_decide(data: Path, tmp_path: Path) -> None:
    manifest = speckle_manifest(tmp_path / "split")
    write_manifest(manifest.replace(table=manifest.table.assign(split="test")), tmp_path / "split")
    path = described(tmp_path / "from", network(3))
    result = run_export(path, "--data", tmp_path / "split", "--out", tmp_path / "bundle")
    assert result.exit_code == 2
    assert "no image in val" in result.output
