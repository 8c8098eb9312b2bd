"""How much memory an optimizer takes, at the worst moment of a step."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile, record_function

from training.benchmark.contestants import Contestant
from training.benchmark.timing import Progress, warm_step
from training.benchmark.workload import EmptyPasses, Workload

MEASURED = "medsharp.benchmark.measured"


def extra_memory(workload: Workload, contestants: Sequence[Contestant], progress: Progress) -> list[float]:
    """Return the peak of each contestant above that of the first, the base optimizer, in copies of the weights.

    What is counted lives between two passes or inside a step: state, gradients that are kept, backups, temporaries.
    Activations of the network are not, as passes are empty.
    """
    peaks = []
    for number, contestant in enumerate(contestants):
        progress(number, len(contestants), "memory")
        peaks.append(_peak(workload, contestant))
    progress(len(contestants), len(contestants), "memory")
    return [(peak - peaks[0]) / workload.weight_bytes for peak in peaks]


def _peak(workload: Workload, contestant: Contestant) -> int:
    passes = EmptyPasses(workload)
    workload.network.zero_grad()
    if workload.device.type == "cuda":
        torch.cuda.empty_cache()
        before = torch.cuda.memory_allocated(workload.device)
        _steps(workload, contestant, passes)
        return torch.cuda.max_memory_allocated(workload.device) - before
    with (
        tempfile.TemporaryDirectory() as folder,
        profile(activities=[ProfilerActivity.CPU], profile_memory=True, acc_events=True) as profiler,
    ):
        _steps(workload, contestant, passes)
        workload.network.zero_grad()
        profiler.stop()
        trace = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(trace))
        return _peak_of_trace(json.loads(trace.read_text(encoding="utf-8"))["traceEvents"])


def _steps(workload: Workload, contestant: Contestant, passes: EmptyPasses) -> None:
    """Take the steps of a cycle, and then those of another, which are measured."""
    step = warm_step(workload, contestant)
    closure = passes.closure(contestant.per_sample)
    for _ in contestant.weights:
        step(closure)
    if workload.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(workload.device)
    with record_function(MEASURED):
        for _ in contestant.weights:
            step(closure)


def _peak_of_trace(events: list[dict[str, object]]) -> int:
    begin = next(float(str(e["ts"])) for e in events if e.get("name") == MEASURED)
    changes = sorted(
        (float(str(e["ts"])), int(e["args"]["Bytes"]))  # type: ignore[index]
        for e in events
        if e.get("name") == "[memory]"
    )
    held = peak = 0
    for when, change in changes:
        held += change
        if when >= begin:
            peak = max(peak, held)
    return peak
