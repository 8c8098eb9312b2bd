"""WSAM: sharpness as a regularizer with a weight of its own."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from medsharp.optim.sharpness_aware import Closure, SharpnessAware, clip_factor, total_norm


class WSAM(SharpnessAware):
    """Weighted sharpness-aware minimization.

    With `g` the gradient at `w`, `g+` the one at `w + rho g / ||g||` and `a = gamma / (1 - gamma)`:

    - decoupled (default): the base optimizer steps with `g`, then `w <- w - lr a (g+ - g)`. The correction does not
      pass through the base optimizer, so that under Adam it is not preconditioned.
    - coupled: the base optimizer steps with `a g+ + (1 - a) g`.

    `gamma = 0` is the base optimizer; coupled, `gamma = 1/2` is SAM.

    Y. Yue, J. Jiang, Z. Ye, N. Gao, Y. Liu, K. Zhang, "Sharpness-Aware Minimization Revisited: Weighted Sharpness as a
    Regularization Term", KDD 2023, algorithm 1. Defaults are those of the authors' code. Two passes a step.

    Args:
        params: As for `SharpnessAware`.
        base: Class of the base optimizer.
        rho: Radius of the neighbourhood.
        gamma: Weight of the sharpness, in [0, 1).
        decouple: See above.
        max_norm: Clip `g` and `g+` to this norm, each by itself, as the authors' code does. This distorts `g+ - g`;
            `max_grad_norm` clips what is applied instead, once.
        adaptive: As for `SharpnessAware`.
        model: As for `SharpnessAware`.
        options: `max_grad_norm`, `replay_rng`, `max_skipped`, and the base optimizer's keywords.

    Raises:
        ValueError: `gamma` is outside [0, 1), or `rho` is negative.
    """

    def __init__(
        self,
        params: Any,
        base: type[Optimizer] = torch.optim.SGD,
        *,
        rho: float = 0.05,
        gamma: float = 0.9,
        decouple: bool = True,
        max_norm: float | None = None,
        adaptive: bool = False,
        model: nn.Module | None = None,
        **options: Any,
    ) -> None:
        if not 0 <= gamma < 1:
            raise ValueError(f"gamma must be at least 0 and less than 1, not {gamma}")
        if max_norm is not None and not max_norm > 0:
            raise ValueError(f"max_norm must be more than 0, not {max_norm}")
        super().__init__(
            params, base, rho=rho, adaptive=adaptive, model=model, hyperparameters={"gamma": gamma}, **options
        )
        self.decouple = decouple
        self.max_norm = max_norm
        self._difference: dict[Tensor, Tensor] = {}

    def _gradients(self, look_again: Closure) -> bool:
        self._clip_to_max_norm()
        with self._perturbed(self._ascent()) as finite:
            if not finite:
                return False
            first = self._keep_gradients("first")
            if not torch.isfinite(look_again()):
                return False
        self._clip_to_max_norm()
        present = self._pair(first)
        params = list(present)
        gradients, before = list(present.values()), [first[p] for p in params]
        if not math.isfinite(float(total_norm(gradients))):
            return False
        if self.decouple:
            # Swapped tensor by tensor: .grad keeps its storage and becomes g, its buffer becomes g+ - g.
            for gradient, buffer in zip(gradients, before, strict=True):
                difference = gradient - buffer
                gradient.copy_(buffer)
                buffer.copy_(difference)
        else:
            for group in self.param_groups:
                chosen = [p for p in group["params"] if p in first]
                if chosen:
                    a = _weight(group["gamma"])
                    torch._foreach_mul_(_gradients_of(chosen), a)
                    torch._foreach_add_(_gradients_of(chosen), [first[p] for p in chosen], alpha=1 - a)
        self._difference = first
        return True

    def _clip(self) -> None:
        if self.max_grad_norm is None or not self.decouple:
            super()._clip()
            return
        # What is applied is g + a (g+ - g): one factor for both parts keeps their proportion.
        gradients = _gradients_of(self._difference)
        differences = list(self._difference.values())
        weights = {p: _weight(group["gamma"]) for group in self.param_groups for p in group["params"]}
        applied = [
            gradient + weights[p] * difference
            for gradient, (p, difference) in zip(gradients, self._difference.items(), strict=True)
        ]
        factor = clip_factor(float(total_norm(applied)), self.max_grad_norm)
        torch._foreach_mul_(gradients, factor)
        torch._foreach_mul_(differences, factor)

    def _after_base_step(self) -> None:
        if not self.decouple:
            return
        for group in self.param_groups:
            params = [p for p in group["params"] if p in self._difference]
            if params:
                rate = float(group["lr"]) * _weight(group["gamma"])
                sign = 1.0 if group.get("maximize") else -1.0
                torch._foreach_add_(params, [self._difference[p] for p in params], alpha=sign * rate)

    def _clip_to_max_norm(self) -> None:
        if self.max_norm is not None:
            gradients = [p.grad for p in self._parameters() if p.grad is not None]
            torch._foreach_mul_(gradients, clip_factor(float(total_norm(gradients)), self.max_norm))


def _gradients_of(params: Iterable[Tensor]) -> list[Tensor]:
    return [p.grad for p in params if p.grad is not None]


def _weight(gamma: float) -> float:
    """Return `gamma / (1 - gamma)`, the weight of the sharpness beside the loss."""
    return gamma / (1 - gamma)
