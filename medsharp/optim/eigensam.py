"""Eigen-SAM: turns the ascent towards the direction of largest curvature."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.optim import Optimizer

from medsharp.optim.arithmetic import add_each, inner, scale_each, total_norm
from medsharp.optim.backward import Backward
from medsharp.optim.gradients import Gradients
from medsharp.optim.moved_weights import Move
from medsharp.optim.sharpness_aware import SharpnessAware, radius
from medsharp.optim.skipped_steps import NotFiniteError

POWER_ITERATIONS = 5


class EigenSAM(SharpnessAware):
    """SAM with an explicit regularization of the top eigenvalue of the Hessian.

    Every `freq` steps, beginning with the first, five power iterations improve `v`, the estimate of the Hessian's top
    eigenvector on the batch. Each step climbs by `rho (g / ||g|| + alpha sign(<g, v>) v_)`, where `v_` is the part of
    `v` orthogonal to `g`; like in the authors' code, this is up to `sqrt(1 + alpha^2)` times as long as `rho`.

    H. Luo, T. Truong, T. Pham, M. Harandi, D. Phung, T. Le, "Explicit Eigenvalue Regularization Improves
    Sharpness-Aware Minimization", NeurIPS 2024, and the authors' code, which estimates `v` only after the first `freq`
    steps of training and climbs by `rho g` until then. Hessian-vector products are exact, by differentiating the
    gradient; the closure's `loss.backward()` or `torch.autograd.backward(loss)` is made to do so, and attention is
    computed with plain operations meanwhile, because fused kernels have no second derivative. With `model=` they are
    computed in evaluation mode, as the authors do. A compiled model cannot be differentiated twice, which torch says.
    Two passes a step, and one that counts about eleven every `freq` steps.

    Args:
        params: As for `SharpnessAware`.
        base: Class of the base optimizer.
        rho: Radius of the neighbourhood.
        alpha: Weight of the eigenvector, at least 0; 0 is SAM.
        freq: Steps from one estimate to the next, at least 1.
        model: As for `SharpnessAware`; put into evaluation mode while the eigenvector is estimated.
        options: As for `SharpnessAware`; `seed` is that of the first `v`.

    Raises:
        ValueError: `alpha` is negative, `freq` less than 1, or the model has a static graph.
    """

    can_adapt = False
    can_shard = False

    def __init__(
        self,
        params: Any,
        base: type[Optimizer] = torch.optim.SGD,
        *,
        rho: float = 0.1,
        alpha: float = 0.2,
        freq: int = 100,
        model: nn.Module | None = None,
        **options: Any,
    ) -> None:
        if not alpha >= 0:
            raise ValueError(f"alpha must be 0 or more, not {alpha}")
        if not (isinstance(freq, int) and freq >= 1):
            raise ValueError(f"freq must be a whole number of steps, 1 or more, not {freq}")
        super().__init__(params, base, rho=rho, model=model, hyperparameters={"alpha": alpha}, **options)
        if self._workers.static_graph:
            raise ValueError(
                "Eigen-SAM differentiates a gradient that is not averaged, but with static_graph=True "
                "DistributedDataParallel averages all; make the model without static_graph"
            )
        self.freq = freq
        self._modules = [] if model is None else list(model.modules())
        self._memory.tensors["eigenvector"] = {}
        self._memory.numbers["steps"] = 0
        self._estimate: Gradients | None = None

    def _begin(self) -> None:
        self._estimate = None

    def _explore(self) -> list[Gradients]:
        self._look()
        first = self._gradients()
        if self._memory.numbers["steps"] % self.freq == 0 and self._estimate is None:
            first = self._take()  # the estimate's passes clear what is in .grad
            self._statistics.keep("before the estimate")
            self._statistics.bring_back("before the step")  # the authors estimate before the first pass
            try:
                self._estimate = self._eigenvector()
            except NotFiniteError:
                self._loss_scale.overflow(self.param_groups)
                raise
            finally:
                self._statistics.bring_back("before the estimate")
        with self._weights.away():
            self._weights.climb(self._ascent(first, overwrite=True))
            del first
            self._look(last=True)
        return []

    def _ascent(self, gradients: Gradients, overwrite: bool = False, key: str = "rho") -> list[Move]:
        size = self._finite_norm([total_norm(gradients.values())]) + 1e-12
        known = self._memory.tensors["eigenvector"] if self._estimate is None else self._estimate
        eigenvector = {p: known[p] if p in known else torch.zeros_like(p) for p in gradients}
        share = inner(list(gradients.values()), list(eigenvector.values())) / size
        sign = (share > 0) - (share < 0)
        moves: list[Move] = []
        for group, params, values in self._by_group(gradients):
            # u + alpha sign (v - <u, v> u), with u = g / ||g||
            scale = (1 - group["alpha"] * sign * share) / size
            directions = values if overwrite else [value.clone() for value in values]
            add_each(directions, [eigenvector[p] for p in params], weight=group["alpha"] * sign, scale=scale)
            moves.append((params, directions, radius(group, key)))
        return moves  # not divided by the length of the sum: the authors switch that off

    def _after_base_step(self) -> None:
        if self._estimate is not None:
            self._memory.tensors["eigenvector"] = self._estimate
        self._memory.numbers["steps"] += 1

    def _eigenvector(self) -> Gradients:
        params = [p for p in self._parameters() if p.requires_grad]
        known = self._memory.tensors["eigenvector"]
        vector = {
            p: known[p].clone()
            if p in known
            else torch.empty_like(p).normal_(generator=self._memory.generators.on(p.device))
            for p in params
        }
        # Fused attention has no second derivative; that of plain operations is the same function.
        with self._evaluating(), sdpa_kernel(SDPBackend.MATH):
            gradients = self._differentiable_gradients(params)
            # Here too: what was checkpointed is computed once more for every product.
            for iteration in range(POWER_ITERATIONS):
                outputs = [(g, vector[p]) for p, g in gradients.items() if g.requires_grad]
                products = torch.autograd.grad(
                    [g for g, _ in outputs],
                    params,
                    [v for _, v in outputs],
                    retain_graph=iteration + 1 < POWER_ITERATIONS,
                    allow_unused=True,
                )
                curved = {p: h.detach() for p, h in zip(params, products, strict=True) if h is not None}
                curved = self._workers.average(curved, params)
                size = self._finite_norm([total_norm(curved.values())])
                if size == 0:
                    return {}  # no curvature, no direction
                scale_each(list(curved.values()), 1 / math.hypot(size, 1e-6))
                vector = {p: curved[p] if p in curved else torch.zeros_like(p) for p in params}
        return vector

    def _differentiable_gradients(self, params: list[Tensor]) -> Gradients:
        total: Gradients = {}

        def differentiate(loss: Tensor, weight: Tensor | None) -> None:
            parts = torch.autograd.grad(loss, params, weight, create_graph=True, allow_unused=True)
            for parameter, part in zip(params, parts, strict=True):
                if part is not None:
                    total[parameter] = total[parameter] + part if parameter in total else part

        now = self._now()
        with self._workers.apart(), torch.enable_grad(), Backward(differentiate):
            now.closure() if now.rows is None else now.closure(now.rows)
        if not total and any(gradient.any() for gradient in self._gradients().values()):
            raise ValueError(
                "Eigen-SAM must see the closure's backward, to differentiate once more; call loss.backward() or "
                "torch.autograd.backward(loss) in it, not torch.autograd.grad"
            )
        return total

    @contextmanager
    def _evaluating(self) -> Iterator[None]:
        training = [module for module in self._modules if module.training]
        try:
            for module in training:
                module.training = False
            yield
        finally:
            for module in training:
                module.training = True
