"""A network that is offered can be exported: a small one of each of timm's families, and a refusal before training."""

from __future__ import annotations

import importlib.util
import os
from datetime import date
from pathlib import Path
from types import ModuleType

import pytest
import timm
import torch
from typer.testing import CliRunner

from medsharp.cli import app
from medsharp.errors import InputError
from medsharp.export import translation
from medsharp.export.translation import check_translation
from medsharp.networks import create_network, list_networks

SMALL = (
    "test_convnext",
    "test_efficientnet",
    "test_mambaout",
    "test_nfnet",
    "test_resnet",
    "test_vit",
    "test_vit_relpos",
)
"""timm's own networks for tests, of a few ten thousand weights: one of each kind of layer, in seconds."""


TURNS = ("crossvit", "maxxvit", "nest")
"""Families that are offered and have layers which the above lack; half a minute each, so that one is tried a day."""


def families() -> ModuleType:
    """The smallest network of each family, as the test of networks lists them."""
    path = Path(__file__).parents[1] / "networks" / "test_networks_families.py"
    spec = importlib.util.spec_from_file_location("families", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


FAMILIES = families()


@pytest.fixture(autouse=True)
def fresh_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(translation, "cache_folder", lambda: tmp_path / "cache")
    return tmp_path / "cache"


@pytest.mark.parametrize("name", SMALL)
def test_small_networks_of_every_kind_of_layer_can_be_exported(name: str) -> None:
    assert name in list_networks(name)
    torch.manual_seed(0)
    check_translation(create_network(name, num_classes=3, image_size=64), name)


@pytest.mark.parametrize("module", TURNS)
def test_families_with_layers_of_their_own_can_be_exported_by_turns(module: str) -> None:
    if TURNS[date.today().toordinal() % len(TURNS)] != module:
        pytest.skip("it is another family's day; MEDSHARP_EVERY_FAMILY=1 tries all")
    name, side = FAMILIES.family(module)
    torch.manual_seed(0)
    check_translation(create_network(name, num_classes=2, image_size=side), name)


@pytest.mark.slow
@pytest.mark.skipif("MEDSHARP_EVERY_FAMILY" not in os.environ, reason="takes a quarter of an hour")
@pytest.mark.parametrize("module", sorted(set(timm.list_modules()) - FAMILIES.NO_CLASSIFIERS - FAMILIES.LARGE))
def test_smallest_network_of_every_family_can_be_exported(module: str) -> None:
    name, side = FAMILIES.family(module)
    torch.manual_seed(0)
    check_translation(create_network(name, num_classes=2, image_size=side), name)


def test_what_works_is_tried_once_and_again_where_size_or_versions_are_others(
    fresh_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[int] = []
    right = translation._try

    def counted(network: object, path: Path) -> None:
        tried.append(1)
        right(network, path)  # type: ignore[arg-type]

    monkeypatch.setattr(translation, "_try", counted)
    network = create_network("test_resnet", num_classes=2, image_size=64)
    state = torch.random.get_rng_state()
    check_translation(network, "test_resnet")
    assert network.training
    assert torch.equal(torch.random.get_rng_state(), state)
    check_translation(network, "test_resnet")
    assert len(tried) == 1
    check_translation(create_network("test_resnet", num_classes=2, image_size=96), "test_resnet")
    assert len(tried) == 2
    monkeypatch.setattr(translation, "_version", lambda package: "another")
    check_translation(network, "test_resnet")
    assert len(tried) == 3


def test_network_that_answers_otherwise_in_onnx_is_refused(fresh_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = create_network("test_resnet", num_classes=2, image_size=64)
    right = translation.write_onnx

    def write_then_change(*args: object) -> None:
        right(*args, {})  # type: ignore[arg-type]
        with torch.no_grad():
            network.backbone.get_classifier().bias.add_(1.0)  # type: ignore[operator]

    monkeypatch.setattr(translation, "write_onnx", lambda ensemble, path, properties: write_then_change(ensemble, path))
    with pytest.raises(InputError, match=r"network test_resnet at 64 x 64 pixels could not be served .* differ by"):
        check_translation(network, "test_resnet")
    assert not fresh_cache.exists()


def test_training_of_a_network_that_cannot_be_exported_is_refused_before_it_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unable(*args: object, **options: object) -> None:
        raise RuntimeError("aten::mysterious has no translation")

    monkeypatch.setattr(torch.onnx, "export", unable)
    command = ["train", "--data", "phantom", "--out", str(tmp_path / "run"), "--set", "network.name=test_resnet"]
    result = CliRunner().invoke(app, [*command, "--set", "data.image_size=64"], env={"COLUMNS": "300"})
    sentence = " ".join(result.stderr.split())
    assert result.exit_code == 2, result.output
    assert "error: network test_resnet at 64 x 64 pixels could not be served once it is trained" in sentence
    assert "aten::mysterious has no translation; choose another network.name or data.image_size" in sentence
    assert not (tmp_path / "run").exists()
