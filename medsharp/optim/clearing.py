"""Whether a closure clears the gradients: one that does not would add up the passes of a step, in silence."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor

WATCHED = 3
"""So many of the smallest gradients are looked at, a few numbers of each."""


class Clearing:
    """Watches the first passes of an optimizer; a closure that clears there clears later."""

    def __init__(self, passes: int) -> None:
        self._passes = passes

    def watched(self, params: list[Tensor]) -> AbstractContextManager[None]:
        """Return what a pass runs in.

        Raises:
            ValueError: On leaving it, what backward gave was added to the gradients from before.
        """
        if self._passes <= 0:
            return nullcontext()
        self._passes -= 1
        return _watching(params)


@contextmanager
def _watching(params: list[Tensor]) -> Iterator[None]:
    known = [p for p in params if p.grad is not None and p.requires_grad and p.grad.layout is torch.strided]
    smallest = sorted(known, key=torch.numel)[:WATCHED]
    before = [_some(p.grad).clone() for p in smallest if p.grad is not None]
    given: list[list[Tensor]] = [[] for _ in smallest]
    nodes = [torch.autograd.graph.get_gradient_edge(p).node for p in smallest]
    handles = [
        node.register_prehook(lambda grads, into=into: into.append(_some(grads[0]).clone()))
        for node, into in zip(nodes, given, strict=True)
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
    for parameter, old, parts in zip(smallest, before, given, strict=True):
        if parameter.grad is None or not parts or not old.any():
            continue
        left = _some(parameter.grad) - torch.stack(parts).sum(0)
        if (left - old).abs().max() < old.abs().max() / 100:  # never so where one is not finite
            raise ValueError(
                "the closure adds its gradients to those from before; it must clear them in every pass "
                "(optimizer.zero_grad()), and accumulate, if at all, inside of itself"
            )


def _some(gradient: Tensor) -> Tensor:
    return gradient[:1] if gradient.ndim > 1 else gradient[:1024] if gradient.ndim else gradient
