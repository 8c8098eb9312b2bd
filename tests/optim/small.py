"""A small network and its batches, and every method, set so that a few steps see all it does."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from medsharp.optim import create_optimizer, list_optimizers, optimizer_info

METHODS = [name for name in list_optimizers() if optimizer_info(name).sharpness_aware]
FAST = {"looksam": {"k": 2}, "eigensam": {"freq": 2}, "xsam": {"interval": 2}}
"""So that a few steps see what happens every few steps."""


def perceptron(dtype: torch.dtype = torch.float64) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2)).to(dtype)


def batch(step: int = 0, size: int = 12, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(step)
    return torch.randn(size, 4, generator=generator).to(dtype), torch.randint(2, (size,), generator=generator)


def create(name: str, model_or_params: Any, **options: Any) -> Any:
    """Make an optimizer; the one method that must know the number of training samples is told."""
    return create_optimizer(name, model_or_params, **{"data_size": 10_000, **options})


def closure_of(model: nn.Module, optimizer: Any, x: Tensor, y: Tensor) -> Any:
    """Return the closure of a batch as a user writes it."""

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        return loss

    return closure
