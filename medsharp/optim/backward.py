"""Closures call `loss.backward()`; what that does can be changed for one pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode


class Backward(TorchFunctionMode):
    """Inside of it, `loss.backward()` calls a function with the loss and the gradient weight instead.

    So a closure that was written for first derivatives serves where only the loss, or a second derivative, is wanted.
    """

    def __init__(self, instead: Callable[[Tensor, Tensor | None], None]) -> None:
        super().__init__()
        self._instead = instead

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Intercept backward; let everything else pass."""
        kwargs = kwargs or {}
        if func is torch.Tensor.backward:
            return self._instead(args[0], args[1] if len(args) > 1 else kwargs.get("gradient"))
        return func(*args, **kwargs)
