"""ZSharp: climbs along the entries of the gradient that stand out in their tensor."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from medsharp.optim.arithmetic import kth_smallest, norm, total_norm
from medsharp.optim.gradients import Gradients
from medsharp.optim.moved_weights import Move
from medsharp.optim.sam import SAM
from medsharp.optim.sharpness_aware import radius

NORMS = ("global", "tensor")


class ZSharp(SAM):
    """Sharpness-aware minimization with z-score gradient filtering.

    The z-scores of a tensor's gradient are its entries less their mean, divided by their standard deviation. Entries
    whose absolute z-score is above its `quantile` in the tensor (0.95: the top 5 %) climb, the others stay: with `f`,
    the gradient that is zero there, `e = rho f / ||f||`. Tensors of one dimension (biases, norm layers) are not
    filtered, and neither is one whose z-scores are all the same.

    V.-D. Yun, "Sharpness-Aware Minimization with Z-Score Gradient Filtering", NeurIPS workshop OPT 2025 (arXiv
    2505.02369), and the code in the authors' description, of which absolute z-scores, the strict "above" and what is
    spared are. That code divides each filtered tensor by its own norm, and the others by the norm of the whole
    unfiltered gradient (`norm="tensor"`), so that the perturbation is up to the root of the number of tensors times as
    long as `rho`. The default is the paper's, one norm of all that climbs (`norm="global"`), for which `rho` is the
    radius that it is for SAM. Two passes a step.

    Args:
        params: As for `SharpnessAware`.
        base: Class of the base optimizer.
        rho: Radius of the neighbourhood.
        quantile: Of the absolute z-scores of a tensor, above which entries climb; in [0, 1). With 0 all do: SAM.
        norm: See above.
        options: As for `SharpnessAware`.

    Raises:
        ValueError: `quantile` is outside [0, 1), or `norm` unknown.
    """

    can_adapt = False
    can_shard = False

    def __init__(
        self,
        params: Any,
        base: type[Optimizer] = torch.optim.SGD,
        *,
        rho: float = 0.05,
        quantile: float = 0.95,
        norm: str = "global",
        **options: Any,
    ) -> None:
        if not 0 <= quantile < 1:
            raise ValueError(f"quantile must be at least 0 and less than 1, not {quantile}")
        if norm not in NORMS:
            raise ValueError(f"norm must be one of {', '.join(NORMS)}, not {norm}")
        super().__init__(params, base, rho=rho, **options)
        self.quantile = quantile
        self.norm = norm

    def _ascent(self, gradients: Gradients, overwrite: bool = False, key: str = "rho") -> list[Move]:
        if self.norm == "global":
            return super()._ascent({p: self._filtered(g, overwrite) for p, g in gradients.items()}, True, key)
        size = self._finite_norm([total_norm(gradients.values())])
        moves: list[Move] = []
        for group, params, values in self._by_group(gradients):
            for parameter, value in zip(params, values, strict=True):
                direction = self._filtered(value, overwrite)
                own = size if value.ndim < 2 else float(norm(direction))
                # A tensor without a gradient does not climb.
                moves.append(([parameter], [direction], radius(group, key) / (own + self.epsilon) if own > 0 else 0.0))
        return moves

    def _filtered(self, gradient: Tensor, overwrite: bool) -> Tensor:
        """Return the gradient, zero where it does not stand out."""
        if gradient.ndim < 2 or self.quantile == 0:
            return gradient
        return outstanding(gradient, self.quantile, overwrite)


def outstanding(gradient: Tensor, quantile: float, overwrite: bool = False) -> Tensor:
    """Return a gradient that is zero where its absolute z-score is not above the quantile.

    One of equal scores is returned as it is. What is not finite stays, to be seen in a norm.

    Args:
        gradient: Of any shape.
        quantile: In [0, 1), interpolated between neighbours as `torch.quantile` does.
        overwrite: Use the gradient's memory.
    """
    if gradient.numel() == 0:
        return gradient
    # The scores are in the order of the distances to the mean, as the deviation is one positive number for all. And
    # what is above the interpolated quantile of sorted distances is what is above the one before it. By more than
    # rounding: the two rows of a head of two classes have opposite gradients, so that all their scores come in pairs.
    precise = gradient.to(torch.promote_types(gradient.dtype, torch.float32))
    distances = (precise - precise.mean()).abs_()
    rank = math.floor(quantile * (gradient.numel() - 1) + 1e-9)
    limit = kth_smallest(distances, rank + 1) * (1 + 64 * torch.finfo(distances.dtype).eps)
    stays = distances <= torch.where(limit < distances.max(), limit, torch.full_like(limit, -1.0))
    return gradient.masked_fill_(stays, 0.0) if overwrite else gradient.masked_fill(stays, 0.0)
