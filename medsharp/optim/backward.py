"""Closures call `loss.backward()` or `torch.autograd.backward(loss)`; what that does can be changed for one pass."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from medsharp.optim.interception import Interception

_AUTOGRAD = Interception(torch.autograd, "backward")


class Backward(TorchFunctionMode):
    """Inside of it, backward calls a function with the loss and the gradient weight instead.

    So a closure that was written for first derivatives serves where only the loss, or a second derivative, is wanted.
    """

    def __init__(self, instead: Callable[[Tensor, Tensor | None], None]) -> None:
        super().__init__()
        self._instead = instead
        self._entered = ExitStack()

    def __enter__(self) -> Backward:
        self._entered.enter_context(_AUTOGRAD.by(self._backward))
        return super().__enter__()

    def __exit__(self, *exception: Any) -> None:
        super().__exit__(*exception)
        self._entered.close()

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Intercept `Tensor.backward`; let everything else pass."""
        kwargs = kwargs or {}
        if func is torch.Tensor.backward:
            return self._instead(args[0], args[1] if len(args) > 1 else kwargs.get("gradient"))
        return func(*args, **kwargs)

    def _backward(self, original: Any, tensors: Any, grad_tensors: Any = None, *args: Any, **kwargs: Any) -> None:
        losses = [tensors] if isinstance(tensors, Tensor) else list(tensors)
        weights = [grad_tensors] if grad_tensors is None or isinstance(grad_tensors, Tensor) else list(grad_tensors)
        for loss, weight in zip(losses, weights * len(losses) if weights == [None] else weights, strict=True):
            self._instead(loss, weight)
