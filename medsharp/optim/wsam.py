"""WSAM: sharpness as a regularizer with a weight of its own."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from medsharp.optim.arithmetic import add_each, clip_factor, scale_each, total_norm
from medsharp.optim.gradients import Gradients, put_gradients
from medsharp.optim.sharpness_aware import SharpnessAware


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
        weight_of_sharpness(gamma)
        if max_norm is not None and not max_norm > 0:
            raise ValueError(f"max_norm must be more than 0, not {max_norm}")
        super().__init__(
            params, base, rho=rho, adaptive=adaptive, model=model, hyperparameters={"gamma": gamma}, **options
        )
        self.decouple = decouple
        self.max_norm = max_norm
        self._difference: Gradients = {}

    def _check_groups(self) -> None:
        super()._check_groups()
        for group in self.param_groups:
            # Not only where it is needed, when the base optimizer has stepped and some groups are corrected.
            weight_of_sharpness(group["gamma"])

    def _explore(self) -> list[Gradients]:
        self._look()
        self._clip_to_max_norm()
        first = self._take()
        with self._weights.away():
            self._weights.climb(self._ascent(first))
            self._look(last=True)
        return [first]

    def _combine(self, *kept: Gradients) -> None:
        (first,) = kept
        self._clip_to_max_norm()
        present = self._pair(first)
        self._finite_norm([total_norm(present.values())])
        if self.decouple:
            # Subtracted now, because a base optimizer may write into .grad.
            self._difference = self._take()
            add_each(list(self._difference.values()), [first[p] for p in self._difference], weight=-1.0)
            put_gradients(self._parameters(), first)
            return
        for group, params, gradients in self._by_group(present):
            a = weight_of_sharpness(group["gamma"])
            add_each(gradients, [first[p] for p in params], weight=1 - a, scale=a)

    def _check_and_clip(self) -> None:
        if self.max_grad_norm is None:  # checked when combined
            return
        if not self.decouple:
            super()._check_and_clip()
            return
        # What is applied is g + a (g+ - g): one factor for both parts keeps their proportion.
        applied = []
        for group, params, gradients in self._by_group(self._gradients()):
            a = weight_of_sharpness(group["gamma"])
            applied += [g + a * self._difference[p] for p, g in zip(params, gradients, strict=True)]
        factor = clip_factor(self._size(applied), self.max_grad_norm)
        scale_each(list(self._gradients().values()), factor)
        scale_each(list(self._difference.values()), factor)

    def _after_base_step(self) -> None:
        if not self.decouple:
            return
        for group, params, differences in self._by_group(self._difference):
            rate = float(group["lr"]) * weight_of_sharpness(group["gamma"])
            add_each(params, differences, weight=rate if group.get("maximize") else -rate)
        self._difference = {}

    def _clip_to_max_norm(self) -> None:
        if self.max_norm is not None:
            gradients = list(self._gradients().values())
            scale_each(gradients, clip_factor(self._size(gradients), self.max_norm))


def weight_of_sharpness(gamma: float) -> float:
    """Return `gamma / (1 - gamma)`, the weight of the sharpness beside the loss.

    Raises:
        ValueError: `gamma` is outside [0, 1).
    """
    if not 0 <= gamma < 1:
        raise ValueError(f"gamma must be at least 0 and less than 1, not {gamma}")
    return gamma / (1 - gamma)
