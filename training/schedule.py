"""The learning rate and rho at each step."""

from __future__ import annotations

import math

from torch.optim import Optimizer

from medsharp.config import ScheduleConfig
from medsharp.optim import RhoScheduler


class Schedule:
    """Sets the learning rate and rho of an optimizer for a step, whatever was set before.

    Args:
        optimizer: Whose groups have `lr`, and `rho` where the method has one. A group with `lr_scale` learns at that
            share of the learning rate, as timm's layer-wise groups do; rho follows the whole.
        lr: The highest learning rate.
        rho: The highest rho; None for a method without.
        config: How both change.
        steps_per_epoch: Batches an epoch.
    """

    def __init__(
        self, optimizer: Optimizer, lr: float, rho: float | None, config: ScheduleConfig, steps_per_epoch: int
    ) -> None:
        self.optimizer = optimizer
        self.lr = lr
        self._rate = lr
        self.config = config
        self.steps_per_epoch = steps_per_epoch
        self._radii: RhoScheduler | None = None
        if rho is not None:
            # A learning rate that does not fall has nothing to follow.
            kind = "constant" if config.rho == "lr" and config.final_lr_ratio == 1 else config.rho
            self._radii = RhoScheduler(
                optimizer,
                kind,
                rho_min=rho * config.final_rho_ratio,
                rho_max=rho,
                steps=config.epochs * steps_per_epoch,
                lr_min=lr * config.final_lr_ratio,
                lr_max=lr,
            )

    def set(self, step: int) -> None:
        """Set both for a step, which counts from 0 over all epochs."""
        self._rate = self.lr * rate_factor(step, self.steps_per_epoch, self.config)
        for group in self.optimizer.param_groups:
            # Groups of a run that was begun before there were shares have none.
            group["lr"] = self._rate * group.get("lr_scale", 1.0)
        if self._radii is not None:
            self._radii.step(step)

    def now(self) -> dict[str, float | None]:
        """Return `lr`, which is that of the head, and `rho` as they are; None for a method without rho."""
        group = self.optimizer.param_groups[0]
        return {"lr": self._rate, "rho": None if self._radii is None else float(group["rho"])}


def rate_factor(step: int, steps_per_epoch: int, schedule: ScheduleConfig) -> float:
    """Return the share of the learning rate at a step: linear warm-up, then a cosine down to `final_lr_ratio`.

    The first step of the warm-up is not 0, as it would be lost; the last step of several has `final_lr_ratio` exactly.
    I. Loshchilov, F. Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts", ICLR 2017, eq. 5, one period.

    Args:
        step: Counts from 0 over all epochs.
        steps_per_epoch: Batches an epoch.
        schedule: Epochs, warm-up and the last share.
    """
    steps = schedule.epochs * steps_per_epoch
    warmup = min(round(schedule.warmup_epochs * steps_per_epoch), steps - 1)
    if step < warmup:
        return (step + 1) / warmup
    falling = steps - 1 - warmup
    done = (step - warmup) / falling if falling else float(steps > 1)
    final = schedule.final_lr_ratio
    return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * done))
