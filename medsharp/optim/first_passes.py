"""What goes wrong with a closure shows in its first passes, and is told there: it may be silent, or obscure, later."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor

WATCHED = 3
"""So many of the smallest gradients are looked at, a few numbers of each."""


class FirstPasses:
    """Watches the first passes of an optimizer."""

    def __init__(self, count: int) -> None:
        self._left = count

    def watched(self, params: Callable[[], list[Tensor]], only: bool) -> AbstractContextManager[None]:
        """Return what a pass runs in.

        Args:
            params: Gives the parameters.
            only: It is the only pass of its step, which may add to gradients from before, as with torch's optimizers.

        Raises:
            ValueError: On leaving it, gradients were added to those from before, or are sparse.
        """
        if self._left <= 0:
            return nullcontext()
        self._left -= 1
        return _watching(params(), only)


@contextmanager
def _watching(params: list[Tensor], only: bool) -> Iterator[None]:
    known = [p for p in params if not only and p.requires_grad and p.grad is not None]
    known = [p for p in known if p.grad is not None and p.grad.layout is torch.strided]
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
    if any(p.grad is not None and p.grad.layout is not torch.strided for p in params):
        raise ValueError("sparse gradients cannot be climbed; make the embedding with sparse=False")
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
