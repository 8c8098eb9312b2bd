"""Losses that are scaled for float16: each pass is unscaled, and every worker's scaler learns of an overflow."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import torch

from medsharp.optim.arithmetic import total_norm
from medsharp.optim.gradients import present_gradients
from medsharp.optim.workers import Workers


class LossScale:
    """The gradient scaler of a closure, if it has one.

    Args:
        scaler: What the closure scales its loss with.
        workers: Whose scalers must stay alike.
    """

    def __init__(self, scaler: torch.amp.GradScaler | None, workers: Workers) -> None:
        self.scaler = scaler
        self._workers = workers
        self._passes: list[SimpleNamespace] = []

    def begin_step(self) -> None:
        """Forget the passes of the step before."""
        self._passes = []

    def unscale(self, groups: list[dict[str, Any]], finite: bool) -> None:
        """Unscale the gradients in `.grad` after a pass.

        Args:
            groups: Parameter groups.
            finite: Whether the loss of the pass is finite on every worker.
        """
        if self.scaler is None or not self.scaler.is_enabled():
            return
        gradients = present_gradients(p for group in groups for p in group["params"])
        if self._workers.count > 1 and gradients:
            size = float(total_norm(gradients.values()))
            device = next(iter(gradients)).device
            if not self._workers.agree(finite and math.isfinite(size), device):
                # Every worker's scaler must back off, or their scales would part.
                next(iter(gradients.values())).fill_(math.inf)
        # A scaler unscales the gradients of an optimizer once; each pass is an optimizer of its own to it.
        # It knows them by identity, so they live until the next step.
        self._passes.append(SimpleNamespace(param_groups=groups))
        self.scaler.unscale_(self._passes[-1])  # type: ignore[arg-type]

    def overflow(self, groups: list[dict[str, Any]]) -> None:
        """Tell the scaler of an overflow that no gradient in `.grad` shows."""
        parameter = next(p for group in groups for p in group["params"])
        parameter.grad = torch.full_like(parameter, math.inf)
        self.unscale(groups, False)
