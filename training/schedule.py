"""The learning rate at each step."""

from __future__ import annotations

import math

from medsharp.config import ScheduleConfig


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
    final = schedule.final_lr_ratio
    return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * done))
