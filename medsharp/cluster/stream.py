"""The way through Ray Data: rows in, tasks and actors that work on them, rows out in whatever order."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol

import ray
from ray import data as ray_data
from ray.data.exceptions import ExecutionTimeoutError

from medsharp.cluster.answering import Answering, Loading
from medsharp.errors import InputError

_MEMORY = 512 * 2**20
"""Bytes that a node is asked for by each actor, which a loaded bundle may take."""

_LARGEST = 2**20
"""Bytes of readings that a task may collect before it gives them on."""

_STALLED = 900.0
"""Seconds without any batch after which the work is given up: Ray starts a process that dies again and again anew."""

_AT_ONCE = 64
"""Batches that a client is sent at a time."""

Row = dict[str, Any]


class Stages(Protocol):
    """What rows go through; it can be sent to another process."""

    def through(self, rows: Any) -> Any:
        """Return the `ray.data.Dataset` that becomes of one of rows, of which each has a block of its own."""
        ...


@dataclass(frozen=True)
class Actors:
    """Actors that load a bundle once.

    Attributes:
        most: At once.
        gpus: Of each.
        cpus: Of each.
    """

    most: int
    gpus: float
    cpus: int

    def map(self, rows: Any, actor: Any, *arguments: Any) -> Any:
        """Return the data set that actors of a class make of one, a row of each row."""
        return rows.map(
            actor,
            fn_constructor_args=arguments,
            # One batch is computed, one waits beside it, and no more: what is read and not asked for takes memory.
            compute=ray_data.ActorPoolStrategy(min_size=1, max_size=self.most, max_tasks_in_flight_per_actor=2),
            num_cpus=self.cpus,
            num_gpus=self.gpus or None,
            memory=_MEMORY,
        )


@dataclass(frozen=True)
class Predicting:
    """Tasks read pieces, and actors answer.

    Attributes:
        reads: Gives a row with `content` for each batch of a piece's readings.
        settings: Its further arguments.
        loading: How actors get their bundle.
        actors: How many.
    """

    reads: Callable[..., Iterator[Row]]
    settings: dict[str, Any]
    loading: Loading
    actors: Actors

    def through(self, rows: Any) -> Any:
        """See `Stages`: with predictions as `content`."""
        # A task for each piece; actors are those of another operator, as what they need is other than what it does.
        read = rows.flat_map(self.reads, fn_kwargs=self.settings, num_cpus=1)
        return self.actors.map(read, Answering, self.loading)


def results(stages: Stages, rows: Sequence[Row]) -> Iterator[Row]:
    """Give what becomes of rows, in whatever order.

    Raises:
        InputError: Nothing comes any more.
    """
    if not rows:
        return
    if not ray.util.client.ray.is_connected():
        yield from _results(stages, rows)
        return
    # Ray Data runs on machines of the cluster only, and so for a client in an actor there.
    there: Any = ray.remote(num_cpus=0)(_Elsewhere).remote(stages, rows)
    while found := ray.get(there.take.remote(_AT_ONCE)):
        yield from found


def _results(stages: Stages, rows: Sequence[Row]) -> Iterator[Row]:
    with _own_settings():
        try:
            yield from stages.through(ray_data.from_items(list(rows), override_num_blocks=len(rows))).iter_rows()
        except ExecutionTimeoutError as error:
            raise InputError(
                f"no batch came for {_STALLED / 60:.0f} minutes: an image may end whatever process reads it, or "
                "the cluster is without its machines; the same command goes on where it stopped"
            ) from error


class _Elsewhere:
    """The same for a client, some batches at a time."""

    def __init__(self, stages: Stages, rows: Sequence[Row]) -> None:
        self._found = _results(stages, rows)

    def take(self, most: int) -> list[Row]:
        return list(islice(self._found, most))


@contextmanager
def _own_settings() -> Iterator[None]:
    """Let Ray Data tell nothing, as the command has a bar of its own, and give on what a task has at once."""
    context, logger = ray_data.DataContext.get_current(), logging.getLogger("ray.data")
    ours = {
        "enable_progress_bars": False,
        "print_on_execution_start": False,
        "raise_original_map_exception": True,
        "target_max_block_size": _LARGEST,
        "execution_no_progress_timeout_s": _STALLED,
    }
    before, level = {name: getattr(context, name) for name in ours}, logger.level
    for name, value in ours.items():
        setattr(context, name, value)
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)
        for name, value in before.items():
            setattr(context, name, value)
