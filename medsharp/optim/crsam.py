"""CR-SAM: SAM with a regularizer on the curvature along the ascent."""

from __future__ import annotations

from typing import Any

import torch
from torch.optim import Optimizer

from medsharp.optim.sam import SAM
from medsharp.optim.sharpness_aware import Closure


class CRSAM(SAM):
    """Curvature regularized sharpness-aware minimization.

    With `g` at `w`, `g+` at `w + e` and `g-` at `w - e`, `e = rho g / ||g||`, the base optimizer steps with
    `g+ + gamma (g+ + g- - 2 g) + beta (g+ - g-)`: the second difference stands for the curvature, the first for the
    slope.

    T. Wu, T. Luo, D. Wunsch, "CR-SAM: Curvature Regularized Sharpness-Aware Minimization", AAAI 2024. This is the rule
    of the authors' code, which keeps the losses of the three passes but does not divide by them. Three passes a step.

    Args:
        params: As for `SharpnessAware`.
        base: Class of the base optimizer.
        rho: Radius of the neighbourhood.
        gamma: Weight of the curvature, at least 0.
        beta: Weight of the slope, at least 0.
        options: As for `SharpnessAware`.

    Raises:
        ValueError: `gamma` or `beta` is negative.
    """

    def __init__(
        self,
        params: Any,
        base: type[Optimizer] = torch.optim.SGD,
        *,
        rho: float = 0.1,
        gamma: float = 0.1,
        beta: float = 0.01,
        **options: Any,
    ) -> None:
        for name, value in (("gamma", gamma), ("beta", beta)):
            if not value >= 0:
                raise ValueError(f"{name} must be 0 or more, not {value}")
        super().__init__(params, base, rho=rho, hyperparameters={"gamma": gamma, "beta": beta}, **options)

    def _gradients(self, look_again: Closure) -> bool:
        moves = self._ascent()
        if moves is None:
            return False
        first = self._keep_gradients("first")
        # The next passes overwrite what the directions may share memory with.
        alias = {id(p.grad): kept for p, kept in first.items()}
        moves = [(params, [alias.get(id(d), d) for d in directions], factor) for params, directions, factor in moves]
        with self._perturbed(moves):
            if not torch.isfinite(look_again()):
                return False
        up = self._keep_gradients("up")
        with self._perturbed([(params, directions, -factor) for params, directions, factor in moves]):
            if not torch.isfinite(look_again()):
                return False
        down = self._pair(first, up)
        for group in self.param_groups:
            params = [p for p in group["params"] if p in down]
            if params:
                gamma, beta = group["gamma"], group["beta"]
                gradients = [down[p] for p in params]
                torch._foreach_mul_(gradients, gamma - beta)
                torch._foreach_add_(gradients, [up[p] for p in params], alpha=1 + gamma + beta)
                torch._foreach_add_(gradients, [first[p] for p in params], alpha=-2 * gamma)
        return self._finite_gradients()
