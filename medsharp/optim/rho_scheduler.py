"""A schedule of rho that follows the learning rate."""

from __future__ import annotations

from typing import Any

from torch.optim import Optimizer


class RhoScheduler:
    """Keeps `rho` proportional to the learning rate, between two ends.

    `rho = rho_min + (rho_max - rho_min) (lr - lr_min) / (lr_max - lr_min)`, for each group (Zhuang et al., ICLR 2022,
    section 4.1: GSAM with a radius that decays with the rate). Call `step()` after the learning-rate schedule's.

    Args:
        optimizer: With `rho` in its groups.
        rho_min: At `lr_min`, at least 0.
        rho_max: At `lr_max`; the group's present `rho` without it.
        lr_min: Lower end of the learning rate.
        lr_max: Upper end; without it the group's initial learning rate, or the highest that OneCycleLR reaches.

    Raises:
        ValueError: The optimizer has no rho, or an end is out of order.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        *,
        rho_min: float = 0.0,
        rho_max: float | None = None,
        lr_min: float = 0.0,
        lr_max: float | None = None,
    ) -> None:
        if any("rho" not in group for group in optimizer.param_groups):
            raise ValueError("RhoScheduler needs a sharpness-aware optimizer, which has rho in its groups")
        self.optimizer = optimizer
        self.rho_min, self.lr_min = rho_min, lr_min
        groups = optimizer.param_groups
        self.rho_max = [float(group["rho"]) if rho_max is None else rho_max for group in groups]
        self.lr_max = [float(_highest(group)) if lr_max is None else lr_max for group in groups]
        if not 0 <= rho_min <= min(self.rho_max):
            raise ValueError(f"rho_min must be at least 0 and at most rho_max, not {rho_min}")
        if not lr_min < min(self.lr_max):
            raise ValueError(f"lr_min must be less than lr_max, not {lr_min}")
        self.step()

    def step(self) -> None:
        """Set rho from the present learning rate; a group that was added since begins at its upper ends."""
        for group in self.optimizer.param_groups[len(self.rho_max) :]:
            self.rho_max.append(float(group["rho"]))
            self.lr_max.append(float(_highest(group)))
        for group, rho_max, lr_max in zip(self.optimizer.param_groups, self.rho_max, self.lr_max, strict=True):
            share = (float(group["lr"]) - self.lr_min) / (lr_max - self.lr_min)
            group["rho"] = self.rho_min + (rho_max - self.rho_min) * min(max(share, 0.0), 1.0)

    def state_dict(self) -> dict[str, Any]:
        """Return the ends."""
        return {key: value for key, value in self.__dict__.items() if key != "optimizer"}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load what `state_dict` gave."""
        self.__dict__.update(state_dict)


def _highest(group: dict[str, Any]) -> float:
    return group.get("max_lr", group.get("initial_lr", group["lr"]))
