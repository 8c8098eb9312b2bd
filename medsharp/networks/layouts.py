"""Finding a network's weights among a file's tensors: what prefixes them, and timm's conversions of other names."""

from __future__ import annotations

import inspect
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from typing import NamedTuple

from timm.models import adapt_input_conv
from torch import Tensor, nn

from medsharp.networks.checkpoint_file import Weights
from medsharp.networks.head import head_names

_CONVERSIONS = ("checkpoint_filter_fn", "_filter_torchvision_pretrained", "_filter_fn", "pretrained_filter_fn")
"""What timm's modules call the function that turns a first publication's names and shapes into its own."""

_LEAST_SHARE = 0.5
"""Of the network's tensors: a part of the file that holds fewer is not looked at as the network."""

_AVERAGED = ("ema", "teacher", "average")
"""In prefixes: of two copies of a network these are meant to be used, by timm's and by DINO's authors."""


class Layout(NamedTuple):
    """A reading of a file.

    Attributes:
        prefix: What the file puts before the network's names.
        weights: What stood behind it, under the network's names as far as they are known.
        before: The same as the file has it.
        converted: Whether timm's conversion was used.
        found: How many of the network's tensors, its head aside, are there in a shape that can be used.
    """

    prefix: str
    weights: Weights
    before: Weights
    converted: bool
    found: int


def find_layout(backbone: nn.Module, content: Weights) -> Layout:
    """Return the reading of a file that finds most of a network.

    Of several that find as much, one of averaged weights (EMA, a teacher) is taken, else the first in the file.

    Args:
        backbone: timm's network.
        content: All tensors of the file.
    """
    readings = [reading for prefix in _prefixes(backbone, content) for reading in _readings(backbone, content, prefix)]
    return max(readings, key=lambda reading: (reading.found, _averaged(reading.prefix), not reading.converted))


def is_replaceable(backbone: nn.Module, key: str) -> bool:
    """Whether a tensor may be left as initialised: of the head, or of what stands with it behind the feature map."""
    # `head.fc` stands in `head`, beside the norm that comes after pooling; vision transformers have theirs outside.
    behind = {"fc_norm", *(name.partition(".")[0] for name in head_names(backbone))}
    return any(key.startswith(f"{part}.") for part in behind)


def of_three_colours(weight: Tensor, own: Tensor) -> bool:
    """Whether a convolution [O, 3 I, k, k] becomes one of grey images [O, I, k, k] by summing colours."""
    return (
        weight.ndim == own.ndim == 4
        and weight.shape[1] == 3 * own.shape[1]
        and weight.shape[::2] == own.shape[::2]
        and weight.shape[3] == own.shape[3]
    )


def sum_colours(weight: Tensor) -> Tensor:
    """Return a convolution of three colours [O, 3 I, k, k] as one of grey [O, I, k, k], as timm does."""
    return adapt_input_conv(1, weight)


def conversion_of(backbone: nn.Module) -> Callable[[Weights, nn.Module], Weights] | None:
    """Return timm's conversion for a network, or None where it has none that can be called."""
    module = sys.modules[type(backbone).__module__]
    convert = next((getattr(module, name) for name in _CONVERSIONS if hasattr(module, name)), None)
    if convert is None or len(inspect.signature(convert).parameters) > 1:
        return convert
    return lambda weights, _: convert(weights)


def _prefixes(backbone: nn.Module, content: Weights) -> Iterator[str]:
    """Return what may stand before the network's names: nothing, and each beginning that enough names share."""
    counts: Counter[str] = Counter()
    for name in content:
        parts = name.split(".")
        counts.update(".".join(parts[:depth]) + "." for depth in range(1, len(parts)))
    least = _LEAST_SHARE * len(backbone.state_dict())
    return iter(["", *(prefix for prefix, count in counts.items() if count >= least)])


def _readings(backbone: nn.Module, content: Weights, prefix: str) -> Iterator[Layout]:
    before = {name.removeprefix(prefix): value for name, value in content.items() if name.startswith(prefix)}
    plain = Layout(prefix, before, before, False, _found(backbone, before))
    yield plain
    convert = conversion_of(backbone)
    if convert is None or plain.found == sum(not is_replaceable(backbone, key) for key in backbone.state_dict()):
        return
    try:
        converted = dict(convert(dict(before), backbone))
    # Written for the weights of one network each, they fail in as many ways on those of another.
    except Exception:
        return
    yield Layout(prefix, converted, before, True, _found(backbone, converted))


def _found(backbone: nn.Module, weights: Weights) -> int:
    return sum(
        key in weights and (weights[key].shape == own.shape or of_three_colours(weights[key], own))
        for key, own in backbone.state_dict().items()
        if not is_replaceable(backbone, key)
    )


def _averaged(prefix: str) -> bool:
    return any(word in part.lower().split("_") for part in prefix.split(".") for word in _AVERAGED)
