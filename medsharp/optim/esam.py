"""ESAM: climbs with some of the weights, and descends on the samples whose loss that raised most."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from medsharp.optim.arithmetic import norm, total_norm
from medsharp.optim.gradients import Gradients
from medsharp.optim.moved_weights import Move
from medsharp.optim.sharpness_aware import SharpnessAware, radius


class ESAM(SharpnessAware):
    """Efficient sharpness-aware minimization.

    - Stochastic weight perturbation: in the first pass each tensor is frozen with probability `1 - beta`, which saves
      its gradient; the others climb by `rho g / (||g|| beta)`.
    - Sharpness-sensitive data selection: a forward pass there tells by how much the loss of each sample rose; the last
      pass takes the share `gamma` of samples where it rose most.

    With `gamma < 1` the closure takes the samples it shall evaluate and returns the loss of each:

        def closure(rows=slice(None)):
            optimizer.zero_grad()
            losses = F.cross_entropy(model(x[rows]), y[rows], reduction="none")
            losses.mean().backward()
            return losses

    J. Du, H. Yan, J. Feng, J. T. Zhou, L. Zhen, R. S. M. Goh, V. Y. F. Tan, "Efficient Sharpness-aware Minimization for
    Improved Training of Neural Networks", ICLR 2022, algorithm 1. The paper uses `beta=0.6` and `gamma=0.5`; the
    defaults, of the authors' code, switch both off. As in that code, samples strictly above the cut are taken, one
    fewer than `gamma` says (but never fewer than two). Unlike there, tensors are frozen from the first step on, and
    drawn from a generator of the optimizer's own, whose state is saved. Freezing makes a compiled model be compiled for
    each choice of tensors.

    Args:
        params: As for `SharpnessAware`.
        base: Class of the base optimizer.
        rho: Radius of the neighbourhood.
        beta: Share of tensors that climb, above 0 and at most 1.
        gamma: Share of samples that are descended on, above 0 and at most 1.
        options: As for `SharpnessAware`.

    Raises:
        ValueError: `beta` or `gamma` is out of range, or `micro_batch` is given.
    """

    can_shard = False

    def __init__(
        self,
        params: Any,
        base: type[Optimizer] = torch.optim.SGD,
        *,
        rho: float = 0.05,
        beta: float = 1.0,
        gamma: float = 1.0,
        **options: Any,
    ) -> None:
        for name, value in (("beta", beta), ("gamma", gamma)):
            if not 0 < value <= 1:
                raise ValueError(f"{name} must be more than 0 and at most 1, not {value}")
        if options.get("micro_batch") is not None:
            raise ValueError("ESAM chooses samples by itself; leave micro_batch out")
        if options.get("sync_perturbation") and beta < 1:
            raise ValueError("sync_perturbation needs every gradient on every worker; leave it out, or set beta=1")
        super().__init__(params, base, rho=rho, hyperparameters={"beta": beta}, **options)
        self.gamma = gamma

    @property
    def needs_sample_losses(self) -> bool:
        """Whether samples are selected by how much the loss of each rose."""
        return self.gamma < 1

    def _explore(self) -> list[Gradients]:
        with self._frozen():
            before = self._look()
        with self._weights.away():
            self._weights.climb(self._ascent(self._gradients(), overwrite=True))
            self._look(last=True, rows=self._most_raised(before) if self.needs_sample_losses else None)
        return []

    def _ascent(self, gradients: Gradients, overwrite: bool = False, key: str = "rho") -> list[Move]:
        norms: list[Tensor] = []
        moves: list[Move] = []
        for group, params, values in self._by_group(gradients):
            if group["adaptive"]:
                norms += [norm(p * value) for p, value in zip(params, values, strict=True)]
                values = [p.square() * value for p, value in zip(params, values, strict=True)]
            else:
                norms.append(total_norm(values))
            moves.append((params, values, radius(group, key) / group["beta"]))
        return self._of_length_one(moves, norms, 1e-7)

    def _most_raised(self, before: Tensor) -> Tensor:
        if before.ndim != 1:
            raise ValueError("ESAM with gamma < 1 needs a closure(rows) that returns the loss of each sample")
        raised = self._look(backward=False) - before
        if self.param_groups[0].get("maximize"):
            raised = -raised
        count = max(1, int(len(raised) * self.gamma))
        cut = torch.topk(raised, count).values[-1]
        rows = torch.nonzero(raised > cut).flatten()
        # Batch norm needs two.
        return rows if len(rows) > 1 else torch.topk(raised, min(2, len(raised))).indices

    @contextmanager
    def _frozen(self) -> Iterator[None]:
        params = [(p, group["beta"]) for group in self.param_groups for p in group["params"] if p.requires_grad]
        draws = torch.rand(len(params), generator=self._memory.generators.on(torch.device("cpu")))
        frozen = [p for (p, beta), draw in zip(params, draws.tolist(), strict=True) if draw > beta]
        if len(frozen) == len(params):
            del frozen[int(draws.argmin())]  # backward needs one
        try:
            for parameter in frozen:
                parameter.requires_grad_(False)
            yield
        finally:
            for parameter in frozen:
                parameter.requires_grad_(True)
