"""How much memory an optimizer takes, at the worst moment of a step."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from medsharp.progress import Progress
from training.benchmark.contestants import Contestant
from training.benchmark.timing import warm_step
from training.benchmark.workload import EmptyPasses, Workload


def extra_memory(workload: Workload, contestants: Sequence[Contestant], progress: Progress) -> list[float]:
    """Return the peak of each contestant above that of the first, the base optimizer, in copies of the weights.

    What is counted lives between two passes or inside a step: state, gradients that are kept, backups, temporaries.
    Activations of the network are not, as passes are empty.
    """
    peaks = []
    for number, contestant in enumerate(contestants):
        progress(number, len(contestants), "memory")
        peaks.append(_peak(workload, contestant))
    progress(len(contestants), len(contestants), "memory")
    return [(peak - peaks[0]) / workload.weight_bytes for peak in peaks]


def _peak(workload: Workload, contestant: Contestant) -> int:
    workload.restart()
    workload.network.zero_grad()
    passes = EmptyPasses(workload)
    closure = passes.closure(contestant.per_sample)
    on_device = workload.device.type == "cuda"
    before = torch.cuda.memory_allocated(workload.device) if on_device else 0
    with LiveTensors() as live:
        step = warm_step(workload, contestant)
        # A whole cycle makes what is made once; the next one is measured.
        for _ in contestant.weights:
            step(closure)
        live.forget_peak()
        if on_device:
            torch.cuda.reset_peak_memory_stats(workload.device)
        for _ in contestant.weights:
            step(closure)
        workload.network.zero_grad()
    return torch.cuda.max_memory_allocated(workload.device) - before if on_device else live.peak


class LiveTensors(TorchDispatchMode):
    """Counts the bytes of the tensors that are made inside of it, while they live.

    Attributes:
        peak: The most that lived at once.
    """

    def __init__(self) -> None:
        super().__init__()
        self.peak = 0
        self._bytes = 0
        self._known: dict[int, int] = {}

    def forget_peak(self) -> None:
        """Begin anew to look for the peak, with what lives now."""
        self.peak = self._bytes

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation, and take note of memory that it has made and not been given."""
        given = {t.untyped_storage()._cdata for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)}
        made = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, Tensor):
                storage = tensor.untyped_storage()
                if storage._cdata not in given and storage._cdata not in self._known:
                    self._known[storage._cdata] = storage.nbytes()
                    self._bytes += storage.nbytes()
                    weakref.finalize(storage, self._release, storage._cdata).atexit = False
        self.peak = max(self.peak, self._bytes)
        return made

    def _release(self, key: int) -> None:
        self._bytes -= self._known.pop(key)
