"""The one place where the page asks the models, and where what they answer is recorded."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from medsharp.errors import InputError
from medsharp.inference import Predictor
from serve.api.context import Context
from serve.engine import Assessment, BusyError, ClosingError, DeadlineError, ReadOptions
from serve.models import Served
from serve.page.meaning import Background, background_of
from serve.security.access import Access
from serve.security.audit import AuditError, AuditLog

REFUSALS = (InputError, BusyError, DeadlineError, AuditError)
"""What is told to a visitor in the words of the exception."""

_TURNS = 60
"""Seconds that work which has begun waits for a busy server."""


@dataclass(frozen=True)
class Model:
    """One model, as it was when a request began: what is said beside its answer is of the bundle that gave it.

    Attributes:
        served: The model.
        audit: Told of each image that is answered.
    """

    served: Served
    audit: AuditLog | None

    @property
    def predictor(self) -> Predictor:
        """The loaded bundle."""
        return self.served.predictor

    @property
    def name(self) -> str:
        """Of the bundle."""
        return self.predictor.spec.name

    def background(self) -> Background:
        """Return what stands beside its answers; the first time takes a second: call it in a thread."""
        return background_of(self.predictor)

    async def assess_in_turn(self, contents: Sequence[bytes], names: Sequence[str], who: Access) -> list[Assessment]:
        """Ask it of some images of work that has begun: where the server is busy, wait until it takes them.

        Raises:
            BusyError: It takes none for a minute, or is stopping.
            DeadlineError: As for `assess`.
            AuditError: As for `assess`.
        """
        for _ in range(_TURNS):
            try:
                return await self.assess(contents, names, who)
            except ClosingError:
                raise
            except BusyError:
                await asyncio.sleep(1.0)
        return await self.assess(contents, names, who)

    async def assess(
        self,
        contents: Sequence[bytes],
        names: Sequence[str],
        who: Access,
        *,
        side: int | None = None,
        options: ReadOptions = ReadOptions(),
        wanted: Callable[[], bool] = lambda: True,
    ) -> list[Assessment]:
        """Ask it of images; what it answers is recorded before it is told.

        Args:
            contents: The bytes of each file.
            names: How each is called in its answer.
            who: Who asks.
            side: Draw image and heat map, at most this many pixels high and wide; None draws nothing.
            options: The frame and the region that are looked at.
            wanted: Asked before each step; the rest is left out when nobody waits for the answer any longer.

        Raises:
            BusyError: As many requests wait as may.
            DeadlineError: It took longer than a request may.
            AuditError: The answers cannot be recorded, so that there are none.
        """
        start = time.perf_counter()
        assessments = await self.served.engine.assess(
            contents, names, image_side=side, heatmap_side=side, wanted=wanted, options=options
        )
        if self.audit is not None and len(assessments) == len(contents):
            await self.audit.record(
                who,
                contents,
                [one.prediction for one in assessments],
                model=self.name,
                digest=self.predictor.digest,
                seconds=time.perf_counter() - start,
            )
        return assessments


class Asking:
    """Finds the model that a visitor asks.

    Args:
        context: Holds the models, and the audit log.
    """

    def __init__(self, context: Context) -> None:
        self._context = context

    @property
    def names(self) -> tuple[str, ...]:
        """Of the models, the default first."""
        return self._context.models.names

    def model(self, name: str = "") -> Model:
        """Return a model, the default one where none is named.

        Raises:
            InputError: There is none of the name.
        """
        return Model(self._context.models.named(name or None), self._context.audit)
