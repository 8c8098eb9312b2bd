"""ASAM: a neighbourhood that scales with the weights."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from medsharp.optim.sam import SAM
from medsharp.optim.sharpness_aware import Move, total_norm

NORMALIZATIONS = ("names", "elementwise")


class ASAM(SAM):
    """Adaptive sharpness-aware minimization.

    The base optimizer steps with the gradient at `w + rho T^2 g / ||T g||`, so that rescaling weights without changing
    the function does not change its sharpness.

    - `normalization="names"` (default) is the authors' code: `T = |w| + eta` for parameters with `weight` in their
      name, 1 for others. Names come from `model` or from named parameters; without either, tensors of two or more
      dimensions are scaled.
    - `normalization="elementwise"` is the widespread variant: `T = |w|` for every parameter, no `eta`. Its radius is
      not transferable: what 0.5 is to the first, about 2 is to the second.

    J. Kwon, J. Kim, H. Park, I. K. Choi, "ASAM: Adaptive Sharpness-Aware Minimization for Scale-Invariant Learning of
    Deep Neural Networks", ICML 2021, eq. 5 and algorithm 1. Two passes a step.

    Args:
        params: As for `SharpnessAware`.
        base: Class of the base optimizer.
        rho: Radius of the neighbourhood.
        eta: Added to `|w|`, at least 0.
        normalization: See above.
        model: As for `SharpnessAware`; parameters' names come from it.
        options: As for `SharpnessAware`.

    Raises:
        ValueError: `eta` is negative, or `normalization` is unknown.
    """

    def __init__(
        self,
        params: Any,
        base: type[Optimizer] = torch.optim.SGD,
        *,
        rho: float = 0.5,
        eta: float = 0.01,
        normalization: str = "names",
        model: nn.Module | None = None,
        **options: Any,
    ) -> None:
        if not eta >= 0:
            raise ValueError(f"eta must be 0 or more, not {eta}")
        if normalization not in NORMALIZATIONS:
            raise ValueError(f"normalization must be one of {', '.join(NORMALIZATIONS)}, not {normalization}")
        params = list(params)
        names: dict[Tensor, str] = {}
        if model is not None:
            names = {parameter: name for name, parameter in model.named_parameters()}
        elif params and isinstance(params[0], tuple):
            names = {parameter: name for name, parameter in params}
        super().__init__(params, base, rho=rho, model=model, hyperparameters={"eta": eta}, **options)
        self.normalization = normalization
        self._names = names

    def _ascent(self) -> list[Move] | None:
        moves: list[Move] = []
        scaled: list[Tensor] = []
        for group, params, gradients in self._with_gradients():
            chosen = [self._is_scaled(parameter) for parameter in params]
            scales = [
                self._scale(parameter, group["eta"]) if scale else None
                for parameter, scale in zip(params, chosen, strict=True)
            ]
            once = [g if t is None else t * g for t, g in zip(scales, gradients, strict=True)]
            twice = [g if t is None else t * g for t, g in zip(scales, once, strict=True)]
            scaled += once
            moves.append((params, twice, group["rho"]))
        norm = float(total_norm(scaled))
        if not math.isfinite(norm):
            return None
        return [(params, directions, rho / (norm + 1e-16)) for params, directions, rho in moves]

    def _is_scaled(self, parameter: Tensor) -> bool:
        if self.normalization == "elementwise":
            return True
        name = self._names.get(parameter)
        return "weight" in name if name is not None else parameter.ndim >= 2

    def _scale(self, parameter: Tensor, eta: float) -> Tensor:
        return parameter.abs() if self.normalization == "elementwise" else parameter.abs() + eta
