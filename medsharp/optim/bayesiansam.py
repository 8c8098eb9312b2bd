"""Bayesian SAM: SAM as the relaxation of a posterior, with a variance for every weight."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch.optim import Optimizer

from medsharp.optim.arithmetic import total_norm
from medsharp.optim.closure_optimizer import Closure
from medsharp.optim.gradients import Gradients
from medsharp.optim.moved_weights import Move
from medsharp.optim.sharpness_aware import SharpnessAware, radius

ASSUMED_DATA_SIZE = 10_000


class PreconditionedMomentum(Optimizer):
    """`m <- beta1 m + (1 - beta1)(g + weight_decay w)`, then `w <- w - lr m / s`: the step of Bayesian SAM.

    The precision `s` is in its state; `BayesianSAM` updates it.
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        weight_decay: float = 0.0,
        precision: float = 1.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay, "precision": precision})

    @torch.no_grad()
    def step(self, closure: Closure | None = None) -> None:  # type: ignore[override]
        """Take one step with the present gradients."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state, beta = self.state_of(group, parameter), group["betas"][0]
                target = parameter.grad + group["weight_decay"] * parameter
                state["momentum"].lerp_(target, 1 - beta)
                parameter.addcdiv_(state["momentum"], state["precision"], value=-float(group["lr"]))

    def state_of(self, group: dict[str, Any], parameter: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return momentum and precision of a parameter, made at the first call."""
        state = self.state[parameter]
        if not state:
            state["momentum"] = torch.zeros_like(parameter, memory_format=torch.preserve_format)
            state["precision"] = torch.full_like(parameter, group["precision"], memory_format=torch.preserve_format)
        return state


class BayesianSAM(SharpnessAware):
    """Bayesian sharpness-aware minimization (bSAM).

    With the precision `s` of every weight: `g` is the gradient at a sample, `w + n / sqrt(data_size s)`, `n` standard
    normal; `g+` the one at `w + rho g / s`. Then, element by element,

        m <- beta1 m + (1 - beta1)(g+ + weight_decay w)
        w <- w - lr m / s
        s <- beta2 s + (1 - beta2)(sqrt(s) |g| + damping + weight_decay)

    T. Möllenhoff, M. E. Khan, "SAM as an Optimal Relaxation of Bayes", ICLR 2023, algorithm 1 and the authors' code. It
    has this step of its own instead of a base optimizer. Two passes a step, neither at `w`: the loss returned is the
    one at the sample.

    Args:
        params: As for `SharpnessAware`.
        lr: Learning rate, more than 0.
        betas: Decays of the momentum and of the precision, in [0, 1).
        weight_decay: Precision of the prior, per sample; at least 0.
        rho: Radius of the neighbourhood.
        data_size: Number of training samples, at least 1, by which the noise shrinks; 10,000 and a warning without it.
        precision: Where `s` begins, more than 0.
        damping: Added to `s` in the long run, at least 0.
        options: As for `SharpnessAware`; `seed` is that of the samples.

    Raises:
        ValueError: A value is out of range.
    """

    can_adapt = False
    can_shard = False

    def __init__(
        self,
        params: Any,
        *,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        weight_decay: float = 0.0,
        rho: float = 0.05,
        data_size: int | None = None,
        precision: float = 1.0,
        damping: float = 0.1,
        **options: Any,
    ) -> None:
        if "base" in options:
            raise ValueError("BayesianSAM has a step of its own; leave base out")
        if not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"betas must be at least 0 and less than 1, not {betas}")
        if data_size is None:
            data_size = ASSUMED_DATA_SIZE
            warnings.warn(
                f"BayesianSAM was not told the number of training samples and assumes {data_size:,}, which sets its "
                "noise; give data_size=len(dataset)",
                stacklevel=3,
            )
        if not data_size >= 1:
            raise ValueError(f"data_size must be 1 or more, not {data_size}")
        if not precision > 0:
            raise ValueError(f"precision must be more than 0, not {precision}")
        if not damping >= 0:
            raise ValueError(f"damping must be 0 or more, not {damping}")
        super().__init__(
            params,
            PreconditionedMomentum,
            rho=rho,
            hyperparameters={"data_size": data_size, "damping": damping},
            lr=lr,
            betas=betas,
            weight_decay=weight_decay,
            precision=precision,
            **options,
        )
        self._deviations: Gradients = {}

    def _explore(self) -> list[Gradients]:
        with self._weights.away():
            self._weights.climb(self._sample())
            self._look()
            gradients = self._take()
            self._finite_norm([total_norm(gradients.values())])
            moves: list[Move] = []
            directions: list[torch.Tensor] = []
            for group, params, values in self._by_group(gradients):
                directions = [g / self._precision(group, p) for p, g in zip(params, values, strict=True)]
                moves.append((params, directions, radius(group)))
                for parameter, gradient in zip(params, values, strict=True):
                    gradient.abs_().mul_(self._precision(group, parameter).sqrt())
            self._weights.climb_from_start(moves)
            del moves, directions
            self._look(last=True)
        return [gradients]

    def _sample(self) -> list[Move]:
        moves: list[Move] = []
        for group in self.param_groups:
            params = [p for p in group["params"] if p.requires_grad]
            noise = []
            for parameter in params:
                draw = torch.empty_like(parameter).normal_(generator=self._memory.generators.on(parameter.device))
                noise.append(draw.div_(self._precision(group, parameter).sqrt()))
            moves.append((params, noise, group["data_size"] ** -0.5))
        return moves

    def _combine(self, *kept: Gradients) -> None:
        (self._deviations,) = kept

    def _after_base_step(self) -> None:
        for group, params, deviations in self._by_group(self._deviations):
            constant = group["damping"] + group["weight_decay"]
            for parameter, deviation in zip(params, deviations, strict=True):
                self._precision(group, parameter).lerp_(deviation.add_(constant), 1 - group["betas"][1])
        self._deviations = {}

    def _precision(self, group: dict[str, Any], parameter: torch.Tensor) -> torch.Tensor:
        assert isinstance(self.base, PreconditionedMomentum)
        return self.base.state_of(group, parameter)["precision"]
