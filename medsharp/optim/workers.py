"""What several workers of `DistributedDataParallel` must agree on: skipped steps and averaged gradients."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel


class Workers:
    """The process group of a model; without `DistributedDataParallel`, a single worker that agrees with itself."""

    def __init__(self, model: nn.Module | None) -> None:
        # It may be inside of what torch.compile or another module has made of it.
        inside = [] if model is None else list(model.modules())
        self._models = [module for module in inside if isinstance(module, DistributedDataParallel)]
        self._group: Any = self._models[0].process_group if self._models else None
        self.count = dist.get_world_size(self._group) if self._models else 1

    @contextmanager
    def apart(self) -> Iterator[None]:
        """Forward and backward inside of it leave each worker its own gradient.

        Both belong inside: a forward pass outside of it prepares the averaging that the backward pass then does.

        Raises:
            ValueError: A model was promised that every pass of it is averaged.
        """
        if any(getattr(model, "static_graph", False) for model in self._models):
            raise ValueError(
                "DistributedDataParallel(static_graph=True) averages every pass, or goes wrong; make the model without "
                "static_graph, or climb along the gradient of all workers with sync_perturbation=True"
            )
        with ExitStack() as stack:
            for model in self._models:
                stack.enter_context(model.no_sync())
            yield

    def agree(self, finite: bool, device: torch.device) -> bool:
        """Whether it is so on every worker: a step is taken by all or by none."""
        if self.count == 1:
            return finite
        flag = torch.tensor(float(finite), device=device)
        dist.all_reduce(flag, dist.ReduceOp.MIN, self._group)
        return bool(flag)

    def mean(self, number: float, device: torch.device) -> float:
        """Return the mean over the workers, the same on each."""
        if self.count == 1:
            return number
        total = torch.tensor(number, device=device, dtype=torch.float32 if device.type == "mps" else torch.float64)
        dist.all_reduce(total, group=self._group)
        return float(total) / self.count

    def average(self, gradients: dict[Tensor, Tensor], params: list[Tensor]) -> dict[Tensor, Tensor]:
        """Return the mean gradient over the workers.

        A parameter without a gradient on some workers (stochastic depth) counts as zero there; one without a gradient
        on all of them has none.

        Args:
            gradients: Of this worker; overwritten.
            params: All parameters, in the same order on every worker.
        """
        if self.count == 1:
            return gradients
        seen = torch.tensor([float(p in gradients) for p in params], device=params[0].device)
        dist.all_reduce(seen, dist.ReduceOp.MAX, self._group)
        chosen = [parameter for parameter, present in zip(params, seen.tolist(), strict=True) if present]
        means = {p: gradients[p] if p in gradients else torch.zeros_like(p) for p in chosen}
        waiting = [dist.all_reduce(mean, group=self._group, async_op=True) for mean in means.values()]
        for work in waiting:
            work.wait()
        if means:
            torch._foreach_div_(list(means.values()), self.count)
        return means
