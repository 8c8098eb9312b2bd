"""Checkpoints as people have them: wrapped, prefixed, of three colours, of other sizes, headless; what is refused."""

from __future__ import annotations

import argparse
import gzip
import io
import pickle
import tarfile
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file
from torch import Tensor, nn

from medsharp.errors import InputError
from medsharp.networks import Classifier, create_network, find_weights, restore_weights
from training.average import moving_average

Weights = dict[str, Tensor]


def network(name: str = "test_resnet", **options: Any) -> Classifier:
    return create_network(name, **{"num_classes": 2, "image_size": 64, **options})


def published(name: str = "test_resnet", seed: int = 5, **options: Any) -> nn.Module:
    torch.manual_seed(seed)
    return timm.create_model(name, **options)


def prefixed(weights: Weights, prefix: str) -> Weights:
    return {prefix + key: value for key, value in weights.items()}


def assert_body_equals(made: Classifier, weights: Weights, besides: tuple[str, ...]) -> None:
    ours = made.backbone.state_dict()
    for key in set(ours) - set(besides):
        assert torch.equal(ours[key], weights[key]), key


STEM_AND_HEAD = ("conv1.0.weight", "fc.weight", "fc.bias")

# What is saved of the right weights and of other ones, beside which they may stand.
LAYOUTS: dict[str, Callable[[Weights, Weights], Any]] = {
    "plain": lambda right, other: right,
    "timm": lambda right, other: {
        "epoch": 3,
        "arch": "test_resnet",
        "state_dict": right,
        "args": argparse.Namespace(lr=1),
    },
    "timm with EMA": lambda right, other: {"state_dict": other, "state_dict_ema": right, "metric": np.float64(0.5)},
    "DeiT with EMA": lambda right, other: {"model": other, "model_ema": right, "optimizer": {"state": {0: {}}}},
    "DDP": lambda right, other: prefixed(right, "module."),
    "compiled DDP": lambda right, other: {"model": prefixed(right, "_orig_mod.module.")},
    "Lightning": lambda right, other: {
        "state_dict": {**prefixed(right, "model."), "criterion.weight": torch.ones(2)},
        "hyper_parameters": {"lr": 0.1},
        "pytorch-lightning_version": "2.5",
    },
    "stacked": lambda right, other: {"state_dict": prefixed(right, "module.model.backbone.")},
    "encoder with a projection": lambda right, other: {
        "model": {**prefixed(right, "encoder."), **prefixed(other, "projector.")}
    },
    "DINO": lambda right, other: {
        "student": prefixed(other, "module.backbone."),
        "teacher": {**prefixed(right, "backbone."), "head.mlp.0.weight": torch.ones(3, 3)},
    },
    "MoCo": lambda right, other: {
        "state_dict": {**prefixed(right, "module.encoder_q."), **prefixed(other, "module.encoder_k.")}
    },
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("headless", [False, True])
def test_weights_are_found_in_what_wraps_them(layout: str, headless: bool, tmp_path: Path) -> None:
    right, other = published(seed=5).state_dict(), published(seed=6).state_dict()
    if headless:
        del right["fc.weight"], right["fc.bias"]
    torch.save(LAYOUTS[layout](right, other), tmp_path / "w.pth")
    made = network(checkpoint=tmp_path / "w.pth")
    assert_body_equals(made, right, STEM_AND_HEAD)
    stem = right["conv1.0.weight"].sum(dim=1, keepdim=True)
    torch.testing.assert_close(made.backbone.state_dict()["conv1.0.weight"], stem)
    notes = "\n".join(made.notes)
    assert f"left as initialised, being {'missing' if headless else 'of another shape'} in w.pth: fc.weight" in notes
    assert made.origin is not None
    assert (made.origin.kind, made.origin.name) == ("file", "w.pth")
    assert ("criterion.weight" in notes) == (layout == "Lightning")
    assert ("behind teacher.backbone" in notes) == (layout == "DINO")
    assert ("behind state_dict_ema" in notes) == (layout == "timm with EMA")


def test_what_is_not_used_is_counted_and_named(tmp_path: Path) -> None:
    right, other = published().state_dict(), published(seed=6).state_dict()
    torch.save({"state_dict": other, "state_dict_ema": right}, tmp_path / "w.pth")
    (note,) = (note for note in network(checkpoint=tmp_path / "w.pth").notes if "not used" in note)
    assert note.startswith("w.pth: not used: state_dict.conv1.0.weight, ")
    assert note.endswith(f"({len(other)} in all)")


def test_masked_autoencoder_is_taken_without_its_decoder_and_resampled(tmp_path: Path) -> None:
    source = published("test_vit", img_size=160)
    weights = {key: value for key, value in source.state_dict().items() if not key.startswith("head.")}
    with torch.no_grad():
        weights["pos_embed"].fill_(0.25)
    decoder = {"mask_token": torch.zeros(1, 1, 64), "decoder_blocks.0.attn.qkv.weight": torch.ones(3, 3)}
    save_file({**weights, **decoder}, tmp_path / "mae.safetensors")
    made = network("test_vit", image_size=64, checkpoint=tmp_path / "mae.safetensors")
    assert_body_equals(made, weights, ("patch_embed.proj.weight", "pos_embed", "head.weight", "head.bias"))
    table = made.backbone.get_parameter("pos_embed")
    assert table.shape[1] < weights["pos_embed"].shape[1]
    torch.testing.assert_close(table, torch.full_like(table, 0.25), atol=1e-3, rtol=0)
    notes = "\n".join(made.notes)
    assert "resampled to this size by timm: pos_embed" in notes
    assert "not used: " in notes
    assert "decoder_blocks.0.attn.qkv.weight" in notes


def first_publication(weights: Weights) -> Weights:
    """Name ConvNeXt's weights as its authors do (Z. Liu et al., CVPR 2022, facebookresearch/ConvNeXt)."""
    renamed = {}
    for key, value in weights.items():
        key = key.replace("stem.", "downsample_layers.0.").replace("conv_dw", "dwconv").replace("mlp.fc", "pwconv")
        for stage in range(4):
            key = key.replace(f"stages.{stage}.blocks.", f"stages.{stage}.")
            key = key.replace(f"stages.{stage}.downsample.", f"downsample_layers.{stage}.")
        renamed[key.replace("head.norm.", "norm.").replace("head.fc.", "head.")] = value
    return renamed


@pytest.mark.parametrize("prefix", ["", "module."])
def test_names_of_a_first_publication_are_turned_into_timms(prefix: str, tmp_path: Path) -> None:
    weights = published("convnext_zepto_rms").state_dict()
    torch.save({"model": prefixed(first_publication(weights), prefix)}, tmp_path / "w.pth")
    made = network("convnext_zepto_rms", checkpoint=tmp_path / "w.pth")
    assert_body_equals(made, weights, ("stem.0.weight", "head.fc.weight", "head.fc.bias"))
    assert any("turned into timm's by timm's own conversion" in note for note in made.notes)


def test_torchvisions_resnet_answers_as_it_did(tmp_path: Path) -> None:
    torch.manual_seed(0)
    theirs = torchvision.models.resnet18(num_classes=2).eval()
    torch.save(theirs.state_dict(), tmp_path / "w.pth")
    made = network("resnet18", checkpoint=tmp_path / "w.pth", normalization="dataset").eval()
    made.set_normalization(0.0, 1.0)
    image = torch.randint(0, 256, (2, 1, 64, 64), dtype=torch.uint8)
    with torch.no_grad():
        torch.testing.assert_close(made(image), theirs(image.expand(-1, 3, -1, -1) / 255), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", ["classifier", "module.", "state", "average"])
def test_own_checkpoints_bring_their_mean_and_deviation(kind: str, tmp_path: Path) -> None:
    source = network("resnet10_w16")
    source.set_normalization(0.31, 0.17)
    weights: Any = {
        "classifier": source.state_dict(),
        "module.": prefixed(source.state_dict(), "module."),
        "state": {"epoch": 1, "objective": prefixed(source.state_dict(), "network.")},
        "average": moving_average(source, 0.9).state_dict(),
    }[kind]
    torch.save(weights, tmp_path / "own.pt")
    made = network("resnet10_w16", checkpoint=tmp_path / "own.pt")
    assert_body_equals(made, source.backbone.state_dict(), ())
    assert float(made.mean) == pytest.approx(0.31)
    assert float(made.std) == pytest.approx(0.17)
    assert made.normalization == "weights"
    assert made.origin is not None
    assert not made.origin.assumed
    assert ("own.pt: not used: n_averaged" in made.notes) == (kind == "average")
    assert not any("mean" in note for note in made.notes)


@pytest.mark.parametrize("prefix", ["backbone.", "model.backbone."])
def test_buffers_of_three_colours_beside_a_foreign_network_are_not_used(prefix: str, tmp_path: Path) -> None:
    """Others keep their mean and deviation beside it too, in whatever scale: of this project's files it is grey."""
    outer = prefix.removesuffix("backbone.")
    colours = {f"{outer}mean": torch.full((3, 1, 1), 110.0), f"{outer}std": torch.full((3, 1, 1), 57.0)}
    torch.save(prefixed(published(num_classes=2).state_dict(), prefix) | colours, tmp_path / "w.pth")
    made = network(checkpoint=tmp_path / "w.pth", channels=3, whole=True, mean=[0.4, 0.5, 0.6], std=0.2)
    assert made.mean.flatten().tolist() == pytest.approx([0.4, 0.5, 0.6])
    assert f"w.pth: not used: {outer}mean, {outer}std" in made.notes
    assert made.origin is not None
    assert made.origin.assumed
    grey = network(checkpoint=tmp_path / "w.pth")
    assert f"w.pth: not used: {outer}mean, {outer}std" in grey.notes


def test_lesion_pooling_is_taken_from_own_files_and_missed_in_others(tmp_path: Path) -> None:
    source = network("resnet10_w16", pooling="lesion")
    torch.save(source.state_dict(), tmp_path / "own.pt")
    made = network("resnet10_w16", pooling="lesion", checkpoint=tmp_path / "own.pt")
    assert all(torch.equal(value, made.state_dict()[key]) for key, value in source.state_dict().items())
    assert made.notes == ()
    torch.save(source.backbone.state_dict(), tmp_path / "other.pt")
    (note,) = network("resnet10_w16", pooling="lesion", checkpoint=tmp_path / "other.pt").notes
    assert note == "left as initialised, being missing in other.pt: lesion.weight, lesion.bias"
    (note,) = network("resnet10_w16", checkpoint=tmp_path / "own.pt").notes
    assert note == "own.pt: not used: lesion.weight, lesion.bias"


def test_normalisation_of_a_foreign_file_is_timms_for_the_network_unless_said_otherwise(tmp_path: Path) -> None:
    torch.save(published("resnet18", num_classes=0).state_dict(), tmp_path / "w.pth")
    made = network("resnet18", checkpoint=tmp_path / "w.pth")
    assert float(made.mean) == pytest.approx((0.485 + 0.456 + 0.406) / 3)
    assert float(made.std) == pytest.approx((0.229 + 0.224 + 0.225) / 3)
    assert made.origin is not None
    assert made.origin.assumed
    given = network("resnet18", checkpoint=tmp_path / "w.pth", mean=[0.1, 0.2, 0.6], std=0.4)
    assert (float(given.mean), float(given.std)) == (pytest.approx(0.3), pytest.approx(0.4))
    assert network("resnet18", checkpoint=tmp_path / "w.pth", normalization="dataset").normalization == "dataset"


def test_narrow_networks_are_nobodys_and_have_no_statistics_of_timms(tmp_path: Path) -> None:
    torch.save(network("resnet10_w16").backbone.state_dict(), tmp_path / "w.pth")
    assert network("resnet10_w16", checkpoint=tmp_path / "w.pth").normalization == "dataset"
    with pytest.raises(InputError, match=r"normalization = 'weights': w\.pth does not state theirs; set network\.mean"):
        network("resnet10_w16", checkpoint=tmp_path / "w.pth", normalization="weights")
    with pytest.raises(InputError, match="normalization = 'weights': there are none"):
        network("resnet10_w16", normalization="weights")


class Trap:
    """Leaves a mark where it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, tuple[Path]]:
        return (Path.touch, (self.mark,))


def _changed(weights: Weights, key: str, value: float) -> Weights:
    weights[key].view(-1)[1] = value
    return weights


def _lacking(weights: Weights) -> Weights:
    del weights["layer2.0.bn1.running_var"]
    return weights


def _within_itself() -> dict[str, object]:
    content: dict[str, object] = {"w": torch.ones(2)}
    return content | {"again": content, "once more": {"content": content.setdefault("self", content)}}


def _nested(depth: int) -> dict[str, object]:
    content: dict[str, object] = dict(published().state_dict())
    for _ in range(depth):
        content = {"model": content}
    return content


def _npz() -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **{name: value.numpy() for name, value in published().state_dict().items()})
    return stream.getvalue()


def _zipped(*files: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for number, content in enumerate(files):
            archive.writestr(f"{number}.pth", content)
    return stream.getvalue()


def _write_tar(path: Path) -> None:
    with tarfile.open(path, "w") as archive:
        archive.addfile(tarfile.TarInfo("weights.pth"))


def _write_torch_script(path: Path) -> None:
    with warnings.catch_warnings(action="ignore"):  # of torch, that it is old
        torch.jit.trace(nn.Linear(2, 2), torch.zeros(1, 2)).save(path)


WRONG: dict[str, tuple[Callable[[Path], object], str]] = {
    "class": (
        lambda path: torch.save(published(), path),
        r"is a pickle of .*timm.*state_dict\(\)",
    ),
    "trap": (
        lambda path: torch.save({"w": Trap(path.parent / "sprung")}, path),
        r"is a pickle of .*pathlib\.Path",
    ),
    "plain pickle": (
        lambda path: path.write_bytes(pickle.dumps({"w": Trap(path.parent / "sprung")})),
        "cannot be read: it is damaged, or neither safetensors nor what torch.save writes$",
    ),
    "old format": (
        lambda path: torch.save({"w": Trap(path.parent / "sprung")}, path, _use_new_zipfile_serialization=False),
        "is a pickle of getattr, which would run code",
    ),
    "text": (lambda path: path.write_text("hello"), "neither safetensors nor what torch.save writes$"),
    "within itself": (lambda path: torch.save(_within_itself(), path), "does not fit this network"),
    "nested": (lambda path: torch.save(_nested(200), path), "holds dictionaries more than 100 deep in each other"),
    "shapes alone": (
        lambda path: torch.save({k: v.to("meta") for k, v in published().state_dict().items()}, path),
        r"conv1\.0\.weight is empty, sparse or quantised",
    ),
    "sparse": (
        lambda path: torch.save(published().state_dict() | {"fc.weight": torch.eye(9).to_sparse()}, path),
        r"fc\.weight is empty, sparse or quantised",
    ),
    "integers": (
        lambda path: torch.save({k: v.to(torch.int8) for k, v in published().state_dict().items()}, path),
        r"not floating-point but torch\.int8: conv1\.0\.weight, .* \(75 in all\)$",
    ),
    "truncated": (
        lambda path: (torch.save(published().state_dict(), path), path.write_bytes(path.read_bytes()[:-5000])),
        "cannot be read: it is cut off or damaged$",
    ),
    "NumPy": (
        lambda path: path.write_bytes(_npz()),
        r"cannot be read: it is an archive of NumPy arrays \(\.npz\); save them as safetensors",
    ),
    "zipped": (
        lambda path: (torch.save(published().state_dict(), path), path.write_bytes(_zipped(path.read_bytes()))),
        r"is a zip archive that torch\.save did not write; give safetensors or what it writes, unpacked$",
    ),
    "empty zip": (lambda path: path.write_bytes(_zipped()), r"is a zip archive that torch\.save did not write"),
    "gzipped": (
        lambda path: (torch.save(published().state_dict(), path), path.write_bytes(gzip.compress(path.read_bytes()))),
        "is a packed archive; unpack it, and give the file of weights in it$",
    ),
    "tar": (_write_tar, "is a packed archive; unpack it"),
    "TorchScript": (
        _write_torch_script,
        r"is a TorchScript archive, which would run code; .*save the weights alone: torch\.save\(model\.state_dict\(\)",
    ),
    "truncated safetensors": (
        lambda path: (save_file(published().state_dict(), path), path.write_bytes(path.read_bytes()[:-5000])),
        "cannot be read",
    ),
    "empty": (lambda path: path.write_bytes(b""), "cannot be read"),
    "folder": (lambda path: path.mkdir(), "is a folder; give the file of weights in it"),
    "no tensors": (lambda path: torch.save({"epoch": 3}, path), "holds no state dict of tensors"),
    "tensor": (lambda path: torch.save(torch.ones(3), path), "holds no state dict of tensors"),
    "NaN": (
        lambda path: torch.save(_changed(published().state_dict(), "layer1.0.conv1.weight", float("nan")), path),
        r"not finite in layer1\.0\.conv1\.weight$",
    ),
    "infinity": (
        lambda path: torch.save(_changed(published().state_dict(), "bn1.bias", float("inf")), path),
        r"not finite in bn1\.bias$",
    ),
    "lacking": (
        lambda path: torch.save(_lacking(published().state_dict()), path),
        r"it lacks layer2.*running_var",
    ),
    "another width": (
        lambda path: torch.save(published("test_resnet", channels=(24, 48, 48, 96)).state_dict(), path),
        r"is \[\d+, \d+, .*\] there and \[\d+, \d+, .*\] here",
    ),
    "deeper": (
        lambda path: torch.save(published("test_resnet", layers=(2, 1, 1, 1)).state_dict(), path),
        r"weights that the network has not: layer1\.1\.conv1\.weight",
    ),
    "shallower": (
        lambda path: torch.save({k: v for k, v in published().state_dict().items() if "layer4" not in k}, path),
        r"it lacks layer4\.0",
    ),
    "another family": (
        lambda path: torch.save(published("test_vit").state_dict(), path),
        r"its names begin cls_token, .* the network's begin conv1\.0\.weight, .* and timm has no conversion of others$",
    ),
    "torchvision": (
        lambda path: torch.save({f"features.0.{n}.weight": torch.ones(2) for n in range(5)}, path),
        r"begin features\.0\.0\.weight, .*\(5 in all\).*look like torchvision's, so take timm's weights",
    ),
}


@pytest.mark.parametrize("kind", WRONG)
def test_what_cannot_be_used_is_refused_in_one_sentence(kind: str, tmp_path: Path) -> None:
    write, words = WRONG[kind]
    path = tmp_path / "wrong.pth"
    write(path)
    with pytest.raises(InputError, match=words) as refusal:
        network(checkpoint=path)
    assert str(path) in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert [file.name for file in tmp_path.iterdir()] == ["wrong.pth"]


@pytest.mark.parametrize("name", ["fc.bias", "layer1.0.bn1.running_var"])
def test_a_runs_own_weights_are_restored_whole_or_not_at_all(name: str, tmp_path: Path) -> None:
    source = network("resnet10_w16")
    save_file(source.state_dict(), tmp_path / "own.safetensors")
    made = network("resnet10_w16")
    restore_weights(made, tmp_path / "own.safetensors")
    assert all(torch.equal(value, made.state_dict()[key]) for key, value in source.state_dict().items())
    less = {key: value for key, value in source.state_dict().items() if key != f"backbone.{name}"}
    save_file(less, tmp_path / "less.safetensors")
    with pytest.raises(InputError, match=rf"less\.safetensors does not fit this network: backbone\.{name} differ"):
        restore_weights(made, tmp_path / "less.safetensors")
    save_file(network("resnet10_w16", num_classes=3).state_dict(), tmp_path / "three.safetensors")
    with pytest.raises(InputError, match=r"backbone\.fc\.bias, backbone\.fc\.weight differ"):
        restore_weights(made, tmp_path / "three.safetensors")


def test_a_file_is_tried_before_there_are_data(tmp_path: Path) -> None:
    torch.save(published().state_dict(), tmp_path / "w.pth")
    options = {"num_classes": 2, "image_size": 64}
    origin = find_weights("test_resnet", checkpoint=tmp_path / "w.pth", **options)  # type: ignore[arg-type]
    assert origin == network(checkpoint=tmp_path / "w.pth").origin
    assert find_weights("test_resnet", **options) is None  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"nowhere\.pt does not exist"):
        find_weights("test_resnet", checkpoint="nowhere.pt", **options)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"w\.pth does not fit this network"):
        find_weights("test_vit", checkpoint=tmp_path / "w.pth", **options)  # type: ignore[arg-type]
