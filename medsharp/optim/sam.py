"""SAM: the gradient at the worst point of a neighbourhood."""

from __future__ import annotations

import math

import torch

from medsharp.optim.sharpness_aware import Closure, SharpnessAware, total_norm


class SAM(SharpnessAware):
    """Sharpness-aware minimization.

    The base optimizer steps from `w` with the gradient taken at `w + rho g / ||g||`.

    P. Foret, A. Kleiner, H. Mobahi, B. Neyshabur, "Sharpness-Aware Minimization for Efficiently Improving
    Generalization", ICLR 2021, eq. 2 and algorithm 1. As in all PyTorch versions, weight decay is the base optimizer's
    and acts at `w`; the paper's own code has it in the loss. Two passes a step.
    """

    def _gradients(self, look_again: Closure) -> bool:
        with self._perturbed(self._ascent()) as finite:
            if not finite or not torch.isfinite(look_again()):
                return False
        return self._finite_gradients()

    def _finite_gradients(self) -> bool:
        return math.isfinite(float(total_norm(p.grad for p in self._parameters() if p.grad is not None)))
