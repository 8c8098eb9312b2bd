"""Local weights: of this project's runs, and checkpoints as they are published for a network."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from timm.models import adapt_input_conv
from torch import Tensor

from medsharp.errors import InputError
from medsharp.networks.classifier import Classifier

Weights = dict[str, Tensor]
_PREFIX = "backbone."
_OWN = ("mean", "std")
"""Buffers of the classifier around the network; published checkpoints have none."""


def load_weights(network: Classifier, path: str | Path) -> None:
    """Load local weights into a network; what is adapted or left as initialised is added to its `notes`.

    A classifier head of another shape keeps its initial weights. Published checkpoints of three colours are summed over
    them, which gives a grey image the answer that it had as three equal channels; their position tables are resampled
    to the image size, as timm does.

    Raises:
        InputError: The file is missing or damaged, or its weights are those of another network.
    """
    path = Path(path)
    own = network.state_dict()
    weights = _named_as(own, _read_weights(path))
    if _misfits(network, own, weights):
        weights = _republished(network, weights)
    for key in sorted(set(weights) & set(own)):
        if weights[key].shape == own[key].shape:
            continue
        if network.is_head(key):
            network.notes.append(f"{key} of {path.name} has another shape and was left as initialised")
            weights[key] = own[key]
        elif _of_three_colours(weights[key], own[key]):
            network.notes.append(f"{key} of {path.name} is of three colours, which were summed for grey images")
            weights[key] = adapt_input_conv(1, weights[key])
    missing = sorted(set(own) - set(weights))
    wrong = sorted(key for key in weights if key not in own or weights[key].shape != own[key].shape)
    if missing or wrong:
        raise InputError(f"{path} does not fit this network: {_describe(own, weights, missing, wrong)}")
    network.load_state_dict(weights)


def _named_as(own: Weights, weights: Weights) -> Weights:
    """Name weights as the classifier's own are: without what wrappers prefix, and within `backbone`."""
    named = {}
    for key, value in weights.items():
        for wrapper in ("module.", "_orig_mod.", "module."):
            key = key.removeprefix(wrapper)
        named[key if key in own else f"{_PREFIX}{key.removeprefix(_PREFIX)}"] = value
    return {key: own[key] for key in _OWN} | named


def _misfits(network: Classifier, own: Weights, weights: Weights) -> bool:
    if set(weights) != set(own):
        return True
    return any(
        weights[key].shape != own[key].shape
        and not network.is_head(key)
        and not _of_three_colours(weights[key], own[key])
        for key in own
    )


def _republished(network: Classifier, weights: Weights) -> Weights:
    """Return weights as timm turns those of a network's first publication into its own, at the network's image size."""
    # timm keeps the function with the network's module, by this name.
    convert = getattr(sys.modules[type(network.backbone).__module__], "checkpoint_filter_fn", None)
    if convert is None:
        return weights
    inner = {key.removeprefix(_PREFIX): value for key, value in weights.items() if key not in _OWN}
    try:
        converted = convert(inner, network.backbone)
    # Written for the weights of one network each, they fail in as many ways on those of another.
    except Exception:
        return weights
    outer = {key: weights[key] for key in _OWN}
    return outer | {f"{_PREFIX}{key}": value for key, value in converted.items()}


def _of_three_colours(weight: Tensor, grey: Tensor) -> bool:
    """Whether a convolution [O, 3 I, k, k] becomes one of grey images [O, I, k, k] by summing colours."""
    return (
        weight.ndim == grey.ndim == 4
        and weight.shape[1] == 3 * grey.shape[1]
        and weight.shape[::2] == grey.shape[::2]
        and weight.shape[3] == grey.shape[3]
    )


def _describe(own: Weights, weights: Weights, missing: list[str], wrong: list[str]) -> str:
    if missing:
        return f"it lacks {_few(missing)}"
    strange = [key for key in wrong if key not in own]
    if strange:
        return f"it has weights that the network has not: {_few(strange)}"
    first = wrong[0]
    return (
        f"{first.removeprefix(_PREFIX)} is {list(weights[first].shape)} there and {list(own[first].shape)} here "
        f"({len(wrong)} in all); was it trained with another data.image_size or network?"
    )


def _few(keys: list[str]) -> str:
    return f"{', '.join(key.removeprefix(_PREFIX) for key in keys[:3])} ({len(keys)} in all)"


def _read_weights(path: Path) -> Weights:
    if not path.is_file():
        raise InputError(f"checkpoint {path} does not exist")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        weights = torch.load(path, map_location="cpu", weights_only=True)
    # Both readers raise errors of many classes on damaged files.
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise InputError(f"checkpoint {path} cannot be read: {reason}") from error
    for key in ("state_dict", "model"):
        if isinstance(weights, dict) and isinstance(weights.get(key), dict):
            weights = weights[key]
    if not isinstance(weights, dict) or not all(isinstance(value, Tensor) for value in weights.values()):
        raise InputError(f"checkpoint {path} holds no state dict of tensors")
    return weights
