"""USAM and StableSAM: climbs by the gradient as it is, without dividing by its norm."""

from __future__ import annotations

from medsharp.optim.arithmetic import scale_each, total_norm
from medsharp.optim.gradients import Gradients
from medsharp.optim.moved_weights import Move
from medsharp.optim.sam import SAM
from medsharp.optim.sharpness_aware import radius


class USAM(SAM):
    """Unnormalized sharpness-aware minimization: `e = rho g`; adaptive, `e = rho w^2 g`.

    M. Andriushchenko, N. Flammarion, "Towards Understanding Sharpness-Aware Minimization", ICML 2022, section 2. Two
    passes a step.
    """

    _length = 0.0
    """Of the gradient that was climbed last."""

    def _ascent(self, gradients: Gradients, overwrite: bool = False, key: str = "rho") -> list[Move]:
        self._length = self._finite_norm([total_norm(gradients.values())])
        moves: list[Move] = []
        for group, params, values in self._by_group(gradients):
            if group["adaptive"]:
                values = [value * parameter.square() for parameter, value in zip(params, values, strict=True)]
            moves.append((params, values, radius(group, key)))
        return moves


class StableSAM(USAM):
    """Stable sharpness-aware minimization: `e = rho g`, and the base optimizer steps with `g+ ||g|| / ||g+||`.

    The length of the gradient stays that of the unperturbed one, which widens the range of learning rates that train.

    C. Tan, J. Zhang, J. Liu, Y. Wang, Y. Hao, "Stabilizing Sharpness-aware Minimization Through A Simple
    Renormalization Strategy", JMLR 2025, algorithm 1. Two passes a step.
    """

    def _explore(self) -> list[Gradients]:
        if self._knows_the_length():
            return super()._explore()
        return [self._look_twice()]

    def _combine(self, *kept: Gradients) -> None:
        gradients = list(self._gradients().values())
        length = self._finite_norm([total_norm(gradients)])
        before = self._size(kept[0].values()) if kept else self._length
        scale_each(gradients, before / length if length > 0 else 1.0)

    def _knows_the_length(self) -> bool:
        """Whether the gradient that is climbed is that of the whole batch, so that its length is all that is needed."""
        return not self._now().chunked and (self._workers.count == 1 or self.sync_perturbation)
