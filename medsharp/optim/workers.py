"""What several workers must agree on: skipped steps, averaged gradients, and norms of what they share."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from medsharp.optim.shards import Shards


class Workers:
    """The processes that train a model; a single one that agrees with itself without a wrapper.

    Args:
        model: Perhaps with `DistributedDataParallel` or `fully_shard`.
        params: Of the optimizer.

    Raises:
        ValueError: Parameters are sharded in a way that norms cannot be computed of.
    """

    def __init__(self, model: nn.Module | None, params: list[Tensor]) -> None:
        # It may be inside of what torch.compile or another module has made of it.
        inside = [] if model is None else list(model.modules())
        self._model = model
        self._models = [module for module in inside if isinstance(module, DistributedDataParallel)]
        self._group: Any = self._models[0].process_group if self._models else None
        self._shards = Shards(model, params)
        self.sharded = bool(self._shards.groups)
        self._groups = self._shards.groups or ([self._group] if self._models else [])
        self.count = dist.get_world_size(self._group) if self._models else self._shards.count

    @property
    def static_graph(self) -> bool:
        """Whether a model was promised that every pass of it is averaged."""
        return any(getattr(model, "static_graph", False) for model in self._models)

    def may_average(self, together: bool) -> bool:
        """Whether the gradient of a pass may be the mean of several processes.

        Args:
            together: Whether it is meant to be. Of a wrapper that is not known, it is whatever is meant.
        """
        return (together or not self._models) and _several_processes()

    @contextmanager
    def apart(self) -> Iterator[None]:
        """Forward and backward inside of it leave each worker its own gradient.

        Both belong inside: a forward pass outside of it prepares the averaging that the backward pass then does.

        Raises:
            ValueError: A model was promised that every pass of it is averaged.
        """
        if self.static_graph:
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
        for group in self._groups:
            dist.all_reduce(flag, dist.ReduceOp.MIN, group)
        return bool(flag)

    def mean(self, number: float, device: torch.device) -> float:
        """Return the mean over the workers, the same on each."""
        if self.count == 1:
            return number
        total = torch.tensor(number, device=device, dtype=torch.float32 if device.type == "mps" else torch.float64)
        for group in self._groups:
            dist.all_reduce(total, group=group)
        return float(total) / self.count

    def norm_of_shards(self, size: float, device: torch.device) -> float:
        """Return the norm of what has a norm on this worker; its own, where parameters are not sharded."""
        return math.sqrt(self._shards.sum([size * size], device)[0]) if self.sharded else size

    def sum_of_shards(self, number: float, device: torch.device) -> float:
        """Return the sum over the workers that parameters are divided among; likewise."""
        return self._shards.sum([number], device)[0]

    def name_of(self, parameter: Tensor) -> str:
        """Return the name of a parameter in the model, quoted; empty where it has none."""
        named = () if self._model is None else self._model.named_parameters()
        return next((f"'{name}'" for name, other in named if other is parameter), "")

    def let_go(self) -> None:
        """Free whole parameters that a pass has left behind."""
        self._shards.let_go()

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


def _several_processes() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
