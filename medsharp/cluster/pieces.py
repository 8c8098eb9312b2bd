"""Named pieces of work as tasks, each with cores and a part of a GPU: the runs of a study or of a cross-validation."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError
from ray.util.queue import Queue

from medsharp.cluster.session import Cluster

_TRIES = 3
"""How often a piece is begun whose process or machine died: each goes on where the one before stopped."""

_PAUSE = 0.2
"""Seconds between looks at what tasks tell."""

_RARELY = 1.0
"""Seconds between what a task tells of its batches, of which there may be thousands."""

_PATIENCE = 10.0
"""Seconds in which what a task told must have come, before it ends without knowing."""

_THREADS = "OMP_NUM_THREADS"

Work = Callable[[str, str], Iterator[dict[str, Any]]]
"""Does the piece of a name on a device and gives its events; the last is `ended`, with `failure`."""


class PieceTasks:
    """Has pieces done by a cluster's machines, which see the same folders as this one.

    Args:
        cluster: Which.
        gpus_each: GPUs of a piece, which may be a part of one; one where there are any, by default; 0 is the CPU.
        cpus_each: Cores of a piece.

    Raises:
        InputError: No machine has so many for a piece.
    """

    def __init__(self, cluster: Cluster, *, gpus_each: float | None = None, cpus_each: int = 1) -> None:
        self._gpus = min(1.0, cluster.gpus) if gpus_each is None else gpus_each
        self._cpus = cpus_each
        cluster.check_room("a piece of the work", cpus_each, self._gpus)

    def __call__(self, names: Sequence[str], work: Work) -> Iterator[tuple[str, dict[str, Any]]]:
        """Do pieces, as many at once as there is room for; give their events as they come.

        Args:
            names: Of the pieces, in the order in which they are begun.
            work: Can be sent to another process.
        """
        if not names:
            return
        told = Queue(actor_options={"num_cpus": 0})
        task = ray.remote(num_cpus=self._cpus, num_gpus=self._gpus, max_retries=0)(_do)
        device = "cuda" if self._gpus else "cpu"
        threads = os.environ.get(_THREADS, str(self._cpus))  # as of a piece on this machine

        def begin(name: str) -> Any:
            return task.remote(work, name, device, threads, told)

        running = {begin(name): (name, 1) for name in names}
        try:
            while running:
                ended, _ = ray.wait(list(running), timeout=_PAUSE)
                yield from _waiting(told)
                for one in ended:
                    name, tries = running.pop(one)
                    failure, died = _outcome(one)
                    if died and tries < _TRIES:
                        running[begin(name)] = (name, tries + 1)
                    else:
                        yield name, {"kind": "ended", "failure": failure}
        finally:
            for one in running:
                ray.cancel(one, force=True)
            told.shutdown(force=True)


def _do(work: Work, name: str, device: str, threads: str, told: Queue) -> str:
    """Do a piece in a task; return why it failed, or nothing."""
    last, failure, sent = 0.0, "", None
    actor: Any = told.actor  # its methods have `remote`, which Ray's type hints do not know
    with _threads(threads):
        for event in work(name, device):
            if event["kind"] == "ended":
                failure = str(event["failure"])
                break
            often = event["kind"] == "batch"
            if not often or time.monotonic() - last >= _RARELY:
                sent = actor.put_nowait.remote((name, event))  # what becomes of it is not waited for
                last = time.monotonic() if often else last
    if sent is not None:
        # But of the last: what is on its way would come after the end, or never if the next task ends the process.
        ray.wait([sent], timeout=_PATIENCE)
    return failure


@contextmanager
def _threads(count: str) -> Iterator[None]:
    """Have the processes of a piece compute with so many threads.

    Otherwise each takes all cores, waits for those of other pieces, and sums in another order than it does elsewhere.
    What Ray sets by itself depends on what the process did before.
    """
    before = os.environ.get(_THREADS)
    os.environ[_THREADS] = count
    try:
        yield
    finally:
        os.environ.pop(_THREADS)
        if before is not None:
            os.environ[_THREADS] = before


def _outcome(one: Any) -> tuple[str, bool]:
    """Return why a task failed, or nothing, and whether its process or machine died."""
    try:
        return str(ray.get(one)), False
    except RayTaskError as error:
        return " ".join(str(error.cause).split()), False
    except RayError as error:
        return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}", True


def _waiting(told: Queue) -> list[tuple[str, dict[str, Any]]]:
    count = told.qsize()
    return told.get_nowait_batch(count) if count else []
