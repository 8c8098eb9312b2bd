"""What all sharpness-aware optimizers share: how far they look, and along what they climb."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from medsharp.optim.arithmetic import norm, total_norm
from medsharp.optim.closure_optimizer import ClosureOptimizer
from medsharp.optim.gradients import Gradients
from medsharp.optim.moved_weights import Move


class SharpnessAware(ClosureOptimizer):
    """Base class of the methods that look at a neighbourhood of the weights: a radius `rho`, and an ascent.

    Args:
        params: As for `ClosureOptimizer`.
        base: Class of the base optimizer; any that steps without a closure.
        rho: Radius of the neighbourhood, at least 0. It lives in `param_groups`: a schedule may change it, and groups
            may differ; the gradient norm it is divided by is that of all groups together.
        adaptive: Scale the perturbation by the squared weight, element by element.
        hyperparameters: Further values that live in `param_groups`.
        options: As for `ClosureOptimizer`: `model`, `max_grad_norm`, `micro_batch`, ..., and the base optimizer's
            keywords, such as `lr`.

    Raises:
        ValueError: `rho` is negative, or there is no adaptive perturbation.
    """

    epsilon = 1e-12
    """Added to the norm that the perturbation is divided by."""

    can_adapt = True
    """Whether there is an adaptive perturbation."""

    def __init__(
        self,
        params: Any,
        base: type[Optimizer] = torch.optim.SGD,
        *,
        rho: float = 0.05,
        adaptive: bool = False,
        hyperparameters: dict[str, Any] | None = None,
        **options: Any,
    ) -> None:
        if not _is_at_least_0(rho):
            raise ValueError(f"rho must be 0 or more, not {rho!r}")
        if adaptive and not self.can_adapt:
            raise ValueError(f"{type(self).__name__} has no adaptive perturbation; leave adaptive out")
        own = {"rho": rho, "adaptive": adaptive, **(hyperparameters or {})}
        super().__init__(params, base, hyperparameters=own, **options)

    def _ascent(self, gradients: Gradients, overwrite: bool = False, key: str = "rho") -> list[Move]:
        """Return where to climb.

        `e = rho g / (||g|| + 1e-12)`, with one norm over all groups (Foret et al. 2021, eq. 2); adaptive:
        `e = rho w^2 g / (|| |w| g || + 1e-12)` (Kwon et al. 2021, eq. 3 with T_w = |w|). A method whose authors add
        another number says so in `epsilon`.

        Args:
            gradients: At the present weights.
            overwrite: Nobody needs these gradients again: their memory may hold the directions.
            key: What the radius is called in `param_groups`.
        """
        norms: list[Tensor] = []
        moves: list[Move] = []
        for group, params, values in self._by_group(gradients):
            directions = values
            if group["adaptive"]:
                directions = values if overwrite else [torch.empty_like(value) for value in values]
                for parameter, value, direction in zip(params, values, directions, strict=True):
                    torch.mul(value, parameter, out=direction)
                    norms.append(norm(direction))
                    direction.mul_(parameter)
            elif values:
                norms.append(total_norm(values))
            moves.append((params, directions, radius(group, key)))
        return self._of_length_one(moves, norms, self.epsilon)

    def _look_twice(self) -> Gradients:
        """Look at the weights, and once more where the ascent leads from there.

        Returns:
            The gradient at the weights; the second is left in `.grad`.
        """
        self._look()
        first = self._take()
        with self._weights.away():
            self._weights.climb(self._ascent(first))
            self._look(last=True)
        return first

    def _of_length_one(self, moves: list[Move], norms: list[Tensor], epsilon: float) -> list[Move]:
        """Divide moves by their length, whose parts are given; those of length 0 stay 0."""
        size = self._finite_norm(norms)
        return self._scaled(moves, 1 / (size + epsilon) if size > 0 else 0.0)

    @staticmethod
    def _scaled(moves: list[Move], factor: float) -> list[Move]:
        return [(params, directions, step * factor) for params, directions, step in moves]

    def _check_groups(self) -> None:
        for group in self.param_groups:
            if not _is_at_least_0(group["rho"]):
                raise ValueError(f"rho must be 0 or more in every group, not {group['rho']!r}")


def _is_at_least_0(value: Any) -> bool:
    try:
        return bool(value >= 0)
    except TypeError:
        return False


def radius(group: dict[str, Any], key: str = "rho") -> float:
    """Return how far to climb along the gradient: against it where the base optimizer maximizes."""
    return -group[key] if group.get("maximize") else group[key]
