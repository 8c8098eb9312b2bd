"""Running statistics of batch-norm layers: kept from counting the extra passes of a step."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase


class RunningStatistics:
    """The running mean, variance and count of every normalising layer of a model that has them.

    They are kept and copied back, rather than switched off, because a switch would make a compiled model be compiled
    once more, and is wrong for layers that share a module.
    """

    def __init__(self, model: nn.Module | None) -> None:
        layers = {} if model is None else dict(model.named_modules())
        self._named = {name: layer for name, layer in layers.items() if isinstance(layer, _NormBase)}
        self._kept: dict[str, tuple[list[Tensor], list[Tensor]]] = {}

    def keep(self, moment: str) -> None:
        """Remember the present values under a name; the memory for it is made once."""
        if not self._named:
            return
        buffers = [buffer for layer in self._named.values() for buffer in layer._buffers.values() if buffer is not None]
        copies = self._kept.get(moment, ([], []))[1]
        alike = len(copies) == len(buffers) and all(
            copy.device == buffer.device and copy.dtype == buffer.dtype for copy, buffer in zip(copies, buffers)
        )
        if not alike:
            copies = [torch.empty_like(buffer) for buffer in buffers]
        if buffers:
            torch._foreach_copy_(copies, buffers)
        self._kept[moment] = (buffers, copies)

    def bring_back(self, moment: str) -> None:
        """Set the statistics to what they were when `keep` was called."""
        buffers, copies = self._kept.get(moment, ([], []))
        if buffers:
            torch._foreach_copy_(buffers, copies)

    def batch_norm_in_training(self) -> str | None:
        """Return the name of a layer that takes its statistics from the samples of this process alone, if any."""
        for name, layer in self._named.items():
            if layer.training and isinstance(layer, _BatchNorm) and not isinstance(layer, nn.SyncBatchNorm):
                return name
        return None

    def __getstate__(self) -> dict[str, object]:
        return {"_named": self._named, "_kept": {}}
