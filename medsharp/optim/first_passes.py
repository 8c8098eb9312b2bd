"""What goes wrong with a closure shows in its first passes, and is told there: it may be silent, or obscure, later."""

from __future__ import annotations

import numbers
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor

from medsharp.optim.interception import Interception
from medsharp.optim.shards import is_sharded

WATCHED = 3
"""So many of the smallest gradients are looked at, a few numbers of each."""

_SCALING = [Interception(torch.amp.GradScaler, name) for name in ("scale", "get_scale")]


def loss_of(returned: Any) -> Tensor:
    """Return what a closure returned as a tensor, detached: a scalar, or the loss of each sample, `[N]`.

    Raises:
        ValueError: It is no loss.
    """
    if returned is None:
        raise ValueError("the closure must return the loss")
    if not isinstance(returned, Tensor):
        if not isinstance(returned, numbers.Real) or isinstance(returned, bool):
            kind = type(returned).__name__
            raise ValueError(f"the closure must return the loss by itself, a tensor or a number, not a {kind}")
        return torch.as_tensor(float(returned))
    loss = returned.detach()
    if loss.numel() == 1:
        loss = loss.reshape(()) if loss.ndim > 1 else loss
    elif loss.ndim > 1:
        shape = tuple(loss.shape)
        raise ValueError(f"the closure must return the loss, or that of each sample, not a tensor of shape {shape}")
    return loss if loss.is_floating_point() else loss.float()


class FirstPasses:
    """Watches the first passes of an optimizer.

    Args:
        count: So many of them.
    """

    def __init__(self, count: int) -> None:
        self._left = count

    def watched(
        self, params: Callable[[], list[Tensor]], scaler: torch.amp.GradScaler | None, compared: bool
    ) -> AbstractContextManager[None]:
        """Return what a pass runs in.

        Args:
            params: Gives the parameters.
            scaler: What the closure is said to scale its loss with.
            compared: Whether `.grad` tells afterwards if it was cleared: not in the only pass of a step, which may add
                to gradients from before as with torch's optimizers, nor where they are averaged over processes.

        Raises:
            ValueError: On leaving it, gradients were added to those from before, or the loss was scaled
                by another scaler than the one that is known.
        """
        if self._left <= 0:
            return nullcontext()
        self._left -= 1
        return _watching(params(), scaler, compared)


@contextmanager
def _watching(params: list[Tensor], scaler: torch.amp.GradScaler | None, compared: bool) -> Iterator[None]:
    known = [p for p in params if compared and p.requires_grad and p.grad is not None and not is_sharded(p)]
    known = [p for p in known if p.grad is not None and p.grad.layout is torch.strided]
    smallest = sorted(known, key=torch.numel)[:WATCHED]
    before = [_some(p.grad).clone() for p in smallest if p.grad is not None]
    received: list[list[Tensor]] = [[] for _ in smallest]
    nodes = [torch.autograd.graph.get_gradient_edge(p).node for p in smallest]
    handles = [
        node.register_prehook(lambda grads, into=into: into.append(_some(grads[0]).clone()))
        for node, into in zip(nodes, received, strict=True)
    ]
    scalers: list[torch.amp.GradScaler] = []

    def note(original: Callable[..., Any], used: torch.amp.GradScaler, *args: Any, **kwargs: Any) -> Any:
        scalers.append(used)
        return original(used, *args, **kwargs)

    try:
        with ExitStack() as stack:
            for interception in _SCALING:
                stack.enter_context(interception.by(note))
            yield
    finally:
        for handle in handles:
            handle.remove()
    _check_scaler(scaler, scalers, any(p.grad is not None for p in params))
    for parameter, old, parts in zip(smallest, before, received, strict=True):
        if parameter.grad is None or not parts or not old.any() or not old.isfinite().all():
            continue
        given = torch.stack(parts)  # [backward passes, numbers]
        left = _some(parameter.grad) - given.sum(0)
        # Where a closure clips or scales its gradients, about as much is left by chance; where it adds, just as much.
        rounding = 4 * torch.finfo(given.dtype).eps * (len(parts) + 1) * (old.abs().max() + given.abs().sum(0).max())
        if (left - old).abs().max() <= torch.minimum(rounding, old.abs().max() / 100):  # never so if it is not finite
            raise ValueError(
                "the closure adds its gradients to those from before; it must clear them in every pass "
                "(optimizer.zero_grad()), and accumulate, if at all, inside of itself"
            )


def _check_scaler(known: torch.amp.GradScaler | None, used: list[torch.amp.GradScaler], passed: bool) -> None:
    used = [scaler for scaler in used if scaler.is_enabled()]
    if any(scaler is not known for scaler in used):
        raise ValueError(
            "the closure scales its loss with a GradScaler that the optimizer does not know, so that scaled gradients "
            "would be applied; give the optimizer the same one, scaler=scaler"
        )
    # One that scales in a way of its own is not seen to do so.
    own = known is not None and any("scale" in vars(kind) for kind in type(known).__mro__[:-1] if _is_other(kind))
    if passed and known is not None and known.is_enabled() and not used and not own:
        raise ValueError(
            "the optimizer was given a scaler, but the closure does not scale its loss with it, so that gradients "
            "would be divided for nothing; call scaler.scale(loss).backward(), or leave scaler out"
        )


def _is_other(kind: type) -> bool:
    return kind is not torch.amp.GradScaler


def _some(gradient: Tensor) -> Tensor:
    return gradient[:1] if gradient.ndim > 1 else gradient[:1024] if gradient.ndim else gradient
