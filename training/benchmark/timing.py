"""How long steps take: whole, in interleaved rounds, and without their passes."""

from __future__ import annotations

import gc
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from medsharp.progress import Progress
from training.benchmark.contestants import Contestant, Step
from training.benchmark.workload import EmptyPasses, Workload

REPEATS = 3
"""How often a round measures what everything else is compared with."""

MOST_PASSES = 5
"""Of a step, and one set of gradients that the step before has left."""


@dataclass(frozen=True)
class Duration:
    """Seconds by the clock, and of all threads of the process together."""

    wall: float
    cpu: float


@dataclass(frozen=True)
class Round:
    """What one round measured: a plain forward and backward, and a mean step of each contestant."""

    unit: Duration
    steps: dict[int, Duration]


def time_rounds(
    workload: Workload, contestants: Sequence[Contestant], rounds: int, seed: int, progress: Progress
) -> list[Round]:
    """Time whole steps; each round measures everyone once, in another order, so that drift hits all alike."""
    steps = [contestant.make(workload.network, False) for contestant in contestants]
    closures = [workload.closure(contestant.per_sample) for contestant in contestants]
    shuffle = random.Random(seed).shuffle
    measured = []
    # The first round only warms up: memory is reserved, kernels are chosen, graphs compiled.
    for number in range(rounds + 1):
        progress(number, rounds + 1, "whole steps")
        order = [*range(len(contestants)), *[-1] * REPEATS]
        shuffle(order)
        units, found = [], {}
        with _undisturbed():
            for index in order:
                if index < 0:
                    workload.restart()
                    units.append(_timed(workload.device, workload.run))
                    continue
                workload.restart()
                parts = []
                for _ in contestants[index].weights:
                    parts.append(_timed(workload.device, lambda i=index: steps[i](closures[i])))  # type: ignore[misc]
                found[index] = _mean(parts, contestants[index].weights)
        measured.append(Round(_mean(units, [1 / REPEATS] * REPEATS), found))
    progress(rounds + 1, rounds + 1, "whole steps")
    return measured[1:]


def time_empty_steps(
    workload: Workload, contestants: Sequence[Contestant], rounds: int, seed: int, progress: Progress
) -> list[dict[int, Duration]]:
    """Time steps whose passes cost nothing; what the first contestant, the base optimizer, takes is subtracted.

    The noise of a pass is as large as what an optimizer adds to it; without passes, the addition shows by itself.
    """
    passes = EmptyPasses(workload)
    closures = [passes.closure(contestant.per_sample) for contestant in contestants]
    steps = [warm_step(workload, contestant) for contestant in contestants]
    shuffle = random.Random(seed).shuffle
    measured = []
    for number in range(rounds + 1):
        progress(number, rounds + 1, "steps without their passes")
        order = [*range(len(contestants)), *[0] * (REPEATS - 1)]
        shuffle(order)
        found: dict[int, list[Duration]] = {}
        with _undisturbed():
            for index in order:
                weights = contestants[index].weights if not contestants[index].differentiates else [1.0]
                parts = []
                for _ in weights:
                    passes.prepare(MOST_PASSES)
                    whole = _timed(workload.device, lambda i=index: steps[i](closures[i]))  # type: ignore[misc]
                    # An accelerator works on while the closure returns, so there is nothing to subtract.
                    inside = Duration(passes.wall, passes.cpu) if workload.device.type == "cpu" else Duration(0, 0)
                    parts.append(Duration(whole.wall - inside.wall, whole.cpu - inside.cpu))
                found.setdefault(index, []).append(_mean(parts, weights))
        base = _mean(found[0], [1 / REPEATS] * REPEATS)
        measured.append(
            {index: Duration(d[0].wall - base.wall, d[0].cpu - base.cpu) for index, d in found.items() if index}
        )
    progress(rounds + 1, rounds + 1, "steps without their passes")
    return measured[1:]


def warm_step(workload: Workload, contestant: Contestant) -> Step:
    """Make a contestant for empty passes; one that differentiates through a pass has done so once for good."""
    step = contestant.make(workload.network, True)
    if contestant.differentiates:
        workload.restart()
        step(workload.closure(contestant.per_sample))
    return step


def _timed(device: torch.device, work: Callable[[], object]) -> Duration:
    _finish(device)
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    _finish(device)
    return Duration(time.perf_counter() - wall, time.process_time() - cpu)


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _mean(durations: Sequence[Duration], weights: Sequence[float]) -> Duration:
    pairs = list(zip(durations, weights, strict=True))
    return Duration(sum(d.wall * w for d, w in pairs), sum(d.cpu * w for d, w in pairs))


@contextmanager
def _undisturbed() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
