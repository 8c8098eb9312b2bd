"""The gradients of an optimizer's parameters, and norms of them, alike for one process and for several."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from medsharp.optim.arithmetic import norm_and_inner, norm_of_norms, total_norm
from medsharp.optim.gradients import Gradients, by_group, paired_gradients, present_gradients, taken_gradients
from medsharp.optim.shards import shard
from medsharp.optim.skipped_steps import NotFiniteError
from medsharp.optim.workers import Workers


class GroupedGradients(Optimizer):
    """Base class: what a method computes with between the passes of a step.

    Of sharded parameters, each process has its own part of every gradient; norms and products are of all parts.
    """

    _workers: Workers
    """The processes that train together; a subclass sets it."""

    def _parameters(self) -> list[Tensor]:
        return [p for group in self.param_groups for p in group["params"]]

    @property
    def _device(self) -> torch.device:
        return shard(self._parameters()[0]).device

    def _gradients(self) -> Gradients:
        """Return the present gradients, which the next pass overwrites."""
        return present_gradients(self._parameters())

    def _take(self) -> Gradients:
        """Return the present gradients, to be kept over the next pass."""
        return taken_gradients(self._parameters())

    def _pair(self, *kept: Gradients) -> Gradients:
        """Bring kept gradients and the present ones to the same parameters; return the present ones."""
        return paired_gradients(self._parameters(), *kept)

    def _by_group(self, gradients: Gradients) -> Iterator[tuple[dict[str, Any], list[Tensor], list[Tensor]]]:
        """Give each group with those of its parameters that have a gradient, and these gradients."""
        return by_group(self.param_groups, gradients)

    def _finite_norm(self, norms: list[Tensor]) -> float:
        """Return the norm of what has these norms.

        Raises:
            NotFiniteError: It is not finite, on any worker.
        """
        size = self._workers.norm_of_shards(float(norm_of_norms(norms)) if norms else 0.0, self._device)
        self._check_finite(size)
        return size

    def _check_finite(self, *numbers: float) -> None:
        """Check that numbers are finite on every worker.

        Raises:
            NotFiniteError: One is not.
        """
        if not self._workers.agree(all(map(math.isfinite, numbers)), self._device):
            raise NotFiniteError

    def _size(self, tensors: Iterable[Tensor]) -> float:
        """Return the norm of these, or of what these are this process's shards of."""
        return self._workers.norm_of_shards(float(total_norm(tensors)), self._device)

    def _size_and_inner(self, ones: list[Tensor], others: list[Tensor]) -> tuple[float, float]:
        """Return the norm of `ones`, and their inner product with `others`; likewise."""
        length, product = norm_and_inner(ones, others)
        size = self._workers.norm_of_shards(float(length), self._device)
        return size, self._workers.sum_of_shards(product, self._device)

    def _check_dense(self) -> None:
        sparse = next(
            (p for p in self._parameters() if p.grad is not None and p.grad.layout is not torch.strided), None
        )
        if sparse is not None:
            raise ValueError(
                f"the gradient of {self._name_of(sparse)} is sparse, and sparse gradients cannot be climbed; make the "
                "embedding with sparse=False"
            )

    def _name_of(self, parameter: Tensor) -> str:
        """Return what a parameter is called, or where it stands in the groups."""
        for group in self.param_groups:
            for name, other in zip(group.get("param_names", ()), group["params"], strict=False):
                if other is parameter:
                    return f"'{name}'"
        number = next(i for i, other in enumerate(self._parameters()) if other is parameter)
        return self._workers.name_of(parameter) or f"parameter {number}, of shape {tuple(parameter.shape)},"
