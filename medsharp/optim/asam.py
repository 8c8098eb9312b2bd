"""ASAM: a neighbourhood that scales with the weights."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from medsharp.optim.arithmetic import block_norms, parts
from medsharp.optim.gradients import Gradients
from medsharp.optim.moved_weights import Move
from medsharp.optim.sam import SAM
from medsharp.optim.shards import shard
from medsharp.optim.sharpness_aware import radius

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
        super().__init__(params, base, rho=rho, model=model, hyperparameters={"eta": eta}, **options)
        self.normalization = normalization
        self._names: dict[Tensor, str] = {}
        if model is not None:
            self._names = {parameter: name for name, parameter in model.named_parameters()}

    def _ascent(self, gradients: Gradients, overwrite: bool = False, key: str = "rho") -> list[Move]:
        norms: list[Tensor] = []
        moves: list[Move] = []
        for group, params, values in self._by_group(gradients):
            names = self._names_of(group)
            directions = values if overwrite else [value.clone() for value in values]
            for parameter, direction in zip(params, directions, strict=True):
                if self._is_scaled(parameter, names.get(parameter)):
                    norms += [n for part in parts(parameter, direction) for n in self._scale(*part, group["eta"])]
                else:
                    norms += block_norms(direction)
            moves.append((params, directions, radius(group, key)))
        return self._of_length_one(moves, norms, 1e-16)

    def _is_scaled(self, parameter: Tensor, name: str | None) -> bool:
        if self.normalization == "elementwise":
            return True
        return "weight" in name if name is not None else parameter.ndim >= 2

    def _scale(self, weight: Tensor, gradient: Tensor, eta: float) -> list[Tensor]:
        """Make `T^2 g` of `g`, in place; return the norms of blocks of `T g`."""
        # Without eta, T is the weight itself: its sign cancels in both.
        scale = weight if self.normalization == "elementwise" else torch.abs(weight).add_(eta)
        norms = block_norms(gradient.mul_(scale))
        gradient.mul_(scale)
        return norms

    def _names_of(self, group: dict[str, Any]) -> dict[Tensor, str]:
        given = group.get("param_names")
        names = self._names if given is None else dict(zip(group["params"], given, strict=True))
        return {shard(parameter): name for parameter, name in names.items()}
