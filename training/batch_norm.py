"""Running statistics of batch norm, where several parts of a batch are normalised by themselves."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from training.processes import Processes


class PartStatistics:
    """Makes running statistics, after a batch in parts, the mean of what each part by itself makes of them.

    One part after another would move them further than the parts of several processes do, whose mean is taken.

    Args:
        model: Whose layers are looked after.
    """

    def __init__(self, model: nn.Module) -> None:
        self._buffers = _buffers([model])
        self._start: list[Tensor] = []
        self._sums: list[Tensor] = []
        self._parts = 0

    def begin_batch(self) -> None:
        """Remember the statistics that each part begins with."""
        self._start = [buffer.clone() for buffer in self._buffers]

    def begin_pass(self, parts: int) -> None:
        """Take the present statistics for the mean over the parts before.

        Args:
            parts: Of the batch, that a first pass has gone over already.
        """
        self._parts = parts
        self._sums = [buffer * parts for buffer in self._buffers]

    def begin_part(self) -> None:
        """Let a part begin where the batch began."""
        self._put(self._start)

    def end_part(self) -> None:
        """Set the statistics to the mean over the parts so far."""
        self._parts += 1
        for total, buffer in zip(self._sums, self._buffers, strict=True):
            total += buffer
        # Counters are alike after each part.
        means = [total // self._parts if not total.is_floating_point() else total / self._parts for total in self._sums]
        self._put(means)

    @torch.no_grad()
    def _put(self, values: list[Tensor]) -> None:
        if self._buffers:
            torch._foreach_copy_(self._buffers, values)


@torch.no_grad()
def average_statistics(modules: Iterable[nn.Module], processes: Processes) -> None:
    """Set running statistics to their mean over the processes.

    They move by shares towards those of each batch: the mean is what the mean of all shares would have made of them.
    """
    buffers = [buffer for buffer in _buffers(modules) if buffer.is_floating_point()]
    if processes.count == 1 or not buffers:
        return
    values = torch.cat([buffer.flatten() for buffer in buffers]).cpu()
    first = processes.of_first(values)
    # As what is to be added to the first's: equal ones, such as those of frozen layers, stay as they are.
    mean = first + processes.sum(values - first) / processes.count
    for buffer, part in zip(buffers, mean.split([buffer.numel() for buffer in buffers]), strict=True):
        buffer.copy_(part.view_as(buffer))


def _buffers(modules: Iterable[nn.Module]) -> list[Tensor]:
    layers = [layer for module in modules for layer in module.modules() if isinstance(layer, _NormBase)]
    return [buffer for layer in layers for buffer in layer.buffers(recurse=False)]
