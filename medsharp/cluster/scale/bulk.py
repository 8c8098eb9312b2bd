"""Very many images through one model: what each part takes, which of them is the bottleneck, and a simulation of it."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

from medsharp.cluster.scale.rates import Rates

PARTS = ("store requests", "store bandwidth", "machines' network", "cores", "figures")
"""What may be the bottleneck, in the way of the data."""

_CHUNK = 512
"""Images that a task of the simulation reads, decodes and predicts, as a block of `medsharp predict` has."""


@dataclass(frozen=True)
class Bulk:
    """What a batch evaluation takes.

    Attributes:
        images: How many.
        machines: Machines that decode and predict.
        parts: Seconds of each of `PARTS` at its full rate.
        start: Seconds until machines work.
        gigabytes_in: Read.
        gigabytes_out: Written, rows of predictions.
        core_hours: Of decoding and the network.
        gpu_hours: Of the network alone, were it on GPUs as assumed.
        cost: Of the cores.
        cost_gpus: Of GPUs and the cores that decode for them.
    """

    images: int
    machines: int
    parts: dict[str, float]
    start: float
    gigabytes_in: float
    gigabytes_out: float
    core_hours: float
    gpu_hours: float
    cost: float
    cost_gpus: float

    @property
    def bottleneck(self) -> str:
        """What takes longest; `start` where that is getting ready."""
        longest = max(self.parts, key=lambda name: self.parts[name])
        return "start" if self.start >= self.parts[longest] else longest

    @property
    def seconds(self) -> float:
        """From begin to end: reading, decoding and predicting run at once, figures come after them."""
        flowing = max(seconds for name, seconds in self.parts.items() if name != "figures")
        return self.start + flowing + self.parts["figures"]


def bulk(images: int, machines: int, rates: Rates) -> Bulk:
    """Sum up a batch evaluation.

    Args:
        images: How many.
        machines: With so many cores each as assumed.
        rates: Of one core, and of the cluster.
    """
    one, cluster = rates.measured, rates.assumed
    size, cores = images * one.image_bytes, machines * cluster.node_cores
    work = images * (one.decode_seconds + one.network_seconds)
    requests = images / cluster.images_per_object / (cluster.store_requests_per_second * cluster.store_prefixes)
    on_gpus = images / cluster.gpu_images_per_second
    return Bulk(
        images=images,
        machines=machines,
        parts={
            "store requests": requests,
            "store bandwidth": size / cluster.store_bytes_per_second,
            "machines' network": size / (machines * cluster.node_bytes_per_second),
            "cores": work / cores,
            "figures": images * one.statistics_seconds,
        },
        start=one.start_seconds,
        gigabytes_in=size / 1e9,
        gigabytes_out=images * one.row_bytes / 1e9,
        core_hours=work / 3600,
        gpu_hours=on_gpus / 3600,
        cost=work / 3600 * cluster.core_hour,
        cost_gpus=(on_gpus * cluster.gpu_hour + images * one.decode_seconds * cluster.core_hour) / 3600,
    )


def simulate_bulk(images: int, machines: int, rates: Rates) -> float:
    """Return the seconds that a simulated evaluation takes before its figures: tasks of 512 images on cores.

    The store gives its bytes to all readers in turn, and so does a machine's network; each core works on a chunk while
    its next is read.

    Args:
        images: How many; some ten thousand chunks take a second.
        machines: As for `bulk`.
        rates: The same.
    """
    import simpy

    one, cluster = rates.measured, rates.assumed
    world = simpy.Environment()
    store = simpy.Resource(world)
    links = [simpy.Resource(world) for _ in range(machines)]
    left = iter(range(0, images, _CHUNK))

    def read(link: Any) -> Generator[Any, Any, int]:
        start = next(left, None)
        if start is None:
            return 0
        count = min(_CHUNK, images - start)
        size = count * one.image_bytes
        requests = count / cluster.images_per_object / (cluster.store_requests_per_second * cluster.store_prefixes)
        with store.request() as turn:
            yield turn
            yield world.timeout(max(requests, size / cluster.store_bytes_per_second))
        with link.request() as turn:
            yield turn
            yield world.timeout(size / cluster.node_bytes_per_second)
        return count

    def core(link: Any) -> Generator[Any, Any, Any]:
        yield world.timeout(one.start_seconds)
        coming = world.process(read(link))
        while count := (yield coming):
            coming = world.process(read(link))
            yield world.timeout(count * (one.decode_seconds + one.network_seconds))

    for link in links:
        for _ in range(cluster.node_cores):
            world.process(core(link))
    world.run()
    return float(world.now)
