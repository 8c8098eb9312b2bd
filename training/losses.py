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
        class_counts: Training images of each class [C], for balanced weights N / (C n_c).
        image_size: Side S of the input in pixels.

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
            # [1, D, h, w]: transformers give tokens [1, T, D], some networks [1, h, w, D].
            if len(shape) != 4 or shape[2] != shape[3]:
                raise InputError(
                    f"loss.mask_weight = {config.mask_weight}: this network has no feature map [B, D, h, w], as a "
                    "ResNet has; choose another network.name or set it to 0"
                )
            self.lesion = nn.Conv2d(shape[1], 1, kernel_size=1)

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        """Return the loss of each image of a batch as `medsharp.data.pipeline` gives it, float32 [B].

        Their mean is the loss of the batch: class weights and missing masks are already allowed for.
        """
        features = self.network.forward_features(batch["image"])
        logits = self.network.forward_head(features).float()
        labels = batch["label"]
        losses = F.cross_entropy(
            logits, labels, self.class_weights, label_smoothing=self.label_smoothing, reduction="none"
        )
        if self.class_weights is not None:
            losses = losses / self.class_weights[labels].mean()
        if self.lesion is not None:
            found = self.lesion(features).float()
            losses = losses + self.mask_weight * lesion_losses(found, batch["mask"], batch["has_mask"])
        return losses


def lesion_losses(logits: Tensor, mask: Tensor, has_mask: Tensor) -> Tensor:
    """Return binary cross entropy plus soft Dice loss against the share of each cell that is lesion.

    Args:
        logits: float32 [B, 1, h, w].
        mask: float32 [B, 1, S, S] of 0 and 1.
        has_mask: float32 [B]; images of 0 have no mask and are left out.

    Returns:
        float32 [B], 0 without a mask; their mean is the mean over images with a mask, or 0 when there is none.
    """
    target = F.adaptive_avg_pool2d(mask, (logits.shape[-2], logits.shape[-1]))
    share = logits.sigmoid()
    entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none").mean(dim=(1, 2, 3))
    overlap = (share * target).sum(dim=(1, 2, 3))
    dice = 1 - (2 * overlap + 1) / (share.sum(dim=(1, 2, 3)) + target.sum(dim=(1, 2, 3)) + 1)
    return (entropy + dice) * has_mask * (len(has_mask) / has_mask.sum().clamp_min(1))
