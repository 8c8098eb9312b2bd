"""LookSAM: SAM every few steps; between them, its direction is remembered."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from medsharp.optim.arithmetic import add_each, scale_each, total_norm
from medsharp.optim.gradients import Gradients
from medsharp.optim.sharpness_aware import SharpnessAware

PROJECTIONS = ("global", "tensor")


class LookSAM(SharpnessAware):
    """Efficient and scalable sharpness-aware minimization.

    Every `k` steps, beginning with the first, a step of SAM: the base optimizer gets `g+`, and the unit part of `g+`
    orthogonal to `g`, `v`, is remembered. The steps between take one pass and give `g + alpha ||g|| v`.

    Y. Liu, S. Mai, X. Chen, C.-J. Hsieh, Y. You, "Towards Efficient and Scalable Sharpness-Aware Minimization", CVPR
    2022, algorithm 1. The authors published no code; versions differ in whether the projection and the norms are those
    of the whole gradient (`projection="global"`, default) or of each tensor (`"tensor"`). `1 + 1/k` passes a step.

    Args:
        params: As for `SharpnessAware`.
        base: Class of the base optimizer.
        rho: Radius of the neighbourhood.
        alpha: Weight of the remembered direction, at least 0.
        k: Steps from one step of SAM to the next, at least 1; 1 is SAM.
        projection: See above.
        options: As for `SharpnessAware`.

    Raises:
        ValueError: `alpha` is negative, `k` less than 1, or `projection` unknown.
    """

    def __init__(
        self,
        params: Any,
        base: type[Optimizer] = torch.optim.SGD,
        *,
        rho: float = 0.05,
        alpha: float = 0.2,
        k: int = 5,
        projection: str = "global",
        **options: Any,
    ) -> None:
        if not alpha >= 0:
            raise ValueError(f"alpha must be 0 or more, not {alpha}")
        if not (isinstance(k, int) and k >= 1):
            raise ValueError(f"k must be a whole number of steps, 1 or more, not {k}")
        if projection not in PROJECTIONS:
            raise ValueError(f"projection must be one of {', '.join(PROJECTIONS)}, not {projection}")
        super().__init__(params, base, rho=rho, hyperparameters={"alpha": alpha}, **options)
        self.k = k
        self.projection = projection
        self._memory.tensors["orthogonal"] = {}
        self._memory.numbers["steps"] = 0
        self._orthogonal: Gradients | None = None

    def _begin(self) -> None:
        self._orthogonal = None

    def _explore(self) -> list[Gradients]:
        if self._memory.numbers["steps"] % self.k:
            self._look(last=True)
            return []
        return [self._look_twice()]

    def _combine(self, *kept: Gradients) -> None:
        if kept:
            (first,) = kept
            present = self._pair(first)
            products = [
                self._project([first[p] for p in params], [present[p] for p in params])
                for params in self._together(list(present))
            ]
            # A product with what is not finite is not finite: this checks the gradients without reading them again.
            self._check_finite(*products)
            self._orthogonal = first
            return
        known = self._memory.tensors["orthogonal"]
        gradients = self._gradients()
        sizes: dict[Tensor, float] = {}
        for params in self._together(list(gradients)):
            sizes.update(dict.fromkeys(params, self._finite_norm([total_norm([gradients[p] for p in params])])))
        for group, params, values in self._by_group({p: g for p, g in gradients.items() if p in known}):
            for parameter, value in zip(params, values, strict=True):
                value.add_(known[parameter], alpha=group["alpha"] * sizes[parameter])

    def _check_and_clip(self) -> None:
        if self.max_grad_norm is not None:  # checked when combined
            super()._check_and_clip()

    def _after_base_step(self) -> None:
        if self._orthogonal is not None:
            self._memory.tensors["orthogonal"] = self._orthogonal
        self._memory.numbers["steps"] += 1

    def _together(self, params: list[Tensor]) -> list[list[Tensor]]:
        return [params] if self.projection == "global" else [[p] for p in params]

    def _project(self, first: list[Tensor], second: list[Tensor]) -> float:
        """Overwrite `first` with the unit part of `second` orthogonal to it; return their inner product."""
        size, product = self._size_and_inner(first, second)
        share = product / size / size if size > 0 else 0.0
        add_each(first, second, weight=1.0, scale=-share)
        size = self._size(first)
        scale_each(first, 1 / size if size > 0 else 0.0)
        return product
