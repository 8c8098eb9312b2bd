"""What was computed, in units of one forward and backward pass over all samples."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry


class Cost:
    """Floating-point operations of convolutions, matrix products and attention, as PyTorch's own counter knows them.

    Counted is what is run, product with the Hessian included, not what theory says of it: the figure is the same on
    every machine, however busy.

    Args:
        count_unit: Runs one forward and backward pass over all samples, once, if none has been run when `units` is
            asked; that pass is not among the cost.

    Attributes:
        passes: How many of each kind over all samples; parts of the samples count by their share.
        seconds: Wall time of all together.
    """

    def __init__(self, count_unit: Callable[[], None]) -> None:
        self.passes: dict[str, float] = {"losses": 0.0, "gradients": 0.0, "products": 0.0}
        self.seconds = 0.0
        self._operations = 0
        self._unit = 0
        self._count_unit = count_unit

    @property
    def units(self) -> float:
        """Operations so far, divided by those of one forward and backward pass; not a number where none is counted."""
        if not self._unit:
            kept = (self.passes.copy(), self.seconds, self._operations)
            self._count_unit()
            self.passes, self.seconds, self._operations = kept
        return self._operations / self._unit if self._unit else float("nan")

    @contextmanager
    def counting(self, kind: str, share: float = 1.0) -> Iterator[None]:
        """Count what runs within as a pass over a share of the samples."""
        start, counter = time.perf_counter(), _Operations()
        with counter:
            yield
        self.seconds += time.perf_counter() - start
        self.passes[kind] += share
        self._operations += counter.total
        if kind == "gradients" and share == 1:
            self._unit = counter.total


class _Operations(TorchDispatchMode):
    """Adds up the operations of what PyTorch has a formula for."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        formula = flop_registry.get(func._overloadpacket)
        if formula is not None:
            self.total += formula(*args, **(kwargs or {}), out_val=result)
        return result
