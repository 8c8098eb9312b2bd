"""Ray itself: a cluster that is joined, or one of this machine alone, which goes again with the command."""

from __future__ import annotations

import logging
import math
import os
import re
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from medsharp.cores import usable_cores
from medsharp.errors import InputError
from medsharp.quantities import counted

LOCAL = "local"
"""The address of a Ray of this machine alone."""

_OBJECT_STORE = 512 * 2**20
"""Bytes of shared memory for what waits between reading and the network: some hundred batches."""

_PATIENCE = 5.0
"""Seconds in which the port of an address must answer."""

_SHORT = Path("/tmp")
"""Where Ray's sockets fit: their paths have at most 107 bytes, which those below other temporary folders exceed."""


@dataclass(frozen=True)
class Cluster:
    """A Ray that this process has joined.

    Attributes:
        address: As it was given.
        machines: Cores and GPUs of each.
    """

    address: str
    machines: tuple[tuple[int, float], ...]

    @property
    def cpus(self) -> int:
        """Cores, in all."""
        return sum(cpus for cpus, _ in self.machines)

    @property
    def gpus(self) -> float:
        """GPUs, in all."""
        return sum(gpus for _, gpus in self.machines)

    @property
    def text(self) -> str:
        """What it is, in words."""
        where = "on this machine" if self.address == LOCAL else f"at {self.address}"
        gpus = f" and {gpus_text(self.gpus)}" if self.gpus else ""
        count = len(self.machines)
        machines = f" of {count} machines" if count > 1 else ""
        return f"Ray {where}: {counted(self.cpus, 'CPU')}{gpus}{machines}"

    def check_room(self, what: str, cpus: int, gpus: float, count: int = 1, remedy: str = "ask for less") -> None:
        """Check that pieces of work find their cores and GPUs, each on one machine; Ray would wait for them for ever.

        Args:
            what: A piece, such as `a piece of the work`.
            cpus: Of a piece.
            gpus: Of a piece, which may be a part of one, or several whole ones.
            count: How many must run at once.
            remedy: What to do about it.

        Raises:
            InputError: They do not, or parts of several GPUs are asked for, which Ray does not deal out.
        """
        asked = [*([counted(cpus, "CPU")] if cpus else []), *([gpus_text(gpus)] if gpus else [])]
        if gpus > 1 and gpus != int(gpus):
            raise InputError(f"{gpus_text(gpus)} for {what}: give whole ones, or a part of one")
        if self.room(cpus, gpus) < count:
            each = " on one machine" if len(self.machines) > 1 else ""
            raise InputError(f"{self.text}, and {what} needs {' and '.join(asked)}{each}; {remedy}")

    def room(self, cpus: int, gpus: float) -> int:
        """Return how many pieces of so many cores and GPUs run at once."""
        return sum(_times(own_cpus, cpus, own_gpus, gpus) for own_cpus, own_gpus in self.machines)


def _times(cpus: int, piece_cpus: int, gpus: float, piece_gpus: float) -> int:
    by_cpus = cpus // piece_cpus if piece_cpus else sys.maxsize
    # A third of a GPU fits three times, whatever the last digit says.
    by_gpus = math.floor(gpus / piece_gpus + 1e-9) if piece_gpus else sys.maxsize
    return min(by_cpus, by_gpus)


def gpus_text(gpus: float) -> str:
    """Write a number of GPUs, which may be a part of one."""
    return f"{gpus:g} GPU{'' if gpus == 1 else 's'}"


@contextmanager
def joined(address: str = LOCAL, *, cpus: int | None = None) -> Iterator[Cluster]:
    """Join a cluster, or start a Ray of this machine alone, until the block ends.

    A Ray that this process has joined already is used, and stays. What Ray raises of its own, such as a worker that
    died again and again, becomes a sentence.

    Args:
        address: `local`; `auto`, the cluster that this machine is of; `host:6379`, of one that it is of too; or
            `ray://host:10001` from elsewhere.
        cpus: Of a local one; those that this process may use by default.

    Raises:
        InputError: Nothing answers at the address, it is of another version, or the work cannot go on.
    """
    if address not in (LOCAL, "auto"):
        _knock(address)
    own = None if ray.is_initialized() else _Own.begin(address, cpus)
    try:
        alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        yield Cluster(address, tuple((int(own.get("CPU", 0)), float(own.get("GPU", 0))) for own in alive))
    except RayError as error:
        raise InputError(
            f"Ray ended the work: {_sentence(_cause(error))}; the same command goes on where it stopped"
        ) from error
    finally:
        if own is not None:
            own.end()


@dataclass(frozen=True)
class _Own:
    """A Ray that is left when the work is done.

    Attributes:
        folder: Of its logs and of what did not fit into memory, images among it; None where they lie elsewhere.
    """

    folder: Path | None

    @classmethod
    def begin(cls, address: str, cpus: int | None) -> _Own:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would report to its makers
        options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.CRITICAL}
        folder = None
        if address == LOCAL:
            folder = Path(tempfile.mkdtemp(prefix="medsharp-ray-", dir=_SHORT if _SHORT.is_dir() else None))
            options |= {"num_cpus": cpus or usable_cores(), "object_store_memory": _OBJECT_STORE}
            # Ray opens the folder that it is given to everybody; so it lies in one that nobody else can enter.
            options |= {"include_dashboard": False, "_temp_dir": str(folder / "ray")}
        try:
            ray.init(address=address, **options)
        # Each way of not getting there has a class of its own, down to AssertionError of its client.
        except Exception as error:
            cls(folder).end()
            raise InputError(f"--ray {address}: {_sentence(error)}") from error
        return cls(folder)

    def end(self) -> None:
        ray.shutdown()
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)


def _knock(address: str) -> None:
    """Refuse an address whose port does not answer, which Ray would wait for."""
    found = re.fullmatch(r"(?:ray://)?([\w.-]+|\[[0-9a-fA-F:]+\]):(\d{1,5})", address)
    if found is None:
        raise InputError(f"--ray {address}: write local, auto, HOST:6379 or ray://HOST:10001")
    host, port = found[1].strip("[]"), int(found[2])
    try:
        socket.create_connection((host, port), _PATIENCE).close()
    except (OSError, OverflowError) as error:
        said = getattr(error, "strerror", None) or str(error)
        raise InputError(f"--ray {address}: nothing answers there ({said}); is Ray started on {host}?") from error


def _cause(error: RayError) -> Exception:
    """Return what ended a task, such as a disk that is full, in place of what Ray says of the task."""
    cause = error.cause if isinstance(error, RayTaskError) else None
    if isinstance(cause, OSError) and cause.strerror:
        return OSError(cause.strerror)  # Ray writes advice of its own where the file stood
    return cause if isinstance(cause, Exception) else error


def _sentence(error: Exception) -> str:
    """Return the first words of what Ray says: the rest is advice, traces and numbers of processes."""
    text = re.sub(r"\x1b\[\d*m", "", str(error)).strip() or type(error).__name__
    return " ".join(re.split(r"(?<=[.:])\s|\n", text)[0].split()).rstrip(".:")
