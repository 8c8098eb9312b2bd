"""GCSAM: climbs along the centralized gradient."""

from __future__ import annotations

import math

from torch import Tensor

from medsharp.optim.sam import SAM
from medsharp.optim.sharpness_aware import Move, total_norm


class GCSAM(SAM):
    """Gradient centralized sharpness-aware minimization.

    `e = rho GC(g) / ||g||`, where `GC` takes away the mean over all dimensions but the first of tensors that have more
    than one (Yong et al., ECCV 2020). M. Hassan, A. Vakanski, B. Zhang, M. Xian, "GCSAM: Gradient Centralized
    Sharpness Aware Minimization", 2025. Two passes a step.
    """

    def _ascent(self) -> list[Move] | None:
        moves: list[Move] = []
        whole: list[Tensor] = []
        for group, params, gradients in self._with_gradients():
            whole += gradients
            moves.append((params, [centralized(gradient) for gradient in gradients], group["rho"]))
        norm = float(total_norm(whole))
        if not math.isfinite(norm):
            return None
        return [(params, directions, rho / (norm + 1e-12)) for params, directions, rho in moves]


def centralized(gradient: Tensor) -> Tensor:
    """Return the gradient less its mean over all dimensions but the first; vectors stay as they are."""
    if gradient.ndim < 2:
        return gradient
    return gradient - gradient.mean(dim=tuple(range(1, gradient.ndim)), keepdim=True)
