"""LE-SAM: climbs until the loss has risen by a given amount, as far as its slope tells."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from medsharp.optim.gradients import Gradients
from medsharp.optim.moved_weights import Move
from medsharp.optim.sam import SAM


class LESAM(SAM):
    """Loss-equated sharpness-aware minimization.

    `e = min(sigma / ||g||, rho) g / ||g||`: to first order the loss rises by `sigma` along `e`, however steep it is
    here, so that the radius grows as the gradient shrinks, up to `rho`. Adaptive, `||g||` is `|| |w| g ||` and the
    direction `w^2 g`, along which the loss rises by `sigma` too.

    J. Wang, Q. Liu, Z. Xie, Z. Gao, "Fix the Loss, Not the Radius: Rethinking the Adversarial Perturbation of
    Sharpness-Aware Minimization", ICML 2026 (arXiv 2605.10183), and the authors' code. `rho` is the paper's `rho_max`:
    0.3 is the default of the authors' script, while the command in their description has 999, which is no bound. They
    raise `sigma` from 0 over the first 10 of 200 epochs and let it fall to 0 along a cosine over the last 40; it lives
    in `param_groups`, where a loop may do so. `RhoScheduler` moves the bound. Their code's adaptive direction is
    `|w| g`, along which the loss rises by another amount than `sigma`. Two passes a step.

    Args:
        params: As for `SharpnessAware`.
        base: Class of the base optimizer.
        rho: The largest radius, at least 0.
        sigma: By how much the loss rises, in its own units; at least 0.
        options: As for `SharpnessAware`.

    Raises:
        ValueError: `sigma` is negative.
    """

    def __init__(
        self,
        params: Any,
        base: type[Optimizer] = torch.optim.SGD,
        *,
        rho: float = 0.3,
        sigma: float = 0.35,
        **options: Any,
    ) -> None:
        if not sigma >= 0:
            raise ValueError(f"sigma must be 0 or more, not {sigma}")
        super().__init__(params, base, rho=rho, hyperparameters={"sigma": sigma}, **options)
        self._slope = 0.0

    def _ascent(self, gradients: Gradients, overwrite: bool = False, key: str = "rho") -> list[Move]:
        groups = [group for group, _, _ in self._by_group(gradients)]
        moves = super()._ascent(gradients, overwrite, key)
        return [
            (params, directions, step * self._share(group))
            for group, (params, directions, step) in zip(groups, moves, strict=True)
        ]

    def _of_length_one(self, moves: list[Move], norms: list[Tensor], epsilon: float) -> list[Move]:
        self._slope = self._finite_norm(norms)
        return self._scaled(moves, 1 / (self._slope + epsilon) if self._slope > 0 else 0.0)

    def _share(self, group: dict[str, Any]) -> float:
        """Return how much of its radius a group climbs."""
        rise = group["rho"] * (self._slope + self.epsilon)
        return min(1.0, group["sigma"] / rise) if rise > 0 else 1.0
