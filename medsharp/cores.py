"""How many processor cores this process may use."""

from __future__ import annotations

import os
from pathlib import Path

_QUOTA = Path("/sys/fs/cgroup/cpu.max")
"""Of control groups, version 2: microseconds of processor time in so many microseconds, or `max`."""


def usable_cores() -> int:
    """Return how many cores this process may use: fewer than the machine has under `taskset` or in a container."""
    return max(1, min(_cores_to_run_on(), _cores_of_quota(_QUOTA)))


def wait_asleep() -> None:
    """Have threads of OpenMP sleep after a microsecond of waiting for each other, where the environment does not say.

    GNU's, which PyTorch brings on Linux, spin for a millisecond otherwise. Where other programs have the cores, what a
    thread waits for does not come in that time, and the waiting takes the time of the work. To be called before
    PyTorch is imported; processes that are begun later inherit it.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", _SPINS)


_SPINS = "1000"


def _cores_to_run_on() -> int:
    if hasattr(os, "process_cpu_count"):  # Python 3.13
        return os.process_cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):  # Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _cores_of_quota(path: Path) -> int:
    """Return how many cores the time is worth that a container may use, rounded; without a limit, very many."""
    try:
        time, period = path.read_text(encoding="ascii").split()
        return round(int(time) / int(period))
    except (OSError, ValueError):  # no such file, or `max`
        return 2**31
