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

    The loss of an image depends on that image alone. What it is divided by, the mean class weight and the share of
    images with a mask, is that of all training images and not that of whichever images are evaluated together: the
    mean over a batch is then the mean over its parts, however a method divides the batch (micro-batches) or chooses
    from it, and its expectation is the loss over all training images.

    With `mask_weight` above 0 a 1 x 1 convolution on the last feature map predicts the lesion's mask at its resolution.
    The classifier then learns features of the place that it shall judge, which small data alone teaches slowly. With
    lesion pooling it is the network's own, which it looks by, and exported with it; else it is left behind here.

    Args:
        network: Classifier of images [B, 1, S, S].
        config: Label smoothing, class weights and mask weight.
        class_counts: Training images of each class [C], for the weights of `balanced_weights`.
        mask_share: Share of training images that have a mask, more than 0.

    Raises:
        InputError: A mask loss is asked of a network without a feature map.
    """

    class_weights: Tensor | None

    def __init__(
        self,
        network: Classifier,
        config: LossConfig,
        class_counts: Tensor,
        mask_share: float = 1.0,
    ) -> None:
        super().__init__()
        self.network = network
        self.label_smoothing = config.label_smoothing
        self.mask_weight = config.mask_weight
        self.mask_share = mask_share
        weighted = config.class_weights == "balanced"
        self.register_buffer("class_weights", balanced_weights(class_counts) if weighted else None)
        self.lesion: nn.Conv2d | None = None
        if config.mask_weight > 0:
            if network.map_channels is None:
                raise InputError(
                    f"loss.mask_weight = {config.mask_weight}: this network has no feature map [B, D, h, w], as a "
                    "ResNet has; choose another network.name or set it to 0"
                )
            if network.lesion is None:
                self.lesion = nn.Conv2d(network.map_channels, 1, kernel_size=1)

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        """Return the loss of each image of a batch as `medsharp.data.pipeline` gives it, [B], float32 or wider.

        Their mean is the loss of the batch.
        """
        features = self.network.forward_features(batch["image"])
        logits = _at_least_float32(self.network.forward_head(features))  # [B, C]
        losses = F.cross_entropy(logits, batch["label"], label_smoothing=self.label_smoothing, reduction="none")
        if self.class_weights is not None:
            # An image weighs as its class does. Weights inside the cross entropy would weigh the smoothed part of each
            # label too, and make of a rare class the likeliest answer to every image.
            losses = losses * self.class_weights[batch["label"]]
        lesion = self.lesion if self.network.lesion is None else self.network.lesion
        if self.mask_weight > 0 and lesion is not None:
            cells = _at_least_float32(lesion(features))  # [B, 1, h, w]
            found = lesion_losses(cells, batch["mask"], batch["has_mask"]) / self.mask_share
            losses = losses + self.mask_weight * found
        return losses


def balanced_weights(class_counts: Tensor) -> Tensor:
    """Return the weight of each class with which all classes that occur weigh the same, and an image 1 on average.

    `w_c = N / (C n_c)`, N images of C classes that occur, n_c of class c. That of a class that does not occur is
    1; nothing is multiplied by it.

    Args:
        class_counts: n_c, [C], which may be shares.
    """
    occurs = class_counts > 0
    weights = class_counts.sum() / (occurs.sum().clamp_min(1) * class_counts)
    return torch.where(occurs, weights, torch.ones_like(weights))


def lesion_losses(logits: Tensor, mask: Tensor, has_mask: Tensor) -> Tensor:
    """Return binary cross entropy plus soft Dice loss against the share of each cell that is lesion.

    Args:
        logits: float32 [B, 1, h, w].
        mask: float32 [B, 1, S, S] of 0 and 1.
        has_mask: float32 [B]; images of 0 have no mask and are left out.

    Returns:
        float32 [B], 0 without a mask.
    """
    target = F.adaptive_avg_pool2d(mask.to(logits.dtype), (logits.shape[-2], logits.shape[-1]))  # [B, 1, h, w]
    share = logits.sigmoid()
    entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none").mean(dim=(1, 2, 3))
    overlap = (share * target).sum(dim=(1, 2, 3))
    # 1 in both: an empty mask that is predicted empty loses nothing, and nothing is divided by 0.
    dice = 1 - (2 * overlap + 1) / (share.sum(dim=(1, 2, 3)) + target.sum(dim=(1, 2, 3)) + 1)
    return (entropy + dice) * has_mask


def _at_least_float32(values: Tensor) -> Tensor:
    """Return what autocast computed in half the precision as float32."""
    return values.to(torch.promote_types(values.dtype, torch.float32))
