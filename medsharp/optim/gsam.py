"""GSAM: SAM's gradient, less the part of the loss's gradient that does not lower the perturbed loss."""

from __future__ import annotations

from typing import Any

import torch
from torch.optim import Optimizer

from medsharp.optim.arithmetic import add_each
from medsharp.optim.gradients import Gradients
from medsharp.optim.sharpness_aware import SharpnessAware


class GSAM(SharpnessAware):
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

    def _explore(self) -> list[Gradients]:
        return [self._look_twice()]

    def _combine(self, *kept: Gradients) -> None:
        (first,) = kept
        present = self._pair(first)
        size, product = self._size_and_inner(list(present.values()), [first[p] for p in present])
        self._check_finite(size, product)
        share = product / size / size if size > 0 else 0.0
        for group, params, gradients in self._by_group(present):
            alpha = group["alpha"]
            add_each(gradients, [first[p] for p in params], weight=-alpha, scale=1 + alpha * share)

    def _check_and_clip(self) -> None:
        if self.max_grad_norm is not None:  # checked when combined
            super()._check_and_clip()
