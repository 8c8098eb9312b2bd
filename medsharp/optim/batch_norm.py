"""Running statistics of batch-norm layers: kept from counting the extra passes of a step."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase


class RunningStatistics:
    """The running mean, variance and count of every normalising layer of a model that has them.

    They are saved and copied back, rather than switched off, because a switch would make a compiled model be compiled
    once more, and is wrong for layers that share a module.
    """

    def __init__(self, model: nn.Module | None) -> None:
        layers = [] if model is None else [layer for layer in model.modules() if isinstance(layer, _NormBase)]
        self._layers = layers

    def save(self) -> list[tuple[Tensor, Tensor]]:
        """Return each buffer with a copy of its values."""
        return [(buffer, buffer.clone()) for layer in self._layers for buffer in layer.buffers(recurse=False)]

    @staticmethod
    def restore(saved: list[tuple[Tensor, Tensor]]) -> None:
        """Bring back what `save` returned."""
        for buffer, values in saved:
            buffer.copy_(values)
