"""The loss: what it is, and that it is the same however a batch is divided."""

from __future__ import annotations

import pytest
import torch

from medsharp.config import LossConfig
from medsharp.errors import InputError
from medsharp.networks import create_network
from medsharp.optim import SAM
from training.losses import Objective, balanced_weights, lesion_losses


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
    objective = Objective(network, LossConfig(), torch.tensor([90.0, 10.0]))
    assert objective.class_weights is not None
    torch.testing.assert_close(objective.class_weights * torch.tensor([90.0, 10.0]), torch.tensor([50.0, 50.0]))
    assert Objective(network, LossConfig(class_weights="none"), torch.tensor([90.0, 10.0])).class_weights is None


def test_an_image_weighs_one_on_average_over_the_training_images() -> None:
    for counts in ([875.0, 125.0], [7.0, 90.0, 3.0], [5.0, 0.0, 15.0]):
        numbers = torch.tensor(counts)
        weights = balanced_weights(numbers)
        assert float((weights * numbers).sum() / numbers.sum()) == pytest.approx(1)
        shares = (weights * numbers)[numbers > 0]
        torch.testing.assert_close(shares, shares[:1].expand_as(shares))


def test_weights_of_shares_are_those_of_counts() -> None:
    """Drawing that knows no counts gives shares, some below one."""
    for counts in ([875.0, 125.0], [7.0, 90.0, 3.0], [5.0, 0.0, 15.0]):
        numbers = torch.tensor(counts)
        torch.testing.assert_close(balanced_weights(numbers / numbers.mean()), balanced_weights(numbers))


def test_rare_class_is_the_answer_to_its_own_images_alone() -> None:
    """The loss of an image is least at its smoothed label, whatever the weights of classes."""
    network = create_network("resnet10_w16", num_classes=3, image_size=32)
    objective = Objective(network, LossConfig(label_smoothing=0.1), torch.tensor([700.0, 290.0, 10.0]))
    for label in range(3):
        logits = torch.zeros(1, 3, requires_grad=True)
        network.forward_features = network.forward_head = lambda _, logits=logits: logits  # type: ignore[method-assign]
        objective({"image": torch.zeros(1, 1, 32, 32), "label": torch.tensor([label])}).backward()
        target = torch.full((3,), 0.1 / 3)
        target[label] += 0.9
        weight = 1000 / (3 * [700.0, 290.0, 10.0][label])
        torch.testing.assert_close(logits.grad, weight * (1 / 3 - target)[None])


def test_loss_is_cross_entropy_plus_the_weighted_lesion_loss() -> None:
    network = create_network("resnet10_w16", num_classes=2, image_size=32)
    config = LossConfig(label_smoothing=0.1, mask_weight=0.7)
    objective = Objective(network, config, torch.tensor([3.0, 1.0]), mask_share=0.75).eval()
    batch = _batch(4)
    batch["label"] = torch.tensor([0, 1, 0, 0])
    batch["has_mask"] = torch.tensor([1.0, 1.0, 0.0, 1.0])
    features = network.forward_features(batch["image"])
    # Masks as often as among the training images: their mean weight is that of the batch.
    logs = network(batch["image"]).log_softmax(dim=1)
    smooth = torch.tensor([[0.95, 0.05], [0.05, 0.95]])[batch["label"]]
    plain = (torch.tensor([4 / 6, 4 / 2])[batch["label"]] * -(smooth * logs).sum(dim=1)).mean()
    assert objective.lesion is not None
    lesion = lesion_losses(objective.lesion(features), batch["mask"], batch["has_mask"])
    losses = objective(batch)
    assert losses.shape == (4,)
    torch.testing.assert_close(losses.mean(), plain + 0.7 * lesion[batch["has_mask"] == 1].mean())


def _uneven() -> tuple[Objective, dict[str, torch.Tensor]]:
    """13 images of three classes, 9, 3 and 1; a mask for 4 of them, all in the first half; in float64."""
    torch.manual_seed(0)
    network = create_network("convnext_atto", num_classes=3, image_size=32)  # without batch norm
    config = LossConfig(label_smoothing=0.1, mask_weight=0.7)
    objective = Objective(network, config, torch.tensor([700.0, 250.0, 50.0]), mask_share=0.4).double().eval()
    batch = _batch(13)
    batch["label"] = torch.tensor([0, 0, 1, 0, 0, 2, 0, 0, 0, 1, 1, 0, 0])
    batch["has_mask"] = torch.tensor([1.0, 0, 1, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0])
    return objective, batch


def test_loss_of_an_image_does_not_depend_on_what_it_is_evaluated_with() -> None:
    objective, batch = _uneven()
    whole = objective(batch)
    assert whole.dtype == torch.float64
    for rows in ([5], [0, 2, 3, 5], [6, 7, 8, 11], [12, 9, 5, 1]):
        part = objective({key: value[rows] for key, value in batch.items()})
        torch.testing.assert_close(part, whole[rows], rtol=1e-9, atol=1e-12)


def _gradient(micro_batch: int | None) -> tuple[torch.Tensor, torch.Tensor, list[slice | None]]:
    """Gradient and loss of a step of SAM without a neighbourhood, and the rows that it asked for."""
    objective, batch = _uneven()
    optimizer = SAM(objective.parameters(), torch.optim.SGD, lr=0.0, rho=0.0, micro_batch=micro_batch)
    asked: list[slice | None] = []

    def closure(rows: slice | None = None) -> torch.Tensor:
        asked.append(rows)
        optimizer.zero_grad()
        part = batch if rows is None else {key: value[rows] for key, value in batch.items()}
        loss = objective(part).mean()
        loss.backward()
        return loss.detach()

    loss = optimizer.step(closure, batch_size=13)
    gradient = torch.cat([p.grad.flatten() for p in objective.parameters() if p.grad is not None])
    return gradient, loss, asked


@pytest.mark.parametrize("micro_batch", [1, 2, 3, 5, 8, 12, 13, 50])
def test_micro_batches_without_a_neighbourhood_give_the_gradient_of_the_batch(micro_batch: int) -> None:
    whole, loss_of_whole, _ = _gradient(None)
    parts, loss_of_parts, asked = _gradient(micro_batch)
    assert None not in asked
    assert float((parts - whole).norm() / whole.norm()) < 1e-9
    torch.testing.assert_close(loss_of_parts, loss_of_whole, rtol=1e-9, atol=0)


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
    losses = lesion_losses(logits, mask, known)
    chosen = [0, 2]
    torch.testing.assert_close(losses[chosen], lesion_losses(logits[chosen], mask[chosen], torch.ones(2)))
    assert losses[1].item() == 0
    losses.mean().backward()
    assert logits.grad is not None
    assert not logits.grad[1].any()
    assert lesion_losses(logits, mask, torch.zeros(3)).sum().item() == 0


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "swin_tiny_patch4_window7_224"])
def test_network_without_a_feature_map_is_refused(name: str) -> None:
    network = create_network(name, num_classes=2, image_size=224)
    with pytest.raises(InputError, match=r"loss\.mask_weight = 0\.5: this network has no feature map"):
        Objective(network, LossConfig(mask_weight=0.5), torch.ones(2))
