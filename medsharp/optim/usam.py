"""USAM and StableSAM: climbs by the gradient as it is, without dividing by its norm."""

from __future__ import annotations

import math

import torch

from medsharp.optim.sam import SAM
from medsharp.optim.sharpness_aware import Closure, Move, total_norm


class USAM(SAM):
    """Unnormalized sharpness-aware minimization: `e = rho g`.

    M. Andriushchenko, N. Flammarion, "Towards Understanding Sharpness-Aware Minimization", ICML 2022, section 2. Two
    passes a step.
    """

    def _ascent(self) -> list[Move] | None:
        moves: list[Move] = []
        for group, params, gradients in self._with_gradients():
            moves.append((params, gradients, group["rho"]))
        norm = float(total_norm(gradient for _, gradients, _ in moves for gradient in gradients))
        return moves if math.isfinite(norm) else None


class StableSAM(USAM):
    """Stable sharpness-aware minimization: `e = rho g`, and the base optimizer steps with `g+ ||g|| / ||g+||`.

    The length of the gradient stays that of the unperturbed one, which widens the range of learning rates that train.

    C. Tan, J. Zhang, J. Liu, Y. Wang, Y. Hao, "Stabilizing Sharpness-aware Minimization Through A Simple
    Renormalization Strategy", JMLR 2025, algorithm 1. Two passes a step.
    """

    def _gradients(self, look_again: Closure) -> bool:
        before = float(total_norm(g for _, _, gradients in self._with_gradients() for g in gradients))
        if not super()._gradients(look_again):
            return False
        gradients = [g for _, _, present in self._with_gradients() for g in present]
        after = float(total_norm(gradients))
        if after > 0:
            torch._foreach_mul_(gradients, before / after)
        return True
