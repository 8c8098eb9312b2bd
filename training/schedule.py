"""The learning rate and rho at each step."""

from __future__ import annotations

import math

from torch.optim import Optimizer

from medsharp.config import ScheduleConfig
from medsharp.optim import RhoScheduler


class Schedule:
    """Sets the learning rate and rho of an optimizer for a step, whatever was set before.

    Args:
        optimizer: Whose groups have `lr`, and `rho` where the method has one.
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
        self.rho = rho
        self.config = config
        self.steps_per_epoch = steps_per_epoch
        self._following: RhoScheduler | None = None
        # A learning rate that does not fall has nothing to follow.
        if rho is not None and config.rho == "lr" and config.final_lr_ratio < 1:
            least = {"rho_min": rho * config.final_rho_ratio, "lr_min": lr * config.final_lr_ratio}
            self._following = RhoScheduler(optimizer, rho_max=rho, lr_max=lr, **least)

    def set(self, step: int) -> None:
        """Set both for a step, which counts from 0 over all epochs."""
        rate = self.lr * rate_factor(step, self.steps_per_epoch, self.config)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        if self._following is not None:
            self._following.step()
        elif self.rho is not None:
            radius = self.rho * rho_factor(step, self.steps_per_epoch, self.config)
            for group in self.optimizer.param_groups:
                group["rho"] = radius

    def now(self) -> dict[str, float | None]:
        """Return `lr` and `rho` as they are; None for a method without rho."""
        group = self.optimizer.param_groups[0]
        return {"lr": float(group["lr"]), "rho": None if self.rho is None else float(group["rho"])}


def rate_factor(step: int, steps_per_epoch: int, schedule: ScheduleConfig) -> float:
    """Return the share of the learning rate at a step: linear warm-up, then a cosine down to `final_lr_ratio`.

    The first step of the warm-up is not 0, as it would be lost; the last step of all has `final_lr_ratio` exactly.
    I. Loshchilov, F. Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts", ICLR 2017, eq. 5, one period.

    Args:
        step: Counts from 0 over all epochs.
        steps_per_epoch: Batches an epoch.
        schedule: Epochs, warm-up and the last share.
    """
    steps = schedule.epochs * steps_per_epoch
    warmup = min(round(schedule.warmup_epochs * steps_per_epoch), steps)
    if step < warmup:
        return (step + 1) / warmup
    done = (step - warmup) / max(1, steps - 1 - warmup)
    return _cosine(done, schedule.final_lr_ratio)


def rho_factor(step: int, steps_per_epoch: int, schedule: ScheduleConfig) -> float:
    """Return the share of rho at a step: 1, or from 1 down to `final_rho_ratio` along a line or a cosine.

    Args:
        step: Counts from 0 over all epochs; the first has 1, the last of all the final ratio.
        steps_per_epoch: Batches an epoch.
        schedule: Epochs, kind and the last share; what follows the learning rate is constant here.
    """
    done = step / max(1, schedule.epochs * steps_per_epoch - 1)
    if schedule.rho == "linear":
        return 1 + (schedule.final_rho_ratio - 1) * done
    if schedule.rho == "cosine":
        return _cosine(done, schedule.final_rho_ratio)
    return 1.0


def _cosine(done: float, final: float) -> float:
    return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * done))
