"""Lesion pooling: places of the lesion count more, the map still explains the logit, and masks alone teach where."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from medsharp.errors import InputError
from medsharp.networks import LESION_FLOOR, Classifier, create_network

NETWORKS = ["resnet10_w16", "tf_efficientnet_lite0", "densenet121"]


def make_network(name: str = "resnet10_w16", pooling: str = "lesion", **options: float) -> Classifier:
    torch.manual_seed(0)
    made = create_network(name, num_classes=3, image_size=128, pooling=pooling, **options).eval()  # type: ignore[arg-type]
    with torch.no_grad():
        head = made.backbone.get_classifier()  # type: ignore[operator]
        head.bias.copy_(torch.tensor([0.3, -0.2, 0.1]))
        if made.lesion is not None:
            made.lesion.weight.normal_()
    return made


@torch.no_grad()
def spread_logits(network: Classifier, images: Tensor) -> None:
    """Let the lesion logits of these images have the mean -0.5 and the deviation 1."""
    assert network.lesion is not None
    logits = network.lesion(network.forward_features(images))
    network.lesion.weight /= logits.std()
    network.lesion.bias.copy_((network.lesion.bias - logits.mean()) / logits.std() - 0.5)  # type: ignore[union-attr, operator]


@pytest.fixture
def images() -> Tensor:
    generator = torch.Generator().manual_seed(1)
    pixels = torch.randint(0, 60, (3, 1, 128, 128), generator=generator)
    for number in range(3):
        pixels[number, :, 30 * number : 30 * number + 40, 20:70] += 150
    return pixels.to(torch.uint8)


@pytest.mark.parametrize("name", NETWORKS)
@torch.no_grad()
def test_pooling_is_the_mean_weighted_by_the_lesion(name: str, images: Tensor) -> None:
    network = make_network(name)
    spread_logits(network, images)
    maps = network.forward_features(images)
    assert isinstance(maps, Tensor)
    assert network.lesion is not None
    logit = torch.einsum("bdhw,d->bhw", maps, network.lesion.weight[0, :, 0, 0]) + network.lesion.bias
    weights = 1 / (1 + torch.exp(-logit)) + 0.05
    assert LESION_FLOOR == 0.05
    assert float(weights.std()) > 0.05
    pooled = (weights[:, None] * maps).sum((2, 3)) / weights.sum((1, 2))[:, None]
    head = network.backbone.get_classifier()  # type: ignore[operator]
    found = network.forward_all(images)
    torch.testing.assert_close(found["features"], pooled, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(found["logits"], pooled @ head.weight.T + head.bias, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(network(images), found["logits"])
    cam = (weights / weights.mean((1, 2), keepdim=True))[:, None] * torch.einsum("bdhw,cd->bchw", maps, head.weight)
    torch.testing.assert_close(found["cam"], cam, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(found["cam"].mean((2, 3)) + head.bias, found["logits"], atol=1e-5, rtol=1e-4)
    assert not torch.allclose(found["logits"], make_network(name, "average")(images), atol=1e-3)


@pytest.mark.parametrize("everywhere", [-30.0, 30.0])
@torch.no_grad()
def test_pooling_is_the_average_where_no_place_is_a_lesion_or_every_one(everywhere: float, images: Tensor) -> None:
    network = make_network()
    assert network.lesion is not None
    network.lesion.weight.zero_()
    network.lesion.bias.fill_(everywhere)  # type: ignore[union-attr]
    torch.testing.assert_close(network(images), make_network(pooling="average")(images), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_a_lesion_on_a_tenth_of_the_image_has_seven_tenths_of_the_weight() -> None:
    network = make_network()
    assert network.lesion is not None
    network.lesion.weight.zero_()
    network.lesion.weight[0, 0] = 100.0
    network.lesion.bias.fill_(-50.0)  # type: ignore[union-attr]
    maps = torch.zeros(1, network.lesion.in_channels, 10, 10)
    maps[0, 0, 3] = 1.0
    pooled = network.backbone.forward_head(network._attended(maps), pre_logits=True)  # type: ignore[operator]
    assert float(pooled[0, 0]) == pytest.approx(0.105 / 0.15)


def test_logits_teach_nothing_of_where_to_look(images: Tensor) -> None:
    network = make_network()
    spread_logits(network, images)
    maps = network.forward_features(images)
    assert isinstance(maps, Tensor)
    assert network.lesion is not None
    maps.retain_grad()
    network.forward_head(maps)[:, 1].sum().backward()
    assert network.lesion.weight.grad is None
    assert network.lesion.bias is not None
    assert network.lesion.bias.grad is None
    with torch.no_grad():
        weights = network.lesion(maps).sigmoid() + LESION_FLOOR
        head = network.backbone.get_classifier()  # type: ignore[operator]
        expected = weights / weights.sum((2, 3), keepdim=True) * head.weight[1][None, :, None, None]
    torch.testing.assert_close(maps.grad, expected, atol=1e-7, rtol=1e-4)


def test_dropout_before_the_classifier_still_acts(images: Tensor) -> None:
    network = make_network(drop_rate=0.5)
    maps = network.forward_features(images)
    assert torch.equal(network.forward_head(maps), network.forward_head(maps))
    network.train()
    assert not torch.equal(network.forward_head(maps), network.forward_head(maps))


@pytest.mark.parametrize(
    "name", ["convnext_atto", "vit_tiny_patch16_224", "swin_tiny_patch4_window7_224", "mobilenetv3_small_050"]
)
def test_networks_whose_map_would_not_explain_the_logit_are_refused(name: str) -> None:
    with pytest.raises(InputError, match=r"network\.pooling = lesion: this network does not average a feature map"):
        make_network(name)


def test_a_file_of_this_project_brings_the_convolution_and_others_leave_it_as_initialised(tmp_path: Path) -> None:
    saved = make_network()
    save_file(saved.state_dict(), tmp_path / "lesion.safetensors")
    save_file(make_network(pooling="average").state_dict(), tmp_path / "average.safetensors")
    options = {"num_classes": 3, "image_size": 128}
    torch.manual_seed(1)
    again = create_network("resnet10_w16", **options, pooling="lesion", checkpoint=tmp_path / "lesion.safetensors")
    assert again.lesion is not None
    assert saved.lesion is not None
    assert torch.equal(again.lesion.weight, saved.lesion.weight)
    assert not any("lesion" in note.replace("lesion.safetensors", "") for note in again.notes)
    fresh = create_network("resnet10_w16", **options, pooling="lesion", checkpoint=tmp_path / "average.safetensors")
    assert fresh.lesion is not None
    assert not torch.equal(fresh.lesion.weight, saved.lesion.weight)
    plain = create_network("resnet10_w16", **options, checkpoint=tmp_path / "lesion.safetensors")
    assert plain.lesion is None
    assert any("not used: lesion." in note for note in plain.notes)


def test_average_pooling_has_no_weights_of_its_own() -> None:
    assert not [key for key in make_network(pooling="average").state_dict() if "lesion" in key]
    keys = [key for key in make_network().state_dict() if "lesion" in key]
    assert keys == ["lesion.weight", "lesion.bias"]
    assert all(make_network().is_head(key) for key in keys)
