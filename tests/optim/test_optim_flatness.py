"""Two minima, the sharper one deeper: who starts in the sharp one and leaves it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from small import create
from torch import Tensor, nn

SIZE, SHARP_WIDTH, STEPS = 10, 0.1, 600
FLAT = torch.eye(SIZE, dtype=torch.float64)[0] * 1.5
"""Where the flat minimum is, of width 1; the sharp one, a fifth deeper, is at zero."""


def destination(name: str, seed: int, **options: Any) -> Tensor:
    """Return where an optimizer ends that begins in the sharp minimum; the gradient is as noisy as of small batches."""
    generator = torch.Generator().manual_seed(seed)
    w = nn.Parameter(torch.zeros(SIZE, dtype=torch.float64))
    optimizer = create(name, [w], lr=0.02, momentum=0.0, **options)
    for step in range(STEPS):
        noise = 1.5 * torch.randn(SIZE, generator=generator, dtype=torch.float64)

        def closure(noise: Tensor = noise) -> Tensor:
            optimizer.zero_grad()
            sharp = 1.2 * torch.exp(-(w**2).sum() / (2 * SHARP_WIDTH**2))
            flat = torch.exp(-((w - FLAT) ** 2).sum() / 2)
            loss = noise @ w - sharp - flat
            loss.backward()
            return loss

        for group in optimizer.param_groups:
            group["lr"] = 0.02 * (1 - step / STEPS)
        optimizer.step(closure)  # type: ignore[arg-type]
    return w.detach()


@pytest.mark.parametrize("seed", range(3))
def test_sgd_stays_in_the_sharp_minimum(seed: int) -> None:
    assert float(destination("sgd", seed).norm()) < 0.05


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", ["sam", "gsam", "wsam", "crsam", "fsam", "gam", "gcsam"])
def test_sharpness_aware_methods_leave_it_for_the_flat_one(name: str, seed: int) -> None:
    where = destination(name, seed, base="sgd", rho=0.2)
    assert float((where - FLAT).norm()) < 0.5
