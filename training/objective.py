"""What is minimised: cross entropy, and optionally how well the feature map shows where the lesion is."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from medsharp.config import LossConfig
from medsharp.errors import InputError
from medsharp.networks import Classifier


class Objective(nn.Module):
    """A network and its loss.

    With `mask_weight` above 0 a 1 x 1 convolution on the last feature map predicts the lesion's mask at its resolution.
    The classifier then learns features of the place that it shall judge, which small data alone teaches slowly; the
    head is not part of the exported network.

    Args:
        network: Classifier of images [B, 1, S, S].
        config: Label smoothing, class weights and mask weight.
        class_counts: Training images of each class, for balanced weights.
        image_size: Side of the input in pixels.

    Raises:
        InputError: A mask loss is asked of a network without a feature map.
    """

    class_weights: Tensor | None

    def __init__(self, network: Classifier, config: LossConfig, class_counts: Tensor, image_size: int) -> None:
        super().__init__()
        self.network = network
        self.label_smoothing = config.label_smoothing
        self.mask_weight = config.mask_weight
        balanced = class_counts.sum() / (len(class_counts) * class_counts.clamp_min(1))
        self.register_buffer("class_weights", balanced if config.class_weights == "balanced" else None)
        self.lesion: nn.Conv2d | None = None
        if config.mask_weight > 0:
            with torch.no_grad():
                shape = network.eval().forward_features(torch.zeros(1, 1, image_size, image_size)).shape
            network.train()
            if len(shape) != 4 or shape[2] != shape[3]:
                raise InputError("loss.mask_weight needs a network with a feature map, such as a ResNet; set it to 0")
            self.lesion = nn.Conv2d(shape[1], 1, kernel_size=1)

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        """Return the loss of a batch as `medsharp.data.pipeline` gives it, a float32 scalar."""
        features = self.network.forward_features(batch["image"])
        logits = self.network.forward_head(features).float()
        loss = F.cross_entropy(logits, batch["label"], self.class_weights, label_smoothing=self.label_smoothing)
        if self.lesion is not None:
            loss = loss + self.mask_weight * _lesion_loss(self.lesion(features).float(), batch)
        return loss


def _lesion_loss(logits: Tensor, batch: dict[str, Tensor]) -> Tensor:
    """Binary cross entropy plus soft Dice loss against the area share of the lesion; images without a mask count 0."""
    target = F.adaptive_avg_pool2d(batch["mask"], logits.shape[-2:])
    known = batch["has_mask"]
    share = logits.sigmoid()
    entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none").mean(dim=(1, 2, 3))
    overlap = (share * target).sum(dim=(1, 2, 3))
    dice = 1 - (2 * overlap + 1) / (share.sum(dim=(1, 2, 3)) + target.sum(dim=(1, 2, 3)) + 1)
    return ((entropy + dice) * known).sum() / known.sum().clamp_min(1)
