"""SAM: the gradient at the worst point of a neighbourhood."""

from __future__ import annotations

from medsharp.optim.gradients import Gradients
from medsharp.optim.sharpness_aware import SharpnessAware


class SAM(SharpnessAware):
    """Sharpness-aware minimization.

    The base optimizer steps from `w` with the gradient taken at `w + rho g / ||g||`.

    P. Foret, A. Kleiner, H. Mobahi, B. Neyshabur, "Sharpness-Aware Minimization for Efficiently Improving
    Generalization", ICLR 2021, eq. 2 and algorithm 1. As in all PyTorch versions, weight decay is the base optimizer's
    and acts at `w`; the paper's own code has it in the loss. Two passes a step.
    """

    def _explore(self) -> list[Gradients]:
        self._look()
        with self._weights.away():
            self._weights.climb(self._ascent(self._gradients(), overwrite=True))
            self._look(last=True)
        return []
