"""CR-SAM: SAM with a regularizer on the curvature along the ascent."""

from __future__ import annotations

from typing import Any

import torch
from torch.optim import Optimizer

from medsharp.optim.arithmetic import add_each
from medsharp.optim.gradients import Gradients
from medsharp.optim.sharpness_aware import SharpnessAware


class CRSAM(SharpnessAware):
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

    def _explore(self) -> list[Gradients]:
        self._look()
        first = self._take()
        with self._weights.away():
            moves = self._ascent(first)
            self._weights.climb(moves)
            self._look()
            self._weights.climb_from_start(self._scaled(moves, -1.0))
            # The two that are known are added up before the third is computed: one buffer less.
            self._pair(first)
            partial = self._take()
            for group, params, gradients in self._by_group(partial):
                here, plus, _, both = _weights(group)
                add_each(gradients, [first[p] for p in params], weight=here / both, scale=plus / both)
            del first, moves
            self._look(last=True)
        return [partial]

    def _combine(self, *kept: Gradients) -> None:
        (partial,) = kept
        for group, params, gradients in self._by_group(self._pair(partial)):
            _, _, minus, both = _weights(group)
            add_each(gradients, [partial[p] for p in params], weight=both, scale=minus)


def _weights(group: dict[str, Any]) -> tuple[float, float, float, float]:
    """Return the weights of `g`, `g+`, `g-`, which add up to one, and that of the partial sum of the first two.

    With the sum of both weights, both sums are interpolations, which cost less. Near zero it would be no good divisor.
    """
    here, plus, minus = -2 * group["gamma"], 1 + group["gamma"] + group["beta"], group["gamma"] - group["beta"]
    both = 1 - minus
    return here, plus, minus, both if abs(both) > 0.1 else plus
