"""What the figures were measured on, and how fast it multiplies matrices."""

from __future__ import annotations

import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from training.benchmark.contestants import Contestant
from training.benchmark.workload import Workload

MATRIX_SIDE = 8192
MATRIX_PRODUCTS = 20


def processor() -> str:
    """Return the model of the CPU."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()  # no Linux
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


@contextmanager
def threads(count: int | None) -> Iterator[int]:
    """Let torch compute with so many threads, or as many as it chose; gives their number."""
    before = torch.get_num_threads()
    if count is not None:
        torch.set_num_threads(count)
    try:
        yield torch.get_num_threads()
    finally:
        torch.set_num_threads(before)


def matrix_rate(device: torch.device) -> float:
    """Return how many floating-point operations a second a large product of bf16 matrices reaches."""
    one = torch.randn(MATRIX_SIDE, MATRIX_SIDE, device=device, dtype=torch.bfloat16)
    other = torch.randn_like(one)
    best = float("inf")
    for _ in range(5):
        torch.cuda.synchronize(device)
        start = time.perf_counter()
        for _ in range(MATRIX_PRODUCTS):
            one @ other
        torch.cuda.synchronize(device)
        best = min(best, time.perf_counter() - start)
    return 2 * MATRIX_SIDE**3 * MATRIX_PRODUCTS / best


def operations(workload: Workload, contestant: Contestant) -> float:
    """Return the floating-point operations of a mean step that are matrix products and convolutions."""
    step = contestant.make(workload.network, False)
    closure = workload.closure(contestant.per_sample)
    total = 0.0
    for weight in contestant.weights:
        with FlopCounterMode(display=False) as counter:
            step(closure)
        total += weight * counter.get_total_flops()
    return total
