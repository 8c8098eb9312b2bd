"""VaSSO: climbs along a running average of gradients, whose direction varies less."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from medsharp.optim.sam import SAM
from medsharp.optim.sharpness_aware import Move, total_norm


class VaSSO(SAM):
    """Variance suppressed sharpness-aware optimization.

    `e = rho d / ||d||` with `d <- (1 - theta) d + theta g`, `d = g` in the first step.

    B. Li, G. Giannakis, "Enhancing Sharpness-Aware Optimization Through Variance Suppression", NeurIPS 2023, eq. 6. Two
    passes a step.

    Args:
        params: As for `SharpnessAware`.
        base: Class of the base optimizer.
        rho: Radius of the neighbourhood.
        theta: Share of the new gradient, above 0 and at most 1; 1 is SAM.
        options: As for `SharpnessAware`.

    Raises:
        ValueError: `theta` is out of range.
    """

    def __init__(
        self,
        params: Any,
        base: type[Optimizer] = torch.optim.SGD,
        *,
        rho: float = 0.05,
        theta: float = 0.9,
        **options: Any,
    ) -> None:
        if not 0 < theta <= 1:
            raise ValueError(f"theta must be more than 0 and at most 1, not {theta}")
        super().__init__(params, base, rho=rho, hyperparameters={"theta": theta}, **options)
        self._next: dict[Tensor, Tensor] = {}

    def _ascent(self) -> list[Move] | None:
        self._next = {}
        moves: list[Move] = []
        for group, params, gradients in self._with_gradients():
            theta = group["theta"]
            for parameter, gradient in zip(params, gradients, strict=True):
                mean = self._memory.get(parameter)
                self._next[parameter] = gradient.clone() if mean is None else (1 - theta) * mean + theta * gradient
            moves.append((params, [self._next[parameter] for parameter in params], group["rho"]))
        norm = float(total_norm(self._next.values()))
        if not math.isfinite(norm):
            return None
        return [(params, directions, rho / (norm + 1e-7)) for params, directions, rho in moves]

    def _after_base_step(self) -> None:
        # Only now: a step that is skipped must not change what is remembered.
        self._memory.update(self._next)
        self._next = {}
