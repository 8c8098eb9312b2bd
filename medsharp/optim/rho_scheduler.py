"""Schedules of rho: constant, along a line or a cosine, or after the learning rate."""

from __future__ import annotations

import copy
import math
from typing import Any

from torch.optim import Optimizer

SCHEDULES = ("lr", "constant", "linear", "cosine")


class RhoScheduler:
    """Moves `rho` between two ends, for each group.

    - `"lr"` (default): proportional to the learning rate,
      `rho = rho_min + (rho_max - rho_min) (lr - lr_min) / (lr_max - lr_min)` (Zhuang et al., ICLR 2022, section 4.1:
      GSAM with a radius that decays with the rate).
    - `"constant"`: `rho_max`.
    - `"linear"`, `"cosine"`: from `rho_max` at the first step to `rho_min` at the last of `steps`.

    Call `step()` after each optimizer step, and after the learning-rate schedule's. Of a group that learns at a share
    of the schedule's rate, `lr_scale` as timm's layer-wise groups have it, that rate is meant and not the share.

    Args:
        optimizer: With `rho` in its groups.
        schedule: See above.
        rho_min: The lower end, at least 0.
        rho_max: The upper end; the group's present `rho` without it.
        steps: Of `"linear"` and `"cosine"`: the number of optimizer steps that training takes.
        lr_min: Of `"lr"`: lower end of the learning rate.
        lr_max: Of `"lr"`: upper end; without it the group's initial learning rate, or the highest that OneCycleLR
            reaches.

    Raises:
        ValueError: The optimizer has no rho, an end is out of order, or the schedule is unknown or lacks its steps.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        schedule: str = "lr",
        *,
        rho_min: float = 0.0,
        rho_max: float | None = None,
        steps: int | None = None,
        lr_min: float = 0.0,
        lr_max: float | None = None,
    ) -> None:
        if any("rho" not in group for group in optimizer.param_groups):
            raise ValueError("RhoScheduler needs a sharpness-aware optimizer, which has rho in its groups")
        if schedule not in SCHEDULES:
            raise ValueError(f"schedule must be one of {', '.join(SCHEDULES)}, not {schedule!r}")
        if schedule in {"linear", "cosine"} and (steps is None or steps < 1):
            raise ValueError(
                f"schedule {schedule} needs the number of optimizer steps, steps=..., 1 or more, not {steps}"
            )
        self.optimizer = optimizer
        self.schedule = schedule
        self.steps = steps
        self.done = 0
        self.rho_min, self.lr_min = rho_min, lr_min
        groups = optimizer.param_groups
        self.rho_max = [float(group["rho"]) if rho_max is None else rho_max for group in groups]
        self.lr_max = [float(_highest(group)) if lr_max is None else lr_max for group in groups]
        if not 0 <= rho_min <= min(self.rho_max):
            raise ValueError(f"rho_min must be at least 0 and at most rho_max, not {rho_min}")
        if schedule == "lr" and not lr_min < min(self.lr_max):
            raise ValueError(f"lr_min must be less than lr_max, not {lr_min}")
        self._set()

    def step(self, number: int | None = None) -> None:
        """Set rho for the coming optimizer step; a group that was added since begins at its upper ends.

        Args:
            number: Steps taken so far; one more than at the last call without it.
        """
        self.done = self.done + 1 if number is None else number
        self._set()

    def _set(self) -> None:
        for group in self.optimizer.param_groups[len(self.rho_max) :]:
            self.rho_max.append(float(group["rho"]))
            self.lr_max.append(float(_highest(group)))
        for group, rho_max, lr_max in zip(self.optimizer.param_groups, self.rho_max, self.lr_max, strict=True):
            rate = float(group["lr"]) / _scale(group)
            group["rho"] = self.rho_min + (rho_max - self.rho_min) * self._share(rate, lr_max)

    def _share(self, lr: float, lr_max: float) -> float:
        """Return where between its ends rho is, 1 at the upper."""
        if self.schedule == "lr":
            return min(max((lr - self.lr_min) / (lr_max - self.lr_min), 0.0), 1.0)
        if self.schedule == "constant":
            return 1.0
        passed = min(self.done / max(1, (self.steps or 1) - 1), 1.0)
        return 1 - passed if self.schedule == "linear" else 0.5 * (1 + math.cos(math.pi * passed))

    def state_dict(self) -> dict[str, Any]:
        """Return the ends, and the steps taken."""
        return {key: copy.deepcopy(value) for key, value in self.__dict__.items() if key != "optimizer"}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load what `state_dict` gave, and set rho as it was then; the optimizer's state is to be loaded before.

        Raises:
            ValueError: It is of more groups than the optimizer has.
        """
        groups = len(self.optimizer.param_groups)
        if len(state_dict["rho_max"]) > groups:
            raise ValueError(f"this is the schedule of {len(state_dict['rho_max'])} groups, and there are {groups}")
        # Copies: a group that is added later must not be added to what was given.
        self.__dict__.update(copy.deepcopy(state_dict))
        self._set()


def _highest(group: dict[str, Any]) -> float:
    return group.get("max_lr", group.get("initial_lr", group["lr"])) / _scale(group)


def _scale(group: dict[str, Any]) -> float:
    return float(group.get("lr_scale", 1.0))
