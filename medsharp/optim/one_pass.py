"""A plain optimizer, with all that a step of the others takes care of."""

from __future__ import annotations

from medsharp.optim.closure_optimizer import ClosureOptimizer
from medsharp.optim.gradients import Gradients


class OnePass(ClosureOptimizer):
    """A step of the base optimizer with the gradient at the weights: SGD, Adam, AdamW as they are.

    The step is that of the base optimizer by itself; `max_grad_norm`, `scaler`, `micro_batch` (the gradient is then
    accumulated) and what becomes of a loss that is not finite are as for `ClosureOptimizer`, so that a training loop
    treats plain and sharpness-aware optimizers alike. One pass a step.
    """

    def _explore(self) -> list[Gradients]:
        self._look(last=True)
        return []
