"""Seeds, deterministic algorithms and the device."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from medsharp.errors import InputError


def seed_everything(*numbers: int) -> None:
    """Seed the global generators of Python, NumPy and PyTorch from several numbers, such as a seed and an epoch."""
    seed = int(np.random.SeedSequence(numbers).generate_state(1)[0])
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


@contextmanager
def deterministic_on_cpu(device: torch.device) -> Iterator[None]:
    """On the CPU, where it costs next to nothing, have PyTorch choose deterministic algorithms and warn of others."""
    if device.type != "cpu":
        yield
        return
    enabled, warned = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    fills = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    torch.use_deterministic_algorithms(True, warn_only=True)
    # Filling every torch.empty is what would cost; it serves debugging only.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(enabled, warn_only=warned)
        torch.utils.deterministic.fill_uninitialized_memory = fills  # type: ignore[attr-defined]


def select_device(name: str) -> torch.device:
    """Return the device of `auto`, `cpu`, `cuda` or `cuda:N`; with a number it becomes CUDA's current one.

    Raises:
        InputError: A CUDA device was asked for and there is no such.
    """
    available = torch.cuda.is_available()
    if not name.startswith("cuda"):
        return torch.device("cuda" if name == "auto" and available else "cpu")
    if not available:
        raise InputError(f"run.device = '{name}': PyTorch finds no CUDA device here; use cpu or auto")
    device = torch.device(name)
    if device.index is not None:
        if device.index >= torch.cuda.device_count():
            raise InputError(f"run.device = '{name}': PyTorch finds {torch.cuda.device_count()} CUDA devices, from 0")
        torch.cuda.set_device(device)  # what names no device, such as pinned memory, is not to wake another one
    return device
