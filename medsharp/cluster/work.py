"""Pieces of work with bundles: actors that have loaded them do whatever piece comes."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import ray

from medsharp import __version__
from medsharp.cluster.answering import Loading
from medsharp.cluster.model import ClusterModel
from medsharp.cluster.reading import check_version
from medsharp.cluster.stream import Actors, Row, results
from medsharp.errors import InputError
from medsharp.inference import Predictor

Work = Callable[[Sequence[Predictor], Any, Any], Any]
"""Does a piece with predictors, a part of the data and what is asked of it; can be sent to another process."""


class ModelWork:
    """Has pieces of work done by actors, each of which loads the same bundles once.

    Args:
        models: The bundles; the resources of an actor are those of the first.

    Attributes:
        cores: Of an actor.
    """

    def __init__(self, models: Sequence[ClusterModel]) -> None:
        self._loadings = tuple(model.loading for model in models)
        self._actors = models[0].actors(reading=False)
        self.cores = self._actors.cpus

    def __call__(
        self, work: Work, parts: Sequence[Any], pieces: Sequence[tuple[int, Any]]
    ) -> Iterator[tuple[int, Any]]:
        """Do pieces; one whose process or machine died is done again.

        Args:
            work: What is done.
            parts: Of the data; each is sent once.
            pieces: The number of a part, and what is asked of it.

        Returns:
            The number of each piece and what came of it, in whatever order.

        Raises:
            InputError: A piece says so, a bundle cannot be loaded, or nothing comes any more.
        """
        shared = tuple(ray.put(pickle.dumps(part)) for part in parts)
        rows = [{"number": n, "part": p, "asked": pickle.dumps(asked)} for n, (p, asked) in enumerate(pieces)]
        for row in results(_Working(work, self._loadings, shared, __version__, self._actors), rows):
            if row["error"]:
                raise InputError(row["error"])
            yield row["number"], pickle.loads(row["content"])


@dataclass(frozen=True)
class _Working:
    """What pieces go through: actors alone."""

    work: Work
    loadings: tuple[Loading, ...]
    parts: tuple[Any, ...]
    version: str
    actors: Actors

    def through(self, rows: Any) -> Any:
        return self.actors.map(rows, Worker, self.work, self.loadings, self.parts, self.version)


class Worker:
    """An actor that does pieces of work.

    Args:
        work: What is done.
        loadings: How it gets its bundles.
        parts: References to the parts of the data.
        version: Of medsharp, where the command runs.
    """

    def __init__(self, work: Work, loadings: Sequence[Loading], parts: Sequence[Any], version: str) -> None:
        self._work = work
        self._loadings = loadings
        self._parts = parts
        self._version = version

    @cached_property
    def _predictors(self) -> list[Predictor]:
        check_version(self._version)
        return [loading.predictor() for loading in self._loadings]

    def __call__(self, row: Row) -> Row:
        """Do a piece; what is wrong with the data or a bundle becomes `error`."""
        try:
            part = pickle.loads(ray.get(self._parts[row["part"]]))
            done = self._work(self._predictors, part, pickle.loads(row["asked"]))
        except InputError as error:
            return {"number": row["number"], "content": pickle.dumps(None), "error": str(error)}
        return {"number": row["number"], "content": pickle.dumps(done), "error": ""}
