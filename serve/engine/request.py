"""A request in the engine: a place for each of its answers, and whoever waits for all of them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

from serve.engine.capacity import DeadlineError
from serve.security.crashes import log_fault

Answer = TypeVar("Answer")


class Request(Generic[Answer]):
    """What threads fill and a coroutine waits for.

    Args:
        count: Of its images.
        wanted: Asked before each step of each image whether anybody waits for the answers still.
    """

    def __init__(self, count: int, wanted: Callable[[], bool] = lambda: True) -> None:
        self._wanted = wanted
        self._answers: list[Answer | None] = [None] * count
        self._open = set(range(count))
        self._lock = threading.Lock()
        self._begun = 0
        self._over = False
        self._done: Future[None] = Future()
        self._done.set_running_or_notify_cancel()  # so that whoever stops waiting leaves it alone
        if count == 0:
            self._done.set_result(None)

    @property
    def is_wanted(self) -> bool:
        """Whether its answers are still waited for; not by one who cannot say so."""
        try:
            return not self._over and self._wanted()
        except Exception as error:
            log_fault("a request could not say whether it is wanted", error)
            return False

    def next_index(self) -> int | None:
        """Return the number of the next image to begin with, counted from 0; None where all were begun."""
        with self._lock:
            if self._begun == len(self._answers):
                return None
            self._begun += 1
            return self._begun - 1

    def finish(self, index: int, answer: Answer | None) -> None:
        """Put an answer in its place, or None where the image was left out; a place is filled once."""
        with self._lock:
            if index not in self._open:
                return
            self._open.remove(index)
            self._answers[index] = answer
            is_last = not self._open
        if is_last:
            self._done.set_result(None)

    async def answers(self, seconds: float) -> list[Answer]:
        """Wait for all answers, in the order of the images; those that were left out are missing.

        However this ends, the request is over then, and what is left of it is not worked on.

        Raises:
            DeadlineError: They took longer than that.
        """
        try:
            async with asyncio.timeout(seconds):
                await asyncio.wrap_future(self._done)
        except TimeoutError as error:
            raise DeadlineError(
                f"the request was not answered within {seconds:g} seconds and was given up; send fewer images, or come "
                "again when the server has less to do"
            ) from error
        finally:
            self._over = True
        return [answer for answer in self._answers if answer is not None]
