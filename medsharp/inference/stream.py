"""Sources become readings in their order, several at once and ahead of who uses them, with a bound on how far."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from typing import TypeVar

from medsharp.cores import usable_cores

_In = TypeVar("_In")
_Out = TypeVar("_Out")

READERS = max(2, min(usable_cores(), 16))
"""Threads that read. More than cores bring nothing where decoding bounds; 16 keep up with the fastest network."""


def read_ahead(
    read: Callable[[_In], Iterator[_Out]], sources: Iterable[_In], *, ahead: int, part: int
) -> Generator[tuple[int, _Out]]:
    """Give what each source yields, in order, while the next sources are read in threads.

    Args:
        read: Yields what there is in a source, such as the frames of a clip; called in a thread.
        sources: Taken one by one, at most `ahead` before they are used.
        ahead: Sources that are being read or wait to be used.
        part: Of a source that yields many, so many at most wait to be used; at least 2, as a source of one value is
            then known to be done.

    Yields:
        The number of the source, from 0, and what it gave.
    """
    coming = iter(sources)
    first = [read(source) for source in itertools.islice(coming, 2)]
    if len(first) == 1:
        # One image alone needs no threads, whose start would take longer than decoding it.
        begun = _next_part(first[0], part)
        yield from ((0, value) for value in begun)
        if len(begun) < part:
            return
    with ThreadPoolExecutor(READERS, thread_name_prefix="read") as pool:
        waiting: deque[tuple[Iterator[_Out], Future[list[_Out]]]] = deque()

        def begin(found: Iterator[_Out]) -> None:
            waiting.append((found, pool.submit(_next_part, found, part)))

        try:
            for found in itertools.chain(first, map(read, itertools.islice(coming, max(0, ahead - len(first))))):
                begin(found)
            for number in itertools.count():
                if not waiting:
                    return
                found, future = waiting.popleft()
                while True:
                    values = future.result()
                    is_last = len(values) < part
                    if not is_last:
                        # A clip goes on being read while its first frames are used.
                        future = pool.submit(_next_part, found, part)
                    for value in values:
                        yield number, value
                    if is_last:
                        break
                for source in itertools.islice(coming, 1):
                    begin(read(source))
        finally:
            for _, future in waiting:
                future.cancel()


def batches(
    readings: Generator[tuple[int, _In]], size: int, predict: Callable[[list[_In]], list[_Out]]
) -> Iterator[tuple[int, list[_Out]]]:
    """Predict readings in batches; give with each how many sources were begun with it.

    Args:
        readings: As `read_ahead` gives them; ended with whoever stops listening.
        size: Of a batch.
        predict: Gives the predictions of a batch.
    """
    with closing(readings):
        while batch := list(itertools.islice(readings, size)):
            yield batch[-1][0] + 1, predict([one for _, one in batch])


def _next_part(found: Iterator[_Out], most: int) -> list[_Out]:
    return list(itertools.islice(found, most))
