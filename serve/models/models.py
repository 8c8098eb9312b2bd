"""Bundles by name, each with its engine; they are loaded again without dropping a request."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medsharp.errors import InputError, nearest
from medsharp.inference import Predictor
from serve.engine import Batching, Engine, Shared
from serve.uploads import Limits

LOG = logging.getLogger("medsharp.serve")

_LONGEST_NAME = 100
"""Characters of a client's name that a sentence repeats."""

Load = Callable[[Path], Predictor]
"""Loads the bundle in a folder; raises InputError."""


@dataclass(frozen=True)
class Served:
    """A model that answers.

    Attributes:
        predictor: The loaded bundle.
        engine: Assesses images with it.
    """

    predictor: Predictor
    engine: Engine


class Models(Mapping[str, Served]):
    """The models of a server by the names that their bundles give them.

    A request looks its model up once and stays with it: one that was begun before a reload is finished by the network
    that began it.

    Args:
        bundles: Folders, or predictors that have loaded one; the first is the default. A predictor that was given is
            loaded again from its folder with the settings of `load`.
        shared: What their engines share.
        limits: How much one request may bring, and how long it may take.
        load: Loads a folder.
        batching: How images are gathered.

    Raises:
        InputError: There is none, one is missing or damaged or cannot be served, or two have the same name.
    """

    def __init__(
        self,
        bundles: Sequence[str | Path | Predictor],
        shared: Shared,
        limits: Limits,
        *,
        load: Load = Predictor.load,
        batching: Batching = Batching(),
    ) -> None:
        if not bundles:
            raise InputError("no bundle was given to serve")
        self._shared = shared
        self._limits = limits
        self._load = load
        self._batching = batching
        self._reloading = threading.Lock()
        served = []
        for bundle in bundles:
            served.append(self._serve(bundle if isinstance(bundle, Predictor) else load(Path(bundle))))
        _check_names([one.predictor for one in served])
        self._served = {one.predictor.spec.name: one for one in served}
        self._tell()

    @property
    def names(self) -> tuple[str, ...]:
        """Of the models, the default first."""
        return tuple(self._served)

    @property
    def default(self) -> Served:
        """The model that answers where none is named."""
        return next(iter(self._served.values()))

    @property
    def depth(self) -> int:
        """Images that wait for a network."""
        return sum(served.engine.depth for served in self._served.values())

    def __getitem__(self, name: str) -> Served:
        """Return the model of a name.

        Raises:
            KeyError: There is none.
        """
        return self._served[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._served)

    def __len__(self) -> int:
        return len(self._served)

    def named(self, name: str | None) -> Served:
        """Return the model of a name, or the default one where there is no name.

        Raises:
            InputError: There is no model of that name.
        """
        if name is None:
            return self.default
        if name not in self._served:
            begin = name[:_LONGEST_NAME]
            raise InputError(f"there is no model {begin!r} here{nearest(begin, self._served)}")
        return self._served[name]

    def check(self) -> None:
        """Refuse a request for images before its body is read, where it would be refused afterwards.

        Raises:
            BusyError: As many requests wait as may, or the server is stopping.
        """
        self.default.engine.check()

    def reload(self) -> None:
        """Load each bundle again whose files have changed; one that is damaged leaves the old one serving.

        Takes as long as loading does; call it in a thread. What happened is logged and counted.
        """
        with self._reloading:
            renewed = [self._reloaded(served) for served in self._served.values()]
            try:
                _check_names([one.predictor for one in renewed])
            except InputError as error:
                LOG.error("no bundle was reloaded: %s", error)
                self._shared.metrics.reload("failed")
                return
            self._served = {one.predictor.spec.name: one for one in renewed}
            self._tell()

    def close(self) -> None:
        """Let no image wait for others to fill its batch; what is inside is finished still."""
        for served in self._served.values():
            served.engine.close()

    def _reloaded(self, old: Served) -> Served:
        name, folder = old.predictor.spec.name, old.predictor.folder
        try:
            predictor = self._load(folder)
            if predictor.digest == old.predictor.digest:
                self._shared.metrics.reload("unchanged")
                return old
            served = self._serve(predictor)
        # Whatever is wrong with the new one, the old one goes on.
        except Exception as error:
            LOG.error("model %s was not reloaded, the one that was loaded before goes on: %s", name, error)
            self._shared.metrics.reload("failed")
            return old
        LOG.warning("model %s was reloaded, its digest is %s now", served.predictor.spec.name, served.predictor.digest)
        self._shared.metrics.reload("loaded")
        return served

    def _serve(self, predictor: Predictor) -> Served:
        _check_servable(predictor)
        side = predictor.preprocessing.size
        predictor.session.run(np.zeros((1, side, side), dtype=np.uint8))  # what is made once, and whether it works
        engine = Engine(
            predictor,
            self._shared,
            max_file_bytes=self._limits.max_file_bytes,
            deadline_seconds=self._limits.deadline_seconds,
            batching=self._batching,
        )
        return Served(predictor, engine)

    def _tell(self) -> None:
        self._shared.metrics.serves(
            {
                name: (one.predictor.digest, one.engine.max_batch, one.engine.max_wait)
                for name, one in self._served.items()
            }
        )


def _check_servable(predictor: Predictor) -> None:
    if predictor.preprocessing.crop == "lesion":
        raise InputError(
            f"{predictor.spec.name} looks at the lesion only, which an upload does not show it; "
            "use medsharp predict with a manifest, or with --box"
        )
    if predictor.answer_anyway:
        raise InputError(
            f"{predictor.spec.name} was loaded to answer refused images too, which a server never does; "
            "use medsharp predict --answer-anyway"
        )


def _check_names(predictors: Sequence[Predictor]) -> None:
    folders: dict[str, Path] = {}
    for predictor in predictors:
        name = predictor.spec.name
        if name in folders:
            raise InputError(
                f"{folders[name]} and {predictor.folder} are both called {name}, and a request could not tell them "
                "apart; serve one of them"
            )
        folders[name] = predictor.folder
