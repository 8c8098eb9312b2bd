"""Single images of many requests become batches of the network, and each answer goes back to its own image."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from medsharp.errors import InputError
from serve.metrics import Release
from serve.security.crashes import log_fault

Item = TypeVar("Item")
Result = TypeVar("Result")
Answered = TypeVar("Answered", contravariant=True)


_ON_CPU, _ON_GPU = 4, 32
"""On a CPU larger batches are no faster for an image, and keep others waiting: `medsharp bench serve` measures it."""


@dataclass(frozen=True)
class Batching:
    """How images are gathered.

    Attributes:
        max_batch: Images in a batch of the network; None takes what was measured for its device.
        max_wait: Seconds that the first image of a batch waits for others that are being decoded. While none is, a
            batch is released at once, so that a lone image never waits.
    """

    max_batch: int | None = None
    max_wait: float = 0.01

    def __post_init__(self) -> None:
        if (self.max_batch is not None and self.max_batch < 1) or not 0 <= self.max_wait <= 60:
            raise InputError("max_batch must be at least 1, and max_wait between 0 and 60 seconds")

    def largest(self, device: str) -> int:
        """Return how many images a batch has at most on a device of ONNX Runtime."""
        return self.max_batch or (_ON_CPU if device == "cpu" else _ON_GPU)


class Ticket(Protocol[Answered]):
    """Stands for an image that waits for a batch. Only one of `deliver` and `skip` is called, once, or none of them
    where its owner is discarded; none may raise.
    """

    @property
    def owner(self) -> Hashable:
        """Whose image it is; owners take turns."""

    def is_wanted(self) -> bool:
        """Whether anybody waits for the answer."""

    def deliver(self, result: Answered | Exception, waited: float, seconds: float) -> None:
        """Take the result, or why there is none, the seconds that the image waited and those of its batch."""

    def skip(self) -> None:
        """Learn that the image was left out, as nobody wanted it."""


@dataclass(frozen=True)
class _Waiting(Generic[Item, Result]):
    ticket: Ticket[Result]
    item: Item
    since: float


class Expectation:
    """Says that an image is on its way, from `Batcher.expect` until it comes or `end` is called."""

    def __init__(self, ended: Callable[[], None]) -> None:
        self._ended: Callable[[], None] | None = ended

    def end(self) -> None:
        """Say that it does not come, or not soon; a second time says nothing."""
        ended, self._ended = self._ended, None
        if ended is not None:
            ended()


class Batcher(Generic[Item, Result]):
    """Runs a network on batches, one after another, in a thread that works while there is something to do.

    Requests take turns: a batch takes one image of each that has some waiting, then a second one of each. So a request
    of 32 images does not keep one of a single image waiting for all of them.

    Args:
        run: Gives the results of a batch, in its order.
        max_batch: Images in a batch.
        max_wait: Seconds that the first image of a batch waits for others that are expected.
        released: Told of each batch why it was released and how large it is.
        retried: Told of each batch that failed and is run again image by image.
    """

    def __init__(
        self,
        run: Callable[[list[Item]], Sequence[Result]],
        max_batch: int,
        max_wait: float,
        released: Callable[[Release, int], None],
        retried: Callable[[], None],
    ) -> None:
        self._run = run
        self._max_batch = max_batch
        self._max_wait = max_wait
        self._released = released
        self._retried = retried
        self._changed = threading.Condition()
        self._queues: dict[Hashable, deque[_Waiting[Item, Result]]] = {}
        self._coming = 0
        self._running = False
        self._closing = False
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="medsharp-network")

    @property
    def depth(self) -> int:
        """Images that wait for a batch."""
        with self._changed:
            return self._count()

    def expect(self) -> Expectation:
        """Say that an image is on its way, which is worth waiting for."""
        with self._changed:
            self._coming += 1
        return Expectation(self._end_expectation)

    def put(self, ticket: Ticket[Result], item: Item) -> None:
        """Add an image."""
        with self._changed:
            self._queues.setdefault(ticket.owner, deque()).append(_Waiting(ticket, item, time.monotonic()))
            if not self._running:
                self._running = True
                self._pool.submit(self._work)
            self._changed.notify_all()

    def discard(self, owner: Hashable) -> None:
        """Forget the images of an owner that wait still."""
        with self._changed:
            self._queues.pop(owner, None)
            self._changed.notify_all()

    def close(self) -> None:
        """Wait no longer for images that may come; those that do are still answered."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()

    def _end_expectation(self) -> None:
        with self._changed:
            self._coming -= 1
            self._changed.notify_all()

    def _count(self) -> int:
        return sum(map(len, self._queues.values()))

    def _work(self) -> None:
        while batch := self._next():
            self._answer(batch)

    def _next(self) -> list[_Waiting[Item, Result]]:
        """Wait for a batch; an empty one ends the work."""
        with self._changed:
            while True:
                self._drop_unwanted()
                if not self._queues:
                    self._running = False
                    return []
                oldest = min(queue[0].since for queue in self._queues.values())
                left = oldest + self._max_wait - time.monotonic()
                reason = self._reason(left)
                if reason is not None:
                    batch = self._take()
                    self._released(reason, len(batch))
                    return batch
                self._changed.wait(left)

    def _drop_unwanted(self) -> None:
        for owner, queue in list(self._queues.items()):
            if not queue[0].ticket.is_wanted():
                for one in self._queues.pop(owner):
                    one.ticket.skip()

    def _reason(self, left: float) -> Release | None:
        """Return why a batch is released now, or None where it waits, `left` seconds more at most."""
        if self._count() >= self._max_batch:
            return "full"
        if self._closing:
            return "shutdown"
        if self._coming <= 0:
            return "idle"
        return "waited" if left <= 0 else None

    def _take(self) -> list[_Waiting[Item, Result]]:
        batch: list[_Waiting[Item, Result]] = []
        while self._queues and len(batch) < self._max_batch:
            owner = next(iter(self._queues))
            queue = self._queues.pop(owner)
            batch.append(queue.popleft())
            if queue:
                self._queues[owner] = queue  # behind all others
        return batch

    def _answer(self, batch: list[_Waiting[Item, Result]]) -> None:
        start = time.monotonic()
        results = self._results([one.item for one in batch])
        seconds = time.monotonic() - start
        for one, result in zip(batch, results, strict=True):
            try:
                one.ticket.deliver(result, start - one.since, seconds)
            # The thread is everybody's: what one cannot take must not keep the others' answers from them.
            except Exception as error:
                log_fault("an answer could not be delivered", error)

    def _results(self, items: list[Item]) -> list[Result | Exception]:
        """Return a result for each item; those of a batch that fails are tried one by one, so that only its cause does.

        Whatever the network or an answer raises concerns these images alone.
        """
        try:
            results = list(self._run(items))
            if len(results) != len(items):
                raise RuntimeError(f"{len(results)} results for a batch of {len(items)}")
        except Exception as error:
            if len(items) == 1:
                return [error]
            self._retried()
            return [result for item in items for result in self._results([item])]
        return [*results]
