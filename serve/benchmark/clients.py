"""Clients that ask a server over kept connections: some that wait for each answer, and a stream of a given rate."""

from __future__ import annotations

import http.client
import itertools
import queue
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from serve.benchmark.server import RunningServer

_PATIENCE = 600.0
"""Seconds after which a client gives an answer up."""

_IDLE = 1.0
"""Seconds after which a connection is not used again; the server closes one after five."""


@dataclass(frozen=True)
class Exchange:
    """A request and its answer.

    Attributes:
        status: Of the answer; 0 where the connection broke.
        seconds: From sending it to having the answer whole.
        ended: When that was, in seconds of the clock that `time.perf_counter` reads.
    """

    status: int
    seconds: float
    ended: float


class Client:
    """One client with one connection, which is opened again where it was idle: servers close such ones.

    Args:
        server: To ask.
    """

    def __init__(self, server: RunningServer) -> None:
        self._connection = http.client.HTTPConnection(server.host, server.port, timeout=_PATIENCE)
        self._last = 0.0

    def ask(self, content: bytes) -> Exchange:
        """Send an image, and wait for its answer."""
        start = time.perf_counter()
        if start - self._last > _IDLE:
            self._connection.close()
        try:
            self._connection.request("POST", "/v1/predict", content, {"Content-Type": "application/octet-stream"})
            with self._connection.getresponse() as response:
                response.read()
                status = response.status
        except (OSError, http.client.HTTPException):
            self._connection.close()
            status = 0
        end = self._last = time.perf_counter()
        return Exchange(status, end - start, end)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


def closed_loop(
    server: RunningServer, contents: Sequence[bytes], clients: int, until: Callable[[int], bool]
) -> list[Exchange]:
    """Have clients ask, each again as soon as it has its answer.

    Args:
        server: To ask.
        contents: Images, sent in turn.
        clients: How many.
        until: Given how many requests were begun, says whether that was the last one.
    """
    numbers, lock = itertools.count(), threading.Lock()
    exchanges: list[Exchange] = []

    def work() -> None:
        client = Client(server)
        while True:
            with lock:
                number = next(numbers)
            if until(number):
                break
            exchange = client.ask(contents[number % len(contents)])
            with lock:
                exchanges.append(exchange)
        client.close()

    _together([work] * clients)
    return exchanges


def open_loop(
    server: RunningServer, contents: Sequence[bytes], rate: float, seconds: float, connections: int
) -> list[Exchange]:
    """Send requests at a rate, whether or not those of before are answered.

    Args:
        server: To ask.
        contents: Images, sent in turn.
        rate: Requests a second.
        seconds: How long.
        connections: Clients that share the work; a request that none is free for is not sent.
    """
    due: queue.SimpleQueue[int | None] = queue.SimpleQueue()
    exchanges: list[Exchange] = []

    def send() -> None:
        start = time.perf_counter()
        for number in range(int(rate * seconds)):
            time.sleep(max(0.0, start + number / rate - time.perf_counter()))
            due.put(number)
        for _ in range(connections):
            due.put(None)

    def work() -> None:
        client = Client(server)
        while (number := due.get()) is not None:
            exchanges.append(client.ask(contents[number % len(contents)]))
        client.close()

    _together([send, *[work] * connections])
    return exchanges


def percentile(exchanges: Iterable[Exchange], share: float) -> float:
    """Return the seconds that a share of the answers took at most."""
    return float(np.quantile([one.seconds for one in exchanges], share))


def _together(works: Sequence[Callable[[], None]]) -> None:
    threads = [threading.Thread(target=work) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
