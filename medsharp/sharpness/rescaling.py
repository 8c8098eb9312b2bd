"""Networks with other weights and the same function: one layer multiplied by a factor, the next divided by it."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

_PRODUCERS = (nn.Linear, nn.modules.conv._ConvNd, nn.modules.batchnorm._BatchNorm)
_CONSUMERS = (nn.Linear, nn.modules.conv._ConvNd)


@dataclass(frozen=True)
class Rescaling:
    """Two layers with nothing but a positively homogeneous function, such as a ReLU, between them.

    Attributes:
        producer: Name of the module whose weight and bias are multiplied.
        consumer: Name of the module whose weight is divided.
    """

    producer: str
    consumer: str

    def apply(self, network: nn.Module, factor: float) -> None:
        """Multiply and divide, in place.

        Args:
            network: In which both are.
            factor: More than 0.
        """
        producer = network.get_submodule(self.producer)
        consumer = network.get_submodule(self.consumer)
        with torch.no_grad():
            for parameter in producer.parameters(recurse=False):
                parameter.mul_(factor)
            consumer.weight.div_(factor)  # type: ignore[operator]


def find_rescalings(network: nn.Module, outputs: Callable[[nn.Module], Tensor]) -> list[Rescaling]:
    """Find pairs of neighbouring layers that can be rescaled without a change of the function, by trying.

    Batch norm in evaluation mode scales by its own weight, so that it is a layer like others here. Other activations
    than ReLU, such as GELU and SiLU, allow none.

    Args:
        network: In evaluation mode; left as it was.
        outputs: What must stay the same, such as logits of some samples, [...].
    """
    layers = [(name, m) for name, m in network.named_modules() if isinstance(m, _PRODUCERS)]
    found = []
    with torch.no_grad():
        before = outputs(network)
        tolerance = 1e4 * torch.finfo(before.dtype).eps * float(before.abs().max())
        for (first, one), (second, other) in itertools.pairwise(layers):
            if not isinstance(other, _CONSUMERS) or not any(True for _ in one.parameters(recurse=False)):
                continue
            kept = [(p, p.clone()) for layer in (one, other) for p in layer.parameters(recurse=False)]
            rescaling = Rescaling(first, second)
            rescaling.apply(network, 2.0)
            if float((outputs(network) - before).abs().max()) <= tolerance:
                found.append(rescaling)
            for parameter, copy in kept:
                parameter.copy_(copy)
    return found
