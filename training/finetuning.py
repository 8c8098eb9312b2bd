"""Fine-tuning: how fast each layer learns beside the head, and a backbone that stands still at first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from timm.models import group_parameters
from torch import Tensor, nn

from medsharp.config import TrainConfig
from medsharp.errors import InputError
from medsharp.networks import Classifier

Shares = Mapping[Tensor, float]
"""The learning rate of a parameter as a share of the head's; 1 of those that are not named."""


def learning_rate_shares(network: Classifier, config: TrainConfig) -> dict[Tensor, float]:
    """Return the share of each parameter of the backbone, `backbone_lr_ratio * layer_decay ** depth`.

    The depth counts layers from the last one, whose depth is 0; layers are those of timm's `param_groups_layer_decay`
    (H. Bao, L. Dong, S. Piao, F. Wei, "BEiT: BERT Pre-Training of Image Transformers", ICLR 2022).

    Raises:
        InputError: Layers are asked for, and timm does not know those of the network.
    """
    section = config.optimizer
    decay = 1.0 if section.layer_decay is None else section.layer_decay
    depths: dict[str, int] = {}
    if decay != 1:
        if not hasattr(network.backbone, "group_matcher"):
            raise InputError(
                f"optimizer.layer_decay = {decay}: timm knows no layers of network {config.network.name}, in which to "
                "divide it; leave it out, or choose another network.name"
            )
        layers = group_parameters(network.backbone, network.backbone.group_matcher(coarse=False), reverse=True)  # type: ignore[operator]
        last = max(layers.values())
        depths = {name: last - layer for name, layer in layers.items()}
    return {
        parameter: section.backbone_lr_ratio * decay ** depths.get(name, 0)
        for name, parameter in network.backbone.named_parameters()
        if not network.is_head(f"backbone.{name}")
    }


def divided_by_share(groups: list[dict[str, Any]], shares: Shares, lr: float) -> list[dict[str, Any]]:
    """Divide groups of named parameters into such of one learning rate each, which keep what else the groups hold.

    Each has `lr` and, for schedules, `lr_scale`, its share of the head's.

    Args:
        groups: As `medsharp.optim.parameter_groups` returns them.
        shares: Of the learning rate.
        lr: Learning rate of the head.
    """
    divided = []
    for group in groups:
        parts: dict[float, list[tuple[str, nn.Parameter]]] = {}
        for name, parameter in group["params"]:
            parts.setdefault(shares.get(parameter, 1.0), []).append((name, parameter))
        divided += [{**group, "params": params, "lr": lr * share, "lr_scale": share} for share, params in parts.items()]
    return divided


class Backbone:
    """All of a network but its head, which stands still while it is frozen.

    Frozen parameters get no gradient: no optimizer moves, decays or perturbs them, and none counts them in a norm.
    Frozen layers are in eval mode: batch norm uses and keeps the statistics that it came with, and stochastic depth
    drops nothing. Dropout, which timm's networks have before the classifier, goes on.

    Args:
        network: As it was made: what does not learn now, such as a fixed position table, never will.
    """

    def __init__(self, network: Classifier) -> None:
        body = network.backbone.named_parameters()
        self._learning = [p for name, p in body if p.requires_grad and not network.is_head(f"backbone.{name}")]
        heads = {name.rpartition(".")[0] for name, _ in network.backbone.named_parameters()}
        heads = {name for name in heads if network.is_head(f"backbone.{name}.")}
        self._still = [
            layer
            for name, layer in network.backbone.named_modules()
            # What holds the head decides whether dropout before it is on.
            if not any(_within(head, name) or _within(name, head) for head in heads)
            and not isinstance(layer, nn.modules.dropout._DropoutNd)
        ]

    def freeze(self, frozen: bool) -> None:
        """Freeze it or let it learn; after `train()`, which puts all layers into training mode."""
        for parameter in self._learning:
            parameter.requires_grad_(not frozen)
            if frozen:
                parameter.grad = None
        if frozen:
            for layer in self._still:
                layer.training = False


def _within(inner: str, outer: str) -> bool:
    """Whether a module, by its name, is another one or inside of it; the name of the whole is empty."""
    return not outer or inner == outer or inner.startswith(f"{outer}.")
