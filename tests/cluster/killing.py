"""Processes of a Ray of one's own, and how they end."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

IMAGES = 42
"""Of the hospital that is read on Ray."""


def processes_of_ray(title: str) -> list[int]:
    """Return the processes of this test's Ray whose title begins so."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if (entry / "cmdline").read_bytes().decode().startswith(f"ray::{title}") and _grandparent(
                entry
            ) == os.getpid():
                found.append(int(entry.name))
        except (OSError, ValueError, IndexError):
            continue  # no process, or one that has just ended
    return found


def _grandparent(entry: Path) -> int:
    for _ in range(2):
        entry = entry.with_name((entry / "stat").read_text().rpartition(")")[2].split()[1])
    return int(entry.name)


@contextmanager
def killed(title: str, times: int = 1) -> Iterator[Callable[[], int]]:
    """Kill processes of this title as soon as there are any, a number of times; gives how many were."""
    count, done = 0, threading.Event()

    def hunt() -> None:
        nonlocal count
        while count < times and not done.is_set():
            for process in processes_of_ray(title)[:1]:
                os.kill(process, signal.SIGKILL)
                count += 1
            time.sleep(0.01)

    hunter = threading.Thread(target=hunt)
    hunter.start()
    try:
        yield lambda: count
    finally:
        done.set()
        hunter.join()
