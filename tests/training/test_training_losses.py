from __future__ import annotations

import pytest
import torch

from medsharp.config import LossConfig
from medsharp.errors import InputError
from medsharp.networks import create_network
from training.losses import Objective, lesion_losses


def _batch(count: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        "image": torch.rand(count, 1, 32, 32, generator=generator) * 255,
        "label": torch.arange(count) % 2,
        "mask": (torch.rand(count, 1, 32, 32, generator=generator) > 0.5).float(),
        "has_mask": torch.ones(count),
    }


def test_classes_weigh_the_same_however_many_images_they_have() -> None:
    network = create_network("resnet10_w16", num_classes=2, image_size=32)
    objective = Objective(network, LossConfig(), torch.tensor([90.0, 10.0]), 32)
    assert objective.class_weights is not None
    torch.testing.assert_close(objective.class_weights * torch.tensor([90.0, 10.0]), torch.tensor([50.0, 50.0]))
    assert Objective(network, LossConfig(class_weights="none"), torch.tensor([90.0, 10.0]), 32).class_weights is None


def test_loss_is_cross_entropy_plus_the_weighted_lesion_loss() -> None:
    network = create_network("resnet10_w16", num_classes=2, image_size=32)
    config = LossConfig(label_smoothing=0.1, mask_weight=0.7)
    objective = Objective(network, config, torch.tensor([3.0, 1.0]), 32).eval()
    batch = _batch(4)
    features = network.forward_features(batch["image"])
    plain = torch.nn.functional.cross_entropy(
        network(batch["image"]), batch["label"], objective.class_weights, label_smoothing=0.1
    )
    assert objective.lesion is not None
    lesion = lesion_losses(objective.lesion(features), batch["mask"], batch["has_mask"])
    losses = objective(batch)
    assert losses.shape == (4,)
    torch.testing.assert_close(losses.mean(), plain + 0.7 * lesion.mean())


def test_lesion_loss_is_least_for_the_mask_itself() -> None:
    mask = torch.zeros(2, 1, 32, 32)
    mask[:, :, :16, 8:24] = 1
    small = torch.nn.functional.adaptive_avg_pool2d(mask, 4)
    right = torch.logit(small.clamp(1e-4, 1 - 1e-4))
    assert float(lesion_losses(right, mask, torch.ones(2)).mean()) < 0.01
    assert float(lesion_losses(-right, mask, torch.ones(2)).mean()) > 5
    assert float(lesion_losses(torch.zeros_like(right), mask, torch.ones(2)).mean()) > 0.5


def test_images_without_a_mask_are_left_out_of_the_lesion_losses() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 1, 4, 4, generator=generator, requires_grad=True)
    mask = (torch.rand(3, 1, 32, 32, generator=generator) > 0.5).float()
    known = torch.tensor([1.0, 0.0, 1.0])
    loss = lesion_losses(logits, mask, known).mean()
    chosen = [0, 2]
    torch.testing.assert_close(loss, lesion_losses(logits[chosen], mask[chosen], torch.ones(2)).mean())
    loss.backward()
    assert logits.grad is not None
    assert not logits.grad[1].any()
    assert lesion_losses(logits, mask, torch.zeros(3)).sum().item() == 0


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "swin_tiny_patch4_window7_224"])
def test_network_without_a_feature_map_is_refused(name: str) -> None:
    network = create_network(name, num_classes=2, image_size=224)
    with pytest.raises(InputError, match=r"loss\.mask_weight = 0\.5: this network has no feature map"):
        Objective(network, LossConfig(mask_weight=0.5), torch.ones(2), 224)
