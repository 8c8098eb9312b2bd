"""The way through Ray Data: pieces in, tasks that read them, actors that answer, batches out in whatever order."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any

import ray
from ray import data as ray_data
from ray.data.exceptions import ExecutionTimeoutError

from medsharp import __version__
from medsharp.cluster.answering import Answering, Loading
from medsharp.cluster.reading import read_piece
from medsharp.errors import InputError
from medsharp.inference.preparing import Preparation
from medsharp.inference.reading import Frames

_MEMORY = 512 * 2**20
"""Bytes that a node is asked for by each actor, which a loaded bundle may take."""

_LARGEST = 2**20
"""Bytes of readings that a task may collect before it gives them on."""

_STALLED = 900.0
"""Seconds without any batch after which the work is given up: Ray starts a process that dies again and again anew."""

_AT_ONCE = 64
"""Batches that a client is sent at a time."""


@dataclass(frozen=True)
class Way:
    """What the pieces of a table go through.

    Attributes:
        loading: How actors get their bundle.
        preparation: The bundle's.
        frames: As for `predict_manifest`.
        shares: Whether masks tell how large lesions are.
        actors: At most.
        gpus: Of an actor.
        cpus: Of an actor.
    """

    loading: Loading
    preparation: Preparation
    frames: Frames
    shares: bool
    actors: int
    gpus: float
    cpus: int

    def batches(self, pieces: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """Give the batches of pieces, answered: rows as `read_piece` gives them, with predictions as `content`.

        Raises:
            InputError: Nothing comes any more.
        """
        if not ray.util.client.ray.is_connected():
            yield from self._batches(pieces)
            return
        # Ray Data runs on machines of the cluster only, and so for a client in an actor there.
        there: Any = ray.remote(num_cpus=0)(_Elsewhere).remote(self, pieces)
        while found := ray.get(there.take.remote(_AT_ONCE)):
            yield from found

    def _batches(self, pieces: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        # Ray's type hints know no functions of further arguments, and no class that is called.
        reads: Any = read_piece
        answers: Any = Answering
        with _own_settings():
            # A task for each piece; actors are those of another operator, as what they need is other than what it does.
            found = ray_data.from_items(list(pieces), override_num_blocks=len(pieces)).flat_map(
                reads,
                fn_kwargs={
                    "preparation": self.preparation,
                    "frames": self.frames,
                    "shares": self.shares,
                    "version": __version__,
                },
                num_cpus=1,
            )
            found = found.map(
                answers,
                fn_constructor_args=(self.loading,),
                # One batch is computed, one waits beside it, and no more: what is read and not asked for takes memory.
                compute=ray_data.ActorPoolStrategy(min_size=1, max_size=self.actors, max_tasks_in_flight_per_actor=2),
                num_cpus=self.cpus,
                num_gpus=self.gpus or None,
                memory=_MEMORY,
            )
            try:
                yield from found.iter_rows()
            except ExecutionTimeoutError as error:
                raise InputError(
                    f"no batch came for {_STALLED / 60:.0f} minutes: an image may end whatever process reads it, or "
                    "the cluster is without its machines; the same command goes on where it stopped"
                ) from error


class _Elsewhere:
    """The same for a client, some batches at a time."""

    def __init__(self, way: Way, pieces: Sequence[dict[str, Any]]) -> None:
        self._found = way._batches(pieces)

    def take(self, most: int) -> list[dict[str, Any]]:
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
