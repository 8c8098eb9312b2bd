"""Making a network by its name, or saying in one sentence why it cannot be made."""

from __future__ import annotations

import fnmatch
from pathlib import Path
from typing import Any

import timm
import torch
from torch import nn

from medsharp.errors import InputError, nearest
from medsharp.networks.classifier import Classifier, Pooling
from medsharp.networks.head import begin_near_zero
from medsharp.networks.normalization import Statistic, Wanted, normalize_like_weights
from medsharp.networks.pretrained import find_pretrained, load_pretrained
from medsharp.networks.weights import load_weights
from medsharp.weights_origin import WeightsOrigin

# Narrow ResNets: widths of the four stages. Small data does not fill a full-width network, and the files stay small.
_VARIANTS: dict[str, dict[str, Any]] = {
    "resnet10_w16": {"model": "resnet18", "layers": (1, 1, 1, 1), "channels": (16, 32, 64, 128)},
    "resnet10_w32": {"model": "resnet18", "layers": (1, 1, 1, 1), "channels": (32, 64, 128, 256)},
    "resnet18_w16": {"model": "resnet18", "channels": (16, 32, 64, 128)},
    "resnet18_w32": {"model": "resnet18", "channels": (32, 64, 128, 256)},
}

_NOT_OFFERED = {
    "csatv2*": "reads three colours (its stem is a cosine transform of them), not grey images",
    "*_enc": "is an encoder for language models without a classifier",
}
"""Shell patterns of timm's networks that classify no grey images, and why."""

_REFUSALS = (
    AssertionError,
    AttributeError,
    IndexError,
    KeyError,
    RuntimeError,
    TypeError,
    ValueError,
    ZeroDivisionError,
)
"""What timm's networks raise at a size or an option that they do not take; no class of their own."""


def list_networks(pattern: str = "*") -> list[str]:
    """Return the names that match a shell pattern: the narrow variants, then timm's that classify grey images."""
    names = timm.list_models(pattern)
    return [*fnmatch.filter(_VARIANTS, pattern), *(name for name in names if _why_not_offered(name) is None)]


def create_network(
    name: str,
    *,
    num_classes: int,
    image_size: int,
    pretrained: bool = False,
    checkpoint: str | Path | None = None,
    drop_rate: float = 0.0,
    drop_path_rate: float = 0.0,
    normalization: Wanted = "auto",
    mean: Statistic | None = None,
    std: Statistic | None = None,
    pooling: Pooling = "average",
    channels: int = 1,
    whole: bool = False,
) -> Classifier:
    """Make a network for grey images.

    Args:
        name: A timm name, or one of the narrow variants such as `resnet18_w32`.
        num_classes: Number of logits.
        image_size: Side of the input in pixels.
        pretrained: Load published weights: timm's from the hub where it can be reached, else those of an installed
            package of `medsharp[weights]`. `origin` says which.
        checkpoint: Local weights of this project or of others, see `load_weights`. What was adapted or left as
            initialised is in `origin.notes`.
        drop_rate: Dropout before the classifier; 0 asks for none.
        drop_path_rate: Stochastic depth; 0 asks for none.
        normalization: `weights` takes mean and standard deviation of what the initial weights were trained on,
            `dataset` (set by whoever trains) from all training images, and `image` from each image by itself, which
            takes away what a scanner's gain and dynamic range do to all of its pixels. `auto` is `weights` where they
            are known, else `dataset`.
        mean: In place of that of the weights.
        std: In place of that of the weights.
        pooling: How its feature map becomes one vector, see `Classifier`.
        channels: Of its first layer, see `Classifier`; 3 is for weights that shall answer as where they were trained.
        whole: Whether a checkpoint must bring every tensor, the head too.

    A head that the weights do not bring starts near zero (`begin_near_zero`).

    Raises:
        InputError: The name is unknown, the network cannot take that image size, those rates or that pooling, or the
            weights are out of reach or do not fit.
    """
    check_name(name)
    _check_source(name, pretrained, checkpoint)
    rates = {"drop_rate": drop_rate, "drop_path_rate": drop_path_rate}

    def build(overlay: dict[str, Any] | None = None) -> nn.Module:
        return _backbone(name, num_classes, image_size, rates, overlay, channels)

    try:
        backbone, origin = load_pretrained(name, build) if pretrained else (build(), None)
        network = Classifier(backbone, image_size, pooling=pooling, channels=channels)
    except InputError:
        raise  # it is a ValueError too
    except _REFUSALS as refusal:
        raise InputError(_size_sentence(name, image_size, refusal)) from refusal
    _check_rates(network, name, rates)
    if network.num_classes != num_classes:
        raise InputError(f"network {name} gives {network.num_classes} logits, not one a class; choose another")
    network.origin = origin
    published = timm.get_pretrained_cfg(name) if pretrained else None
    if published is not None and published.num_classes != num_classes:
        begin_near_zero(backbone)
    if checkpoint is not None:
        load_weights(network, checkpoint, published=name not in _VARIANTS, whole=whole)
    normalize_like_weights(network, normalization, mean, std)
    return network


def check_name(name: str) -> None:
    """Check that a network of that name can be made.

    Raises:
        InputError: It is unknown, or does not classify grey images.
    """
    if name not in _VARIANTS and not timm.is_model(name):
        raise InputError(f"unknown network '{name}'{nearest(name, list_networks())}")
    architecture, _, tag = name.partition(".")
    known = timm.list_pretrained(f"{architecture}.*") if tag else [name]
    if name not in known:
        raise InputError(f"unknown weights '{tag}' of network {architecture}{nearest(name, known)}")
    if (reason := _why_not_offered(name)) is not None:
        raise InputError(f"network {name} {reason}; choose another network.name")


def find_weights(
    name: str,
    *,
    num_classes: int,
    image_size: int,
    pretrained: bool = False,
    checkpoint: str | Path | None = None,
    pooling: Pooling = "average",
) -> WeightsOrigin | None:
    """Say where initial weights come from, None for random ones, before there are data to train on.

    Published weights are looked for and not loaded; a checkpoint is loaded into the network: does it fit?

    Raises:
        InputError: They are out of reach, or the file cannot be read or does not fit.
    """
    _check_source(name, pretrained, checkpoint)
    if checkpoint is not None:
        options: dict[str, Any] = {"num_classes": num_classes, "image_size": image_size, "pooling": pooling}
        return create_network(name, checkpoint=checkpoint, **options).origin
    return find_pretrained(name).origin if pretrained else None


def _check_source(name: str, pretrained: bool, checkpoint: str | Path | None) -> None:
    if pretrained and checkpoint is not None:
        raise InputError("network.pretrained and network.checkpoint are two sources of weights; give one of them")
    if pretrained and name in _VARIANTS:
        raise InputError(f"network {name} has no published weights; set pretrained: false, or give a checkpoint")


def _backbone(
    name: str,
    num_classes: int,
    image_size: int,
    rates: dict[str, float],
    overlay: dict[str, Any] | None = None,
    channels: int = 1,
) -> nn.Module:
    """Make timm's network, leaving out options that it does not know, where leaving them out changes nothing."""
    variant = dict(_VARIANTS.get(name, {"model": name}))
    model = variant.pop("model")
    if overlay is not None:
        variant |= {"pretrained": True, "pretrained_cfg_overlay": overlay}
    # Convolutional networks take any size and know no such keyword; some know no dropout, or no stochastic depth.
    optional: dict[str, Any] = {"img_size": image_size, **rates}
    while True:
        try:
            return timm.create_model(model, in_chans=channels, num_classes=num_classes, **variant, **optional)
        except TypeError as unknown:
            key = next((key for key in optional if f"'{key}'" in str(unknown)), None)
            if key is None:
                raise
            if rates.get(key):
                raise InputError(_no_rate(name, key, rates[key])) from unknown
            del optional[key]


def _check_rates(network: Classifier, name: str, rates: dict[str, float]) -> None:
    """Refuse a rate that the network takes and does nothing with."""
    layers = list(network.modules())
    paths = [float(getattr(layer, "drop_prob", 0) or 0) for layer in layers]
    drops = [float(getattr(layer, key, 0) or 0) for layer in layers for key in ("p", "drop_rate")]
    for key, found in (("drop_path_rate", paths), ("drop_rate", drops)):
        if rates[key] and not any(found):
            raise InputError(_no_rate(name, key, rates[key]))


def _no_rate(name: str, key: str, rate: float) -> str:
    what = {"drop_rate": "dropout before its classifier", "drop_path_rate": "stochastic depth"}[key]
    return f"network {name} has no {what}; leave out network.{key} ({rate:g} was given)"


def _size_sentence(name: str, image_size: int, refusal: Exception) -> str:
    sentence = f"network {name} does not take {image_size} x {image_size} images"
    if str(refusal).strip():
        sentence += f" ({_first_line(refusal).rstrip('. ')})"
    usual = _usual_size(name)
    # The size that it was published with is tried, not assumed.
    if usual is None or usual == image_size or not _takes(name, usual):
        return f"{sentence}; choose another data.image_size or network.name"
    return f"{sentence}; it takes data.image_size: {usual}"


def _usual_size(name: str) -> int | None:
    published = timm.get_pretrained_cfg(_VARIANTS.get(name, {"model": name})["model"])
    return None if published is None else int(published.input_size[-1])


def _takes(name: str, image_size: int) -> bool:
    """Try a size by shapes alone, without weights in memory."""
    try:
        with torch.device("meta"):
            Classifier(_backbone(name, 2, image_size, {"drop_rate": 0.0, "drop_path_rate": 0.0}), image_size)
    except _REFUSALS:
        return False
    return True


def _why_not_offered(name: str) -> str | None:
    architecture = name.partition(".")[0]  # what follows names published weights
    return next((reason for key, reason in _NOT_OFFERED.items() if fnmatch.fnmatchcase(architecture, key)), None)


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:200]
