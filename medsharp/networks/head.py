"""The head of a network, and where it starts from beside weights that are learned already."""

from __future__ import annotations

from typing import Any

from torch import nn

_NEW_HEAD_STD = 0.01


def head_names(backbone: nn.Module) -> tuple[str, ...]:
    """Return the names of the modules that tell classes apart, as timm states them."""
    published: dict[str, Any] = getattr(backbone, "pretrained_cfg", {})
    names = published.get("classifier") or ()
    return (names,) if isinstance(names, str) else tuple(names)


def begin_near_zero(backbone: nn.Module) -> None:
    """Draw a new head's weights from a normal distribution of standard deviation 0.01, and set its biases to 0.

    The first logits are then near 0, their loss is that of guessing, and the first steps teach the head. Of timm's own
    initialisations some are made for many classes: an EfficientNet's is uniform up to `1 / sqrt(classes)`, and with two
    classes its first logits are around 7, whose gradients take apart what the backbone brought.

    The weights come from the global generator.
    """
    for name in head_names(backbone):
        for layer in backbone.get_submodule(name).modules():
            if isinstance(layer, nn.Linear | nn.Conv2d):
                nn.init.normal_(layer.weight, std=_NEW_HEAD_STD)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)
