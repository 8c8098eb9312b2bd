"""A study of many cells on many workers: how long, how busy the workers are, and what failures cost."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

import numpy as np

from medsharp.cluster.scale.rates import Rates


@dataclass(frozen=True)
class Makespan:
    """A simulated study.

    Attributes:
        cells: How many.
        workers: How many run at once.
        seconds: From begin to end.
        bound: What no order can undercut: the work over the workers, or the longest cell.
        busy: Share of the workers' time that was work which counted.
        failed: Cells whose worker failed, which began again.
        gigabytes_in: Image files, read by each cell anew.
        gigabytes_out: Run folders.
        core_hours: Of the workers, a core each, from begin to end: those that wait for the last cell too.
        cost: Of these.
        gpu_hours: Of the work alone, were it on GPUs as assumed.
        cost_gpus: Of these.
    """

    cells: int
    workers: int
    seconds: float
    bound: float
    busy: float
    failed: int
    gigabytes_in: float
    gigabytes_out: float
    core_hours: float
    cost: float
    gpu_hours: float
    cost_gpus: float


def simulate_cells(cells: int, workers: int, rates: Rates, *, resumed: bool = True, seed: int = 0) -> Makespan:
    """Deal cells of unequal length to workers, in the order in which they stand.

    Args:
        cells: How many; their lengths are lognormal with the measured mean and spread.
        workers: How many run at once.
        rates: Of a run, and the share of cells that fail, at a moment drawn uniformly over the cell.
        resumed: Whether a failed cell goes on at its last epoch, which costs its start alone, or begins anew.
        seed: Of lengths and failures.
    """
    import simpy

    one, cluster = rates.measured, rates.assumed
    rng = np.random.default_rng(seed)
    lengths = rng.lognormal(np.log(one.cell_seconds) - one.cell_spread**2 / 2, one.cell_spread, cells)
    fails, when = rng.random(cells) < cluster.failures, rng.random(cells)
    world = simpy.Environment()
    left = iter(range(cells))

    def worker() -> Generator[Any, Any, Any]:
        for cell in left:
            yield world.timeout(one.start_seconds)
            if fails[cell]:
                lost = 0.0 if resumed else lengths[cell] * when[cell]
                yield world.timeout(lost + one.start_seconds)
            yield world.timeout(lengths[cell])

    for _ in range(workers):
        world.process(worker())
    world.run()
    work, longest = float(lengths.sum()), float(lengths.max())
    core_hours, gpu_hours = workers * float(world.now) / 3600, work / cluster.gpu_cells / 3600
    return Makespan(
        cells=cells,
        workers=workers,
        seconds=float(world.now),
        bound=max(work / workers, longest),
        busy=work / (workers * float(world.now)),
        failed=int(fails.sum()),
        gigabytes_in=cells * one.cell_images * one.image_bytes / 1e9,
        gigabytes_out=cells * one.cell_bytes / 1e9,
        core_hours=core_hours,
        cost=core_hours * cluster.core_hour,
        gpu_hours=gpu_hours,
        cost_gpus=gpu_hours * cluster.gpu_hour,
    )
