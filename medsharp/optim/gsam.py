"""GSAM: SAM's gradient, less the part of the loss's gradient that does not lower the perturbed loss."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from medsharp.optim.sam import SAM
from medsharp.optim.sharpness_aware import Closure, total_norm


class GSAM(SAM):
    """Surrogate gap guided sharpness-aware minimization.

    With `g` at `w` and `g+` at `w + rho g / ||g||`, the base optimizer steps with
    `g+ - alpha (g - (<g, g+> / ||g+||^2) g+)`: the part of `g` orthogonal to `g+` is climbed, which narrows the gap
    between both losses. The paper ties `rho` to the learning rate; `rho` lives in `param_groups`, where a schedule can
    do so.

    J. Zhuang, B. Gong, L. Yuan, Y. Cui, H. Adam, N. Dvornek, S. Tatikonda, J. Duncan, T. Liu, "Surrogate Gap
    Minimization Improves Sharpness-Aware Training", ICLR 2022, algorithm 1. Two passes a step.

    Args:
        params: As for `SharpnessAware`.
        base: Class of the base optimizer.
        rho: Radius of the neighbourhood.
        alpha: Weight of the orthogonal part, at least 0; 0 is SAM.
        options: As for `SharpnessAware`.

    Raises:
        ValueError: `alpha` is negative.
    """

    def __init__(
        self,
        params: Any,
        base: type[Optimizer] = torch.optim.SGD,
        *,
        rho: float = 0.05,
        alpha: float = 0.4,
        **options: Any,
    ) -> None:
        if not alpha >= 0:
            raise ValueError(f"alpha must be 0 or more, not {alpha}")
        super().__init__(params, base, rho=rho, hyperparameters={"alpha": alpha}, **options)

    def _gradients(self, look_again: Closure) -> bool:
        with self._perturbed(self._ascent()) as finite:
            if not finite:
                return False
            first = self._keep_gradients("first")
            if not torch.isfinite(look_again()):
                return False
        present = self._pair(first)
        if not self._finite_gradients():
            return False
        inner = float(sum((dot(first[p], g) for p, g in present.items()), start=torch.zeros(())))
        square = float(total_norm(present.values())) ** 2
        share = inner / square if square > 0 else 0.0
        for group in self.param_groups:
            params = [p for p in group["params"] if p in present]
            if params:
                alpha = group["alpha"]
                gradients = [present[p] for p in params]
                torch._foreach_mul_(gradients, 1 + alpha * share)
                torch._foreach_add_(gradients, [first[p] for p in params], alpha=-alpha)
        return True


def dot(one: Tensor, other: Tensor) -> Tensor:
    """Return the inner product of two tensors, at least in float32, on the CPU."""
    precision = torch.promote_types(one.dtype, torch.float32)
    return torch.sum(one.to(precision) * other.to(precision)).cpu()
