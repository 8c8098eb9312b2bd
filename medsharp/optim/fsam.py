"""F-SAM: climbs along the noise of the batch, not along the full gradient."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from medsharp.optim.sam import SAM
from medsharp.optim.sharpness_aware import Move, total_norm


class FSAM(SAM):
    """Friendly sharpness-aware minimization.

    `e = rho d / ||d||` with `d = g - sigma m`, where `m <- lmbda m + (1 - lmbda) g` stands for the full gradient; `d`
    uses `m` before its update, and is `g` in the first step.

    T. Li, P. Zhou, Z. He, X. Cheng, X. Huang, "Friendly Sharpness-Aware Minimization", CVPR 2024, algorithm 1. Two
    passes a step.

    Args:
        params: As for `SharpnessAware`.
        base: Class of the base optimizer.
        rho: Radius of the neighbourhood.
        sigma: Share of the averaged gradient that is taken away, at least 0; 0 is SAM.
        lmbda: Decay of the average, in [0, 1).
        options: As for `SharpnessAware`.

    Raises:
        ValueError: `sigma` is negative or `lmbda` outside [0, 1).
    """

    def __init__(
        self,
        params: Any,
        base: type[Optimizer] = torch.optim.SGD,
        *,
        rho: float = 0.05,
        sigma: float = 1.0,
        lmbda: float = 0.9,
        **options: Any,
    ) -> None:
        if not sigma >= 0:
            raise ValueError(f"sigma must be 0 or more, not {sigma}")
        if not 0 <= lmbda < 1:
            raise ValueError(f"lmbda must be at least 0 and less than 1, not {lmbda}")
        super().__init__(params, base, rho=rho, hyperparameters={"sigma": sigma, "lmbda": lmbda}, **options)
        self._next: dict[Tensor, Tensor] = {}

    def _ascent(self) -> list[Move] | None:
        self._next = {}
        moves: list[Move] = []
        for group, params, gradients in self._with_gradients():
            directions = []
            for parameter, gradient in zip(params, gradients, strict=True):
                mean = self._memory.get(parameter)
                if mean is None:
                    directions.append(gradient)
                    self._next[parameter] = gradient.clone()
                else:
                    directions.append(gradient - group["sigma"] * mean)
                    self._next[parameter] = group["lmbda"] * mean + (1 - group["lmbda"]) * gradient
            moves.append((params, directions, group["rho"]))
        norm = float(total_norm(direction for _, directions, _ in moves for direction in directions))
        if not math.isfinite(norm):
            return None
        return [(params, directions, rho / (norm + 1e-12)) for params, directions, rho in moves]

    def _after_base_step(self) -> None:
        # Only now: a step that is skipped must not change what is remembered.
        self._memory.update(self._next)
        self._next = {}
