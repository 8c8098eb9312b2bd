"""MSAM: perturbs along the momentum, which costs no pass."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from medsharp.optim.arithmetic import add_each, total_norm
from medsharp.optim.gradients import Gradients
from medsharp.optim.moved_weights import Move
from medsharp.optim.sharpness_aware import SharpnessAware

BUFFERS = ("momentum_buffer", "exp_avg")
"""What torch's optimizers call the running average of gradients."""


class MSAM(SharpnessAware):
    """Momentum sharpness-aware minimization.

    The base optimizer steps with the gradient at `w - rho v / ||v||`, where `v` is its own momentum: along the coming
    step, not against it. L2 weight decay (SGD, Adam) acts at the perturbed weights, that of AdamW and Muon at `w`. Of
    another base optimizer it is L2 unless the groups have a true `decoupled_weight_decay`.

    M. Becker, F. Altrock, B. Risse, "Momentum-SAM: Sharpness Aware Minimization without Computational Overhead", 2024,
    algorithm 1. The authors' code leaves the weights perturbed between steps, to be moved back before they are
    evaluated or saved; here they are perturbed only while the closure runs, which gives the same weights. One pass a
    step, so that the loss returned is the one at the perturbed weights.

    Args:
        params: As for `SharpnessAware`.
        base: Class of the base optimizer, with momentum.
        rho: Length of the perturbation.
        options: As for `SharpnessAware`; the `momentum` of SGD is 0.9 without it, as in the authors' code.

    Raises:
        ValueError: The base optimizer has no momentum.
    """

    can_adapt = False
    can_shard = False

    def __init__(
        self, params: Any, base: type[Optimizer] = torch.optim.SGD, *, rho: float = 0.3, **options: Any
    ) -> None:
        if base is torch.optim.SGD:
            options.setdefault("momentum", 0.9)
        super().__init__(params, base, rho=rho, **options)
        if any(not group.get("momentum") and "betas" not in group for group in self.param_groups):
            raise ValueError("MSAM climbs along the momentum; give the base optimizer one, such as momentum=0.9")
        self._moves: list[Move] = []

    def _explore(self) -> list[Gradients]:
        velocities = {p: v for p in self._parameters() if (v := self._velocity(p)) is not None}
        size = float(total_norm(velocities.values()))
        # A velocity points downhill already: the sign is the same where the base optimizer maximizes.
        moves: list[Move] = [(ps, vs, -group["rho"]) for group, ps, vs in self._by_group(velocities)]
        self._moves = self._scaled(moves, 1 / (size + 1e-12) if size > 0 else 0.0)
        with self._weights.away():
            self._weights.climb(self._moves)
            self._look(last=True)
        return []

    def _check_and_clip(self) -> None:
        super()._check_and_clip()
        decays = {
            p: -group["weight_decay"] if group.get("maximize") else group["weight_decay"]
            for group in self.param_groups
            for p in group["params"]
            if group.get("weight_decay") and not _is_decoupled(self.base, group)
        }
        for params, velocities, step in self._moves:
            known = [(p, v) for p, v in zip(params, velocities, strict=True) if p in decays and p.grad is not None]
            if known:
                gradients = [p.grad for p, _ in known if p.grad is not None]
                add_each(gradients, [v for _, v in known], weight=step * decays[known[0][0]])

    def _velocity(self, parameter: Tensor) -> Tensor | None:
        state = self.state.get(parameter, {})
        return next((state[name] for name in BUFFERS if state.get(name) is not None), None)


def _is_decoupled(base: Optimizer, group: dict[str, Any]) -> bool:
    """Whether weights decay by themselves, and not as a part of the gradient."""
    # Its groups do not say so, as there is no other Muon.
    return bool(group.get("decoupled_weight_decay")) or isinstance(base, torch.optim.Muon)
