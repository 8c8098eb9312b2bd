"""GAM: flatness of first order, the largest gradient norm of the neighbourhood."""

from __future__ import annotations

from typing import Any

import torch
from torch.optim import Optimizer

from medsharp.optim.arithmetic import add_each
from medsharp.optim.gradients import Gradients
from medsharp.optim.sharpness_aware import SharpnessAware


class GAM(SharpnessAware):
    """Gradient norm aware minimization, in its accelerated form.

    Four gradients: `g0` at `w`; `g1` at `w + rho g0 / ||g0||`; `g2` at `u = w + norm_rho d / ||d||` with `d = g1 - g0`,
    the ascent of the gradient norm; `g3` at `u + rho g2 / ||g2||`. With `p = g0 + |beta2| g2` and `q = beta1 g1 +
    beta3 g3`, the base optimizer steps with `q - gamma p_`, where `p_` is the part of `p` orthogonal to `q`.

    X. Zhang, R. Xu, H. Yu, H. Zou, P. Cui, "Gradient Norm Aware Minimization Seeks First-Order Flatness and Improves
    Generalization", CVPR 2023. Rule and defaults (ResNet on CIFAR-100) are those of the authors' code. Four passes a
    step; three gradients are kept beside the weights.

    Args:
        params: As for `SharpnessAware`.
        base: Class of the base optimizer.
        rho: Radius of the ascents of the loss.
        norm_rho: Radius of the ascent of the gradient norm.
        gamma: Weight of the orthogonal part, at least 0.
        beta1: Weight of `g1`.
        beta2: Weight of `g2`.
        beta3: Weight of `g3`.
        options: As for `SharpnessAware`.

    Raises:
        ValueError: `norm_rho` or `gamma` is negative.
    """

    def __init__(
        self,
        params: Any,
        base: type[Optimizer] = torch.optim.SGD,
        *,
        rho: float = 0.02,
        norm_rho: float = 0.2,
        gamma: float = 0.03,
        beta1: float = 0.6,
        beta2: float = 0.5,
        beta3: float = 0.4,
        **options: Any,
    ) -> None:
        for name, value in (("norm_rho", norm_rho), ("gamma", gamma)):
            if not value >= 0:
                raise ValueError(f"{name} must be 0 or more, not {value}")
        own = {"norm_rho": norm_rho, "gamma": gamma, "beta1": beta1, "beta2": beta2, "beta3": beta3}
        super().__init__(params, base, rho=rho, hyperparameters=own, **options)

    def _explore(self) -> list[Gradients]:
        self._look()
        kept = self._take()
        with self._weights.away():
            self._weights.climb(self._ascent(kept))
            self._look()
            self._pair(kept)
            first = self._take()
            difference = {p: g - kept[p] for p, g in first.items()}
            self._weights.bring_back()
            self._weights.climb(self._ascent(difference, overwrite=True, key="norm_rho"))
            del difference
            self._look()
            self._weights.climb(self._ascent(self._gradients()))
            self._add_second(kept)
            self._look(last=True)
        return [kept, first]

    def _add_second(self, kept: Gradients) -> None:
        # Apart, so that no variable holds these gradients over the last pass.
        for group, params, second in self._by_group(self._pair(kept)):
            add_each([kept[p] for p in params], second, weight=abs(group["beta2"]))

    def _combine(self, *kept: Gradients) -> None:
        old, first = kept
        new = self._pair(old, first)
        for group, params, gradients in self._by_group(new):
            add_each(gradients, [first[p] for p in params], weight=group["beta1"], scale=group["beta3"])
        size, product = self._size_and_inner(list(new.values()), [old[p] for p in new])
        self._check_finite(size, product)
        old_size = self._size(old[p] for p in new)
        cosine = product / (size * old_size + 1e-12)
        share = cosine * old_size / (size + 1e-12)
        for group, params, gradients in self._by_group(new):
            gamma = group["gamma"]
            add_each(gradients, [old[p] for p in params], weight=-gamma, scale=1 + gamma * share)
