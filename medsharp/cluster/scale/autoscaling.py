"""A step of the load, and a Kubernetes autoscaler that follows the queues: what is lost until it has caught up."""

from __future__ import annotations

import math
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

import numpy as np

from medsharp.cluster.scale.serving import Replica, Server


@dataclass(frozen=True)
class Autoscaler:
    """How replicas are added and taken away, as a HorizontalPodAutoscaler does.

    Attributes:
        least: Replicas at least.
        most: Replicas at most.
        depth: Images that wait in a replica, on the mean, that it aims at.
        period: Seconds between its looks.
        start_seconds: Until a new replica answers: scheduling, pulling the image, loading the bundle.
        down_after: Seconds for which fewer must have done before replicas are taken away.
    """

    least: int = 2
    most: int = 64
    depth: float = 2.0
    period: float = 15.0
    start_seconds: float = 20.0
    down_after: float = 300.0


@dataclass(frozen=True)
class Step:
    """A simulated step of the load.

    Attributes:
        lost: Share of the requests since the step that were refused or late.
        recovered: Seconds after the step until the last second in which any was lost.
        most: Replicas at most.
        p99: Latency of the answered since the step, seconds.
    """

    lost: float
    recovered: float
    most: int
    p99: float


def simulate_step(
    replica: Replica,
    scaler: Autoscaler,
    before: float,
    after: float,
    *,
    seconds: float = 240.0,
    settle: float = 60.0,
    seed: int = 0,
) -> Step:
    """Simulate a load that steps up, with replicas that follow.

    Args:
        replica: What each of them is.
        scaler: Adds them.
        before: Requests a second at first, for `settle` seconds, with as many replicas as that needs.
        after: Requests a second from then on, for `seconds`.
        seconds: As above.
        settle: As above.
        seed: Of moments and choices.
    """
    import simpy

    world, rng = simpy.Environment(), np.random.default_rng(seed)
    first = max(scaler.least, math.ceil(before / (0.7 * replica.capacity)))
    servers = [Server(world, replica) for _ in range(first)]
    losses: list[float] = []
    latencies: list[float] = []
    counts = {"asked": 0, "most": first}
    wishes: list[tuple[float, int]] = []

    def scale() -> Generator[Any, Any, Any]:
        starting = 0

        def start() -> Generator[Any, Any, Any]:
            nonlocal starting
            yield world.timeout(scaler.start_seconds)
            servers.append(Server(world, replica))
            starting -= 1
            counts["most"] = max(counts["most"], len(servers))

        while True:
            yield world.timeout(scaler.period)
            mean = sum(len(server.queue) for server in servers) / len(servers)
            wish = min(scaler.most, max(scaler.least, math.ceil(len(servers) * mean / scaler.depth)))
            wishes.append((world.now, wish))
            recent = max(one for moment, one in wishes if moment >= world.now - scaler.down_after)
            for _ in range(wish - len(servers) - starting):
                starting += 1
                world.process(start())
            # Those that leave finish what they have: they are only asked no more.
            if world.now > scaler.down_after and recent < len(servers):
                del servers[recent:]

    def request(server: Server) -> Generator[Any, Any, Any]:
        came = world.now
        yield from server.answer(came)
        if came < settle:
            return
        if world.now - came > replica.deadline:
            losses.append(came)
        else:
            latencies.append(world.now - came)

    def arrivals() -> Generator[Any, Any, Any]:
        while world.now < settle + seconds:
            yield world.timeout(rng.exponential(1 / (before if world.now < settle else after)))
            one, other = rng.integers(len(servers), size=2)
            server = min(servers[one], servers[other], key=lambda found: found.inside)
            counts["asked"] += world.now >= settle
            if server.inside > replica.waiting:
                losses.extend([world.now] if world.now >= settle else [])
            else:
                world.process(request(server))

    world.process(scale())
    world.process(arrivals())
    world.run(until=settle + seconds + replica.deadline + 1)
    return Step(
        lost=len(losses) / max(1, counts["asked"]),
        recovered=max(losses, default=settle) - settle,
        most=counts["most"],
        p99=float(np.quantile(latencies, 0.99)) if latencies else math.nan,
    )
