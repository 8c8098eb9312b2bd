"""VaSSO: climbs along a running average of gradients, whose direction varies less."""

from __future__ import annotations

from typing import Any

import torch
from torch.optim import Optimizer

from medsharp.optim.arithmetic import add_each
from medsharp.optim.gradients import Gradients
from medsharp.optim.sharpness_aware import SharpnessAware


class VaSSO(SharpnessAware):
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

    epsilon = 1e-7  # the authors' number

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
        self._memory.tensors["direction"] = {}
        self._directions: Gradients = {}

    def _explore(self) -> list[Gradients]:
        self._look()
        directions = self._take()
        before = self._memory.tensors["direction"]
        for group, params, gradients in self._by_group(directions):
            theta = group["theta"]
            known = [(p, g) for p, g in zip(params, gradients, strict=True) if p in before]
            add_each([g for _, g in known], [before[p] for p, _ in known], weight=1 - theta, scale=theta)
        with self._weights.away():
            self._weights.climb(self._ascent(directions))
            self._look(last=True)
        return [directions]

    def _combine(self, *kept: Gradients) -> None:
        (self._directions,) = kept

    def _after_base_step(self) -> None:
        # Only now: a step that is skipped must not change what is remembered.
        self._memory.tensors["direction"].update(self._directions)
        self._directions = {}
