"""What is measured of a server, each figure with what it should be."""

from __future__ import annotations

import io
import itertools
import json
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from medsharp.cores import usable_cores
from medsharp.inference import Predictor
from medsharp.inference.benchmark import in_turn
from serve.benchmark.clients import Client, Exchange, closed_loop, open_loop, percentile
from serve.benchmark.server import RunningServer, running_server

_BATCHES = (1, 4, 8, 32)
"""Sizes of which the predictor's best is taken."""

_BUSY = 429
_AT_ONCE = 1000.0
"""Milliseconds after which an orchestrator gives a probe up, unless it is told otherwise: Kubernetes' default."""

_LARGE_SIDE = 6324
"""Of an image of 40 megapixels."""


@dataclass(frozen=True)
class Figure:
    """A figure, and what it should be.

    Attributes:
        what: Was measured.
        value: Of it.
        unit: Of the value and the limit.
        limit: What it should be at most or at least; None where nothing is aimed for.
        at_most: Which of them.
        beside: What it is compared with, in words.
    """

    what: str
    value: float
    unit: str
    limit: float | None = None
    at_most: bool = True
    beside: str = ""

    @property
    def is_met(self) -> bool:
        """Whether it is as it should be."""
        return self.limit is None or (self.value <= self.limit if self.at_most else self.value >= self.limit)


def measure_throughput(
    server: RunningServer, predictor: Predictor, contents: Sequence[bytes], images: int, clients: int, repeats: int
) -> list[Figure]:
    """Measure images a second of many clients with one image each, beside the predictor at its best size of batch.

    Both are measured in turn, so that what else the machine does falls on both.
    """
    given = list(itertools.islice(itertools.cycle(contents), images))
    best = min(_BATCHES, key=lambda size: _seconds(lambda: predictor.predict(given, batch_size=size)))
    ours, theirs = in_turn(
        lambda: closed_loop(server, given, clients, lambda number: number >= images),
        lambda: predictor.predict(given, batch_size=best),
        repeats,
    )
    rate, beside = images / ours, images / theirs
    return [
        Figure(
            "throughput", rate, "images/s", 0.8 * beside, False, f"predictor at batch {best}: {beside:.2f} images/s"
        ),
    ]


def measure_latency(
    server: RunningServer, predictor: Predictor, contents: Sequence[bytes], repeats: int
) -> list[Figure]:
    """Measure one image of one client, from sending it to its answer, beside the predictor, in turn."""
    client, turns = Client(server), itertools.cycle(contents)
    both = [next(turns) for _ in range(len(contents))]
    ours_turn, theirs_turn = itertools.cycle(both), itertools.cycle(both)
    ours, theirs = in_turn(lambda: client.ask(next(ours_turn)), lambda: predictor.predict([next(theirs_turn)]), repeats)
    client.close()
    limit = 1.3 * theirs + 0.005
    return [
        Figure(
            "latency of one client, median", 1e3 * ours, "ms", 1e3 * limit, True, f"predictor: {1e3 * theirs:.1f} ms"
        )
    ]


@contextmanager
def watched(server: RunningServer, beside: str) -> Iterator[list[Figure]]:
    """Ask `/healthz` and `/readyz` meanwhile, from another process; the list has the figures once the context ends.

    Args:
        server: To ask.
        beside: What it is busy with.
    """
    figures: list[Figure] = []
    command = [sys.executable, str(Path(__file__).with_name("probe.py")), server.host, str(server.port)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as probe:
        try:
            yield figures
            found = json.loads(probe.communicate("")[0])
        finally:
            probe.kill()
    for path, of_path in found.items():
        answers = f"99 % of {of_path['asked']} within {1e3 * of_path['p99']:.0f} ms"
        figures.append(Figure(f"slowest {path} {beside}", 1e3 * of_path["slowest"], "ms", _AT_ONCE, True, answers))
    failed = sum(of_path["failed"] for of_path in found.values())
    figures.append(Figure(f"/healthz or /readyz not 200 {beside}", failed, "", 0))


def measure_load(server: RunningServer, contents: Sequence[bytes], clients: int, seconds: float) -> list[Figure]:
    """Measure what many clients find who ask again and again, and what the server's memory does meanwhile.

    The first fifth of the time is not counted: buffers are made then.
    """
    closed_loop(server, contents, clients, _until(seconds / 5))
    before = server.memory()
    with watched(server, "under load") as health:
        found = closed_loop(server, contents, clients, _until(seconds))
    grown = (server.memory() - before) / 2**20
    failed = sum(one.status != 200 for one in found)
    about = f"{clients} clients, {seconds:g} s"
    return [
        Figure(f"requests, {about}", len(found), ""),
        Figure("requests that failed", failed, "", 0),
        Figure("memory grown", grown, "MiB", 50),
        *(
            Figure(f"latency, p{round(100 * share)}", 1e3 * percentile(found, share), "ms")
            for share in (0.5, 0.95, 0.99)
        ),
        *health,
    ]


def measure_overload(
    server: RunningServer, contents: Sequence[bytes], clients: int, seconds: float, times: float = 4.0
) -> list[Figure]:
    """Measure answers a second when so many times more are asked for than the server can give, beside its peak.

    The peak is that of as many clients as it takes on, who wait for their answers. Answers are counted after the first
    fifth of the time, in which the queue fills. Clients take time of the same cores, four times as many of them more:
    the seconds of it are told beside the figure.
    """
    peak = throughput(closed_loop(server, contents, clients, _until(1.2 * seconds)))
    own = time.process_time()
    with watched(server, "under overload") as health:
        found = open_loop(server, contents, times * peak, 1.2 * seconds, 4 * clients)
    own = time.process_time() - own
    refused = sum(one.status == _BUSY for one in found)
    other = sum(one.status not in (200, _BUSY) for one in found)
    return [
        Figure(
            f"answers under {times:g} times the load",
            steady_throughput(found, seconds),
            "images/s",
            0.9 * peak,
            False,
            f"peak: {peak:.2f} images/s; clients took {own:.1f} of {usable_cores() * 1.2 * seconds:.0f} s of the cores",
        ),
        Figure("refused meanwhile (429)", refused, ""),
        Figure("failed otherwise", other, "", 0),
        *health,
    ]


def measure_large(server: RunningServer, contents: Sequence[bytes], large: int, repeats: int) -> list[Figure]:
    """Measure how long a small image takes while so many images of 40 megapixels are worked on."""
    content = _large_image(contents[0])
    exchanges: list[Exchange] = []

    def ask() -> None:
        client = Client(server)
        exchanges.append(client.ask(content))
        client.close()

    threads = [threading.Thread(target=ask) for _ in range(large)]
    with watched(server, "beside large images") as health:
        for thread in threads:
            thread.start()
        client = Client(server)
        small = []
        for number in range(repeats):
            time.sleep(0.2)
            small.append(client.ask(contents[number % len(contents)]).seconds)
            if not any(thread.is_alive() for thread in threads):
                break  # what is measured is over
        client.close()
        for thread in threads:
            thread.join()
    answered = sum(one.status == 200 for one in exchanges)
    about = f"beside {large} of 40 megapixels"
    return [
        Figure(f"a small image {about}, slowest of {len(small)}", max(small), "s", 2.0),
        Figure("large ones answered", answered, "", large, False),
        Figure("slowest large one", max(one.seconds for one in exchanges), "s"),
        *health,
    ]


def measure_batching(
    bundle: Path, contents: Sequence[bytes], clients: int, seconds: float, sizes: Sequence[int], waits: Sequence[float]
) -> list[tuple[int, float, float, float, float]]:
    """Measure servers of several settings under load.

    Args:
        bundle: Its folder.
        contents: Images.
        clients: Who ask again and again.
        seconds: For each setting.
        sizes: Images in a batch at most.
        waits: Milliseconds that an image waits for others at most.

    Returns:
        For each setting the size, the wait, images a second, and the seconds that half and 99 % of answers took.
    """
    rows = []
    for size, wait in itertools.product(sizes, waits):
        with running_server(bundle, ["--max-batch", str(size), "--max-wait", f"{wait:g}"]) as server:
            found = closed_loop(server, contents, clients, _until(seconds))
            rows.append((size, wait, throughput(found), percentile(found, 0.5), percentile(found, 0.99)))
    return rows


def _until(seconds: float) -> Callable[[int], bool]:
    end = time.perf_counter() + seconds
    return lambda number: time.perf_counter() >= end


def throughput(exchanges: Sequence[Exchange]) -> float:
    """Return answers a second from the first request to the last answer, of clients who wait for their answers."""
    start, end = min(one.ended - one.seconds for one in exchanges), max(one.ended for one in exchanges)
    return sum(one.status == 200 for one in exchanges) / (end - start)


def steady_throughput(exchanges: Sequence[Exchange], seconds: float) -> float:
    """Return answers a second over the last seconds in which requests were sent, so without the queue filling."""
    last = max(one.ended - one.seconds for one in exchanges)
    good = [one for one in exchanges if one.status == 200 and last - seconds <= one.ended <= last]
    return len(good) / seconds


def _seconds(work: Callable[[], object]) -> float:
    times = []
    for _ in range(2):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def _large_image(content: bytes) -> bytes:
    with Image.open(io.BytesIO(content)) as image:
        pixels = np.asarray(image.convert("L").resize((_LARGE_SIDE, _LARGE_SIDE), Image.Resampling.BICUBIC))
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()
