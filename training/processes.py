"""The processes that train one network together, as torchrun starts them; or one by itself."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.rendezvous import rendezvous

from medsharp.errors import InputError, ToldElsewhereError
from training.reproducibility import select_device

Value = TypeVar("Value")

_PATIENCE = timedelta(hours=12)
"""Of a process for the others: the first may audit a large data set. torchrun ends all where one has died."""

_GRACE = timedelta(seconds=20)
_FAILED = "failed"
_TOLD = "told"
_LOST = (
    "a process of this training was lost; torchrun starts all again with --max-restarts, and medsharp train --resume "
    "continues the run from its last whole epoch"
)
_INTERRUPTED = 130
_CPU = torch.device("cpu")


@dataclass(frozen=True)
class Processes:
    """The processes of a training, and which of them this is; by default a single one.

    All collective calls must be made by every process, in the same order. With a single process they do nothing.

    Attributes:
        rank: Of this process among all of them. The first, 0, reads and writes the run folder, and tells what happens.
        count: Processes in all.
        local_rank: Of this process on its machine, which says which GPU it has.
        local_count: Processes on this machine.
    """

    rank: int = 0
    count: int = 1
    local_rank: int = 0
    local_count: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process reads and writes the run folder."""
        return self.rank == 0

    @contextmanager
    def agreed(self) -> Iterator[None]:
        """Let an error of one process in the block end all of them; no collective call belongs inside.

        Raises:
            InputError: That of this process.
            ToldElsewhereError: Another process, or an earlier one, has one too.
        """
        if self.count == 1:
            yield
            return
        error: InputError | None = None
        try:
            yield
        except InputError as raised:
            error = raised
        sentences = self.gathered(None if error is None else str(error))
        first = next((rank for rank, sentence in enumerate(sentences) if sentence is not None), None)
        if first is None:
            return
        if error is not None and first == self.rank:
            raise error
        raise ToldElsewhereError(f"process {first}: {sentences[first]}") from error

    def gathered(self, value: Value) -> list[Value]:
        """Return the value of each process, in their order."""
        if self.count == 1:
            return [value]
        values: list[Any] = [None] * self.count
        dist.all_gather_object(values, value)
        return values

    def of_first(self, value: Value) -> Value:
        """Return the value of the first process; those of the others do not matter."""
        if self.count == 1:
            return value
        values = [value if self.leads else None]
        dist.broadcast_object_list(values, src=0, device=_CPU)
        return values[0]  # type: ignore[return-value]

    def sum(self, values: Tensor) -> Tensor:
        """Return the sum of a tensor of the CPU over all processes."""
        total = values.clone()
        if self.count > 1:
            dist.all_reduce(total)
        return total

    def device(self, name: str) -> torch.device:
        """Return the device of this process: that of the name, or the GPU of its place on its machine.

        Raises:
            InputError: There is no such device, or there are fewer GPUs than processes, or one GPU is asked for.
        """
        if self.local_count == 1 or name == "cpu":
            return select_device(name)
        if name.startswith("cuda:"):
            raise InputError(
                f"run.device = '{name}' is one GPU, and torchrun has started {self.local_count} processes on this "
                "machine; set it to cuda, which gives each a GPU of its own"
            )
        if select_device(name).type == "cpu":
            return _CPU
        if self.local_count > torch.cuda.device_count():
            raise InputError(
                f"torchrun has started {self.local_count} processes on this machine, which has "
                f"{torch.cuda.device_count()} GPUs; start as many with --nproc-per-node, or set run.device=cpu"
            )
        return select_device(f"cuda:{self.local_rank}")


ALONE = Processes()
"""A process that trains by itself."""


def launched() -> bool:
    """Whether torchrun has started this process."""
    return dist.is_torchelastic_launched()


def may_start_again() -> bool:
    """Whether torchrun will run the same command once more where a process has died (`--max-restarts`)."""
    return launched() and int(os.environ.get("TORCHELASTIC_MAX_RESTARTS", 0)) > 0


@contextmanager
def torchrun_processes(tell: Callable[[str], None]) -> Iterator[Processes]:
    """Join the processes that torchrun has started, if it has started more than this one.

    Args:
        tell: Prints the sentence of an error, before any process ends: torchrun then ends all of them.

    Raises:
        ToldElsewhereError: This process or another one has failed, and the sentence is printed.
        SystemExit: The user has stopped them.
    """
    if not launched() or int(os.environ["WORLD_SIZE"]) == 1:
        yield ALONE
        return
    shared, rank, count = next(iter(rendezvous("env://", timeout=_PATIENCE)))
    # torchrun keeps its store when it starts again: addresses of the processes before are not to be found in it.
    store = dist.PrefixStore(f"medsharp/start-{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}", shared)
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    dist.init_process_group(backend, store=store, rank=rank, world_size=count, timeout=_PATIENCE)
    processes = Processes(rank, count, int(os.environ["LOCAL_RANK"]), int(os.environ.get("LOCAL_WORLD_SIZE", count)))
    failure = _Failure(store, tell)
    try:
        yield processes
        # Leave together, when nothing holds the group any more: its threads abort a process that exits first.
        gc.collect()
        processes.gathered(None)
    except ToldElsewhereError:
        failure.wait()
        raise
    except InputError as error:
        failure.end_all(str(error))
        raise ToldElsewhereError(str(error)) from error
    except KeyboardInterrupt as interrupt:
        if processes.leads:
            failure.end_all(str(interrupt) or "interrupted")
        failure.wait()
        raise SystemExit(_INTERRUPTED) from interrupt
    except Exception as error:
        if not _is_of_the_others(error):
            failure.note()
            raise
        if failure.note():
            failure.end_all(_LOST)
        failure.wait()
        raise ToldElsewhereError(_LOST) from error
    dist.destroy_process_group()


class _Failure:
    """What a process that fails has the others know, by torchrun's store, which outlives it.

    Args:
        store: Shared by all.
        tell: Prints a sentence.
    """

    def __init__(self, store: dist.Store, tell: Callable[[str], None]) -> None:
        self._store = store
        self._tell = tell

    def note(self) -> bool:
        """Say that this process fails; return whether it is the first to do so."""
        try:
            return self._store.add(_FAILED, 1) == 1
        except RuntimeError:  # torchrun's own process, which keeps the store, is gone too
            return True

    def end_all(self, sentence: str) -> None:
        """Tell the sentence, and then let the others end."""
        self.note()
        self._tell(sentence)
        with suppress(RuntimeError):
            self._store.set(_TOLD, "")

    def wait(self) -> None:
        """Wait until the sentence is told, though not for ever."""
        with suppress(RuntimeError):
            self._store.wait([_TOLD], _GRACE)


def _is_of_the_others(error: Exception) -> bool:
    """Whether an error says that another process does not answer; those of gloo have no class of their own."""
    names = ("gloo", "NCCL", "Connection")
    return isinstance(error, dist.DistError) or (
        isinstance(error, RuntimeError) and any(name in str(error) for name in names)
    )
