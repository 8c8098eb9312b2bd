"""F-SAM: climbs along the noise of the batch, not along the full gradient."""

from __future__ import annotations

from typing import Any

import torch
from torch.optim import Optimizer

from medsharp.optim.arithmetic import add_each
from medsharp.optim.gradients import Gradients
from medsharp.optim.sharpness_aware import SharpnessAware


class FSAM(SharpnessAware):
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
        self._memory.tensors["mean"] = {}
        self._directions: Gradients = {}

    def _explore(self) -> list[Gradients]:
        self._look()
        directions = self._take()
        means = self._memory.tensors["mean"]
        for group, params, gradients in self._by_group(directions):
            known = [(p, g) for p, g in zip(params, gradients, strict=True) if p in means]
            add_each([g for _, g in known], [means[p] for p, _ in known], weight=-group["sigma"])
        with self._weights.away():
            self._weights.climb(self._ascent(directions))
            self._look(last=True)
        return [directions]

    def _combine(self, *kept: Gradients) -> None:
        (self._directions,) = kept

    def _after_base_step(self) -> None:
        # Only now: a step that is skipped must not change what is remembered. As g = d + sigma m, the new mean is
        # (lmbda + (1 - lmbda) sigma) m + (1 - lmbda) d.
        means = self._memory.tensors["mean"]
        for group, params, directions in self._by_group(self._directions):
            sigma, lmbda = group["sigma"], group["lmbda"]
            known = [(p, d) for p, d in zip(params, directions, strict=True) if p in means]
            means.update((p, d) for p, d in zip(params, directions, strict=True) if p not in means)
            add_each(
                [means[p] for p, _ in known],
                [d for _, d in known],
                weight=1 - lmbda,
                scale=lmbda + (1 - lmbda) * sigma,
            )
        self._directions = {}
