"""What a network costs in batches of several sizes, by runtime and precision, and what the rest of an answer adds."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from medsharp.inference.predictor import Predictor

Network = Callable[[np.ndarray], object]
"""Takes uint8 images [B, S, S] from the host's memory and gives its outputs there."""


@dataclass(frozen=True)
class Swept:
    """One runtime at one size of batch.

    Attributes:
        runtime: Such as `ONNX Runtime, cuda` or `PyTorch, eager`.
        precision: That it computes in.
        batch: Images at once.
        seconds: Of an image in the network, its way to the device and back included: the median of several repeats.
        host_share: Share of the time from the bytes of such a batch to its answers that is not the network's:
            decoding, checks, preparing; None where only the network was measured.
    """

    runtime: str
    precision: str
    batch: int
    seconds: float
    host_share: float | None


def median_seconds(work: Callable[[], object], repeats: int) -> float:
    """Return the median seconds of some repeats, after one that is not counted."""
    work()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def sweep_network(
    runtime: str, precision: str, network: Network, side: int, batches: Sequence[int], repeats: int = 5
) -> list[Swept]:
    """Measure a network alone, on random images.

    Args:
        runtime: What it runs in.
        precision: That it computes in.
        network: What is run.
        side: Of its input in pixels.
        batches: Images at once.
        repeats: Of each.
    """
    rng = np.random.default_rng(0)
    found = []
    for batch in batches:
        images = rng.integers(0, 256, (batch, side, side), dtype=np.uint8)
        seconds = median_seconds(lambda images=images: network(images), repeats)  # type: ignore[misc]
        found.append(Swept(runtime, precision, batch, seconds / batch, None))
    return found


def sweep_predictor(
    predictor: Predictor, contents: Sequence[bytes], batches: Sequence[int], repeats: int = 5
) -> list[Swept]:
    """Measure the network of a predictor alone and from the bytes of image files to answers.

    Args:
        predictor: Answers also what it would refuse, so that every image is one of the network's.
        contents: Of image files, taken again from the first where a batch has more.
        batches: Images at once.
        repeats: Of each.
    """
    session, side = predictor.session, predictor.preprocessing.size
    runtime = f"ONNX Runtime, {session.device}"
    found = []
    for one in sweep_network(runtime, session.precision, session.run, side, batches, repeats):
        sources = list(itertools.islice(itertools.cycle(contents), one.batch))
        whole = median_seconds(
            lambda sources=sources: predictor.predict(sources, batch_size=len(sources)),  # type: ignore[misc]
            repeats,
        )
        share = max(0.0, 1 - one.seconds * one.batch / whole)
        found.append(Swept(one.runtime, one.precision, one.batch, one.seconds, share))
    return found
