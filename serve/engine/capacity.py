"""How much the server takes on at once: so many requests, so many bytes of uploads; and when it takes no more."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import ClassVar

from serve.security.gate import megabytes

RETRY_AFTER = 10
"""Seconds after which a request that was too many may come again."""


class BusyError(Exception):
    """The server has as much to do as it takes on; says so in one sentence.

    Attributes:
        status: Of an answer over HTTP, which goes with `headers`.
    """

    status: ClassVar[int] = 429
    headers: ClassVar[Mapping[str, str]] = {"Retry-After": str(RETRY_AFTER)}


class ClosingError(BusyError):
    """The server is stopping: it finishes what it has, and takes nothing more."""

    status = 503


class DeadlineError(Exception):
    """A request took longer than it may; says so in one sentence."""


class Admission:
    """Counts requests from the moment they came whole until they are answered, and bounds them.

    Args:
        most_waiting: Requests beside the first one; one more is refused.
    """

    def __init__(self, most_waiting: int) -> None:
        self._most_waiting = most_waiting
        self._inside = 0
        self._lock = threading.Lock()
        self._closed = False

    @property
    def inside(self) -> int:
        """Requests that are worked on or wait."""
        return self._inside

    @property
    def is_open(self) -> bool:
        """Whether requests are taken on at all."""
        return not self._closed

    def open(self) -> None:
        """Take on requests, as it does from the beginning."""
        self._closed = False

    def close(self) -> None:
        """Take on no more."""
        self._closed = True

    def check(self) -> None:
        """Refuse a request before its body is read, where it would be refused afterwards.

        Raises:
            BusyError: As many wait as may, or the server is stopping.
        """
        if self._closed:
            raise ClosingError("the server is stopping; send this one again in a while")
        if self._inside > self._most_waiting:
            raise BusyError(
                f"the server is busy: {self._most_waiting} requests wait already; "
                f"send this one again in {RETRY_AFTER} seconds"
            )

    @contextlib.contextmanager
    def entry(self) -> Iterator[None]:
        """Count a request in, and out at the end of the context.

        Raises:
            BusyError: As `check` does.
        """
        with self._lock:
            self.check()
            self._inside += 1
        try:
            yield
        finally:
            with self._lock:
                self._inside -= 1


class Memory:
    """Counts the bytes of all uploads that are held in memory, and bounds them.

    Args:
        most: Bytes of all visitors' uploads together.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._held = 0
        self._lock = threading.Lock()

    @property
    def held(self) -> int:
        """Bytes that are held now."""
        return self._held

    def reserve(self, count: int) -> None:
        """Count bytes in, before they are kept.

        Raises:
            BusyError: They would be too many.
        """
        with self._lock:
            if self._held + count > self._most:
                raise BusyError(
                    f"the server is busy: it holds {megabytes(self._held)} of uploads, and {megabytes(self._most)} at "
                    f"most; send this one again in {RETRY_AFTER} seconds"
                )
            self._held += count

    def release(self, count: int) -> None:
        """Count bytes out, which are kept no longer."""
        with self._lock:
            self._held -= count

    @contextlib.contextmanager
    def reservation(self) -> Iterator[Callable[[int], None]]:
        """Give what reserves bytes, all of which are released at the end."""
        total = 0

        def reserve(count: int) -> None:
            nonlocal total
            self.reserve(count)
            total += count

        try:
            yield reserve
        finally:
            self.release(total)
