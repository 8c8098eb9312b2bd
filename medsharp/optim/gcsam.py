"""GCSAM: climbs along the centralized gradient."""

from __future__ import annotations

from torch import Tensor

from medsharp.optim.arithmetic import norm
from medsharp.optim.gradients import Gradients
from medsharp.optim.moved_weights import Move
from medsharp.optim.sam import SAM
from medsharp.optim.sharpness_aware import radius


class GCSAM(SAM):
    """Gradient centralized sharpness-aware minimization.

    `e = rho GC(g) / ||g||`, or adaptive `e = rho w^2 GC(g) / || |w| g ||`, where `GC` takes away the mean over all
    dimensions but the first of tensors that have more than one (Yong et al., ECCV 2020). M. Hassan, A. Vakanski, B.
    Zhang, M. Xian, "GCSAM: Gradient Centralized Sharpness Aware Minimization", 2025. Two passes a step.
    """

    def _ascent(self, gradients: Gradients, overwrite: bool = False, key: str = "rho") -> list[Move]:
        norms: list[Tensor] = []
        moves: list[Move] = []
        for group, params, values in self._by_group(gradients):
            pairs = list(zip(params, values, strict=True))
            adaptive = group["adaptive"]
            norms += [norm(value * parameter if adaptive else value) for parameter, value in pairs]
            directions = [centralized(value, overwrite) for value in values]
            if adaptive:
                directions = [d * parameter.square() for d, parameter in zip(directions, params, strict=True)]
            moves.append((params, directions, radius(group, key)))
        return self._of_length_one(moves, norms, self.epsilon)


def centralized(gradient: Tensor, overwrite: bool = False) -> Tensor:
    """Return the gradient less its mean over all dimensions but the first; vectors stay as they are."""
    if gradient.ndim < 2:
        return gradient
    mean = gradient.mean(dim=tuple(range(1, gradient.ndim)), keepdim=True)
    return gradient.sub_(mean) if overwrite else gradient - mean
