"""Very many requests a second on many replicas of the server: latencies and goodput, simulated."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator
from dataclasses import dataclass
from math import ceil
from typing import Any, Literal

import numpy as np

from medsharp.cluster.scale.rates import Rates

Balancer = Literal["random", "two"]
"""How a request finds its replica: at random, or the less busy of two drawn at random (M. Mitzenmacher, IEEE Trans
Parallel Distrib Syst 12, 2001)."""


@dataclass(frozen=True)
class Replica:
    """A server as the engine of `medsharp serve` works: images are decoded in parallel and predicted in batches.

    Attributes:
        decoders: Images decoded at once.
        decode_seconds: Of an image.
        call_seconds: Of a batch, whatever its size.
        network_seconds: Of an image of a batch.
        max_batch: Images in a batch.
        waiting: Requests inside at most; one more is refused.
        deadline: Seconds after which a request is given up.
    """

    decoders: int
    decode_seconds: float
    call_seconds: float
    network_seconds: float
    max_batch: int = 4
    waiting: int = 64
    deadline: float = 10.0

    @classmethod
    def of(cls, rates: Rates, cores: int = 2, **limits: Any) -> Replica:
        """Return a server on so many cores, which decoding and the network share.

        The network runs on all of them, and its seconds include those that decoding takes from it.
        """
        one = rates.measured
        each = (one.network_seconds + one.decode_seconds) / cores
        return cls(cores, one.decode_seconds, one.call_seconds / cores, each, **limits)

    @property
    def capacity(self) -> float:
        """Requests a second that it can answer at most."""
        network = self.max_batch / (self.call_seconds + self.max_batch * self.network_seconds)
        decoding = self.decoders / self.decode_seconds if self.decode_seconds else np.inf
        return float(min(network, decoding))


@dataclass(frozen=True)
class Served:
    """What became of simulated requests, each of one image.

    Attributes:
        asked: How many came a second.
        answered: How many were answered in time, a second.
        refused: Share that found too many waiting.
        late: Share that was given up at the deadline.
        mean: Latency of the answered, seconds.
        p50: The same.
        p99: The same.
        batch: Mean size of batches.
    """

    asked: float
    answered: float
    refused: float
    late: float
    mean: float
    p50: float
    p99: float
    batch: float


@dataclass(frozen=True)
class Traffic:
    """What a load of requests, each of one image, moves and costs.

    Attributes:
        megabytes_in: A second, image files.
        megabytes_out: A second, answers.
        price: Of an hour of the replicas' cores.
        gpus: That the network would need, at the same share of their capacity.
        price_gpus: Of an hour of these, and of the cores that decode for them.
    """

    megabytes_in: float
    megabytes_out: float
    price: float
    gpus: int
    price_gpus: float

    @classmethod
    def of(cls, rates: Rates, load: float, replicas: int, cores: int, busy: float) -> Traffic:
        """Sum up so many requests a second on so many replicas of so many cores, which are busy to a share."""
        one, cluster = rates.measured, rates.assumed
        gpus = ceil(load / (busy * cluster.gpu_images_per_second))
        decoding = load * one.decode_seconds / busy  # cores
        return cls(
            megabytes_in=load * one.image_bytes / 1e6,
            megabytes_out=load * cluster.answer_bytes / 1e6,
            price=replicas * cores * cluster.core_hour,
            gpus=gpus,
            price_gpus=gpus * cluster.gpu_hour + decoding * cluster.core_hour,
        )


class Server:
    """One replica in a simulated world."""

    def __init__(self, world: Any, replica: Replica) -> None:
        import simpy

        self.world, self.replica = world, replica
        self.inside = 0
        self.queue: deque[tuple[float, Any]] = deque()
        self.batches: list[int] = []
        self._decoders = simpy.Resource(world, capacity=replica.decoders)
        self._running = False

    def answer(self, came: float) -> Generator[Any, Any, Any]:
        """Decode an image and wait for its batch."""
        self.inside += 1
        with self._decoders.request() as turn:
            yield turn
            if self.world.now - came <= self.replica.deadline:
                yield self.world.timeout(self.replica.decode_seconds)
        done = self.world.event()
        self.queue.append((came, done))
        if not self._running:
            self._running = True
            self.world.process(self._work())
        yield done
        self.inside -= 1

    def _work(self) -> Generator[Any, Any, Any]:
        while self.queue:
            batch: list[Any] = []
            while self.queue and len(batch) < self.replica.max_batch:
                came, done = self.queue.popleft()
                if self.world.now - came > self.replica.deadline:
                    done.succeed()  # nobody waits for it
                else:
                    batch.append(done)
            if batch:
                self.batches.append(len(batch))
                yield self.world.timeout(self.replica.call_seconds + len(batch) * self.replica.network_seconds)
                for done in batch:
                    done.succeed()
        self._running = False


def simulate_serving(
    replica: Replica,
    replicas: int,
    requests_per_second: float,
    *,
    seconds: float = 60.0,
    warm_up: float = 10.0,
    balancer: Balancer = "two",
    seed: int = 0,
) -> Served:
    """Send requests at random moments (a Poisson process) to replicas behind a balancer.

    Args:
        replica: What each of them is.
        replicas: How many.
        requests_per_second: Of all together.
        seconds: Simulated; requests that come in them count.
        warm_up: Seconds before them, whose requests do not count.
        balancer: As above.
        seed: Of moments and choices.
    """
    import simpy

    world = simpy.Environment()
    rng = np.random.default_rng(seed)
    servers = [Server(world, replica) for _ in range(replicas)]
    latencies: list[float] = []
    counts = {"asked": 0, "refused": 0, "late": 0}

    def request(server: Server, counted: bool) -> Generator[Any, Any, Any]:
        came = world.now
        yield from server.answer(came)
        took = world.now - came
        if not counted:
            return
        if took > replica.deadline:
            counts["late"] += 1
        else:
            latencies.append(took)

    def arrivals() -> Generator[Any, Any, Any]:
        while world.now < warm_up + seconds:
            yield world.timeout(rng.exponential(1 / requests_per_second))
            first, second = rng.integers(replicas, size=2)
            server = servers[first]
            if balancer == "two" and servers[second].inside < server.inside:
                server = servers[second]
            counted = warm_up <= world.now < warm_up + seconds
            counts["asked"] += counted
            if server.inside > replica.waiting:
                counts["refused"] += counted
            else:
                world.process(request(server, counted))

    world.process(arrivals())
    world.run(until=warm_up + seconds + replica.deadline + 1)
    found = np.array(latencies) if latencies else np.array([np.nan])
    sizes = [size for server in servers for size in server.batches]
    asked = max(1, counts["asked"])
    return Served(
        asked=counts["asked"] / seconds,
        answered=len(latencies) / seconds,
        refused=counts["refused"] / asked,
        late=counts["late"] / asked,
        mean=float(found.mean()),
        p50=float(np.quantile(found, 0.5)),
        p99=float(np.quantile(found, 0.99)),
        batch=float(np.mean(sizes)) if sizes else 0.0,
    )
