"""The benchmark of the optimizers: what is asked for, how it is measured, what comes out."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any, Literal

import torch

import medsharp
from medsharp.errors import InputError
from medsharp.progress import Progress
from training.benchmark.contestants import BARE, OURS, THEIRS, Contestant, choose, rival_library
from training.benchmark.machine import matrix_rate, operations, processor, threads
from training.benchmark.memory import extra_memory
from training.benchmark.spread import Spread
from training.benchmark.timing import Duration, Round, time_empty_steps, time_rounds
from training.benchmark.workload import Workload

EMPTY_ROUNDS = 3
"""Steps without passes are quick: so many rounds of them for each round of whole steps."""


@dataclass(frozen=True)
class Settings:
    """What to measure.

    Attributes:
        optimizers: Names; every sharpness-aware method where empty.
        base: The optimizer that they stand on, and that their overhead is measured from.
        network: As `medsharp.networks.create_network` spells it.
        batch_size: Images.
        image_size: Their side in pixels.
        device: cpu or cuda.
        precision: fp32, or bf16 for autocast.
        channels_last: Lay out images and weights so.
        compile: Compile the network.
        rounds: How often everything is measured.
        threads: Of torch on the CPU; as it chooses where None.
        fused: Whether the base optimizer is torch's fused one; as torch chooses where None.
        rivals: Measure pytorch_optimizer too, where it is installed.
        seed: Of the order within the rounds.
    """

    optimizers: tuple[str, ...] = ()
    base: str = "sgd"
    network: str = "resnet18"
    batch_size: int = 16
    image_size: int = 128
    device: Literal["cpu", "cuda"] = "cpu"
    precision: Literal["fp32", "bf16"] = "fp32"
    channels_last: bool = False
    compile: bool = False
    rounds: int = 9
    threads: int | None = None
    fused: bool | None = None
    rivals: bool = True
    seed: int = 0


@dataclass(frozen=True)
class Row:
    """What was measured of one optimizer.

    Attributes:
        name: The method.
        by: medsharp, pytorch_optimizer, or bare calls: the least that SAM takes in torch operations.
        passes: Forward and backward passes a step, on average, as documented.
        units: A step's time by the clock, in plain forward and backward passes of the same round.
        units_cpu: The same in process CPU time.
        overhead: Time by the clock above the passes and the base optimizer's step, in % of a forward and backward.
        overhead_cpu: The same in process CPU time.
        overhead_in_bare: The overhead over that of the bare calls, on a CPU in CPU time: how much a method does,
            whatever the machine's memory and processor.
        memory: Peak memory above that of the base optimizer, in copies of the weights.
        ours_over_theirs: Time of a step over that of pytorch_optimizer's version; None where it has none.
        images_a_second: On an accelerator.
        matrix_share: Share of the device's bf16 matrix rate, on an accelerator.
    """

    name: str
    by: str
    passes: float | None
    units: Spread
    units_cpu: Spread | None
    overhead: Spread | None
    overhead_cpu: Spread | None
    overhead_in_bare: Spread | None
    memory: float
    ours_over_theirs: Spread | None
    images_a_second: float | None
    matrix_share: float | None


@dataclass(frozen=True)
class Report:
    """The figures, what they were measured on, and what a reader should know of them."""

    header: dict[str, Any]
    rows: list[Row]
    notes: list[str]

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return asdict(self)


def benchmark_optimizers(settings: Settings, progress: Progress = lambda done, total, what: None) -> Report:
    """Measure what sharpness-aware optimizers cost.

    Whole steps tell what training takes; as a pass varies by some percent, what a method adds to its passes is measured
    by itself, with passes that cost nothing.

    Args:
        settings: What to measure.
        progress: Called with done, total and what is being done.

    Raises:
        InputError: A name is unknown, there is no such device, or its memory does not suffice.
        ArithmeticError: A method met what is not finite and skipped steps.
    """
    contestants = choose(list(settings.optimizers), settings.base, settings.rivals, settings.fused)
    if settings.device == "cuda" and not torch.cuda.is_available():
        raise InputError("--device cuda: torch finds no CUDA device here; leave it out to measure on the CPU")
    notes = []
    if settings.compile:
        left_out = [c.name for c in contestants if not c.compiles]
        contestants = [c for c in contestants if c.compiles]
        notes += [f"{name} is left out: it cannot work with a compiled network" for name in left_out]
    try:
        with threads(settings.threads) as count:
            return _measure(settings, contestants, count, notes, progress)
    except torch.OutOfMemoryError as error:
        raise InputError("the device's memory does not suffice; choose a smaller --batch-size") from error


def _measure(
    settings: Settings, contestants: list[Contestant], count: int, notes: list[str], progress: Progress
) -> Report:
    device = torch.device(settings.device)
    workload = Workload(
        settings.network,
        settings.batch_size,
        settings.image_size,
        device,
        settings.precision,
        settings.channels_last,
    )
    accelerated = device.type == "cuda"
    rate = matrix_rate(device) if accelerated else None
    work = [operations(workload, contestant) for contestant in contestants] if accelerated else None
    memory = extra_memory(workload, contestants, progress)
    empty = time_empty_steps(workload, contestants, EMPTY_ROUNDS * settings.rounds, settings.seed, progress)
    if settings.compile:
        workload.network.compile()
    rounds = time_rounds(workload, contestants, settings.rounds, settings.seed, progress)
    unit = Duration(median(r.unit.wall for r in rounds), median(r.unit.cpu for r in rounds))
    rows = []
    for index, contestant in enumerate(contestants):
        step = median(r.steps[index].wall for r in rounds)
        rows.append(
            Row(
                name=contestant.name,
                by=contestant.by,
                passes=contestant.passes,
                units=Spread.of([r.steps[index].wall / r.unit.wall for r in rounds]),
                units_cpu=None if accelerated else Spread.of([r.steps[index].cpu / r.unit.cpu for r in rounds]),
                overhead=_percent([e[index].wall for e in empty if index in e], unit.wall),
                overhead_cpu=None if accelerated else _percent([e[index].cpu for e in empty if index in e], unit.cpu),
                overhead_in_bare=_in_bare(contestants, index, empty, accelerated),
                memory=memory[index],
                ours_over_theirs=_against_theirs(contestants, index, rounds),
                images_a_second=settings.batch_size / step if accelerated else None,
                matrix_share=work[index] / step / rate if work and rate else None,
            )
        )
    return Report(_header(settings, workload, unit, count, rate), rows, notes + _notes(contestants))


def _percent(seconds: Sequence[float], unit: float) -> Spread | None:
    return Spread.of([100 * value / unit for value in seconds]) if seconds else None


def _in_bare(
    contestants: Sequence[Contestant], index: int, empty: Sequence[dict[int, Duration]], accelerated: bool
) -> Spread | None:
    bare = next(i for i, c in enumerate(contestants) if c.by == BARE)
    pairs = [(e[index], e[bare]) for e in empty if index in e]
    times = [(d.wall, b.wall) if accelerated else (d.cpu, b.cpu) for d, b in pairs]
    ratios = [time / least for time, least in times if least > 0]
    return Spread.of(ratios) if ratios else None


def _against_theirs(contestants: Sequence[Contestant], index: int, rounds: Sequence[Round]) -> Spread | None:
    ours = contestants[index]
    rival = next((i for i, c in enumerate(contestants) if c.by == THEIRS and c.name == ours.name), None)
    if ours.by != OURS or rival is None:
        return None
    return Spread.of([r.steps[index].wall / r.steps[rival].wall for r in rounds])


def _header(settings: Settings, workload: Workload, unit: Duration, count: int, rate: float | None) -> dict[str, Any]:
    accelerated = workload.device.type == "cuda"
    compared = settings.rivals and rival_library() is not None
    return {
        **asdict(settings),
        "threads": count,
        "optimizers": list(settings.optimizers),
        "medsharp": medsharp.__version__,
        "torch": torch.__version__,
        "pytorch_optimizer": importlib.metadata.version(THEIRS) if compared else None,
        "processor": processor(),
        "accelerator": torch.cuda.get_device_name(workload.device) if accelerated else None,
        "parameters": sum(p.numel() for p in workload.params),
        "weight_bytes": workload.weight_bytes,
        "unit_seconds": unit.wall,
        "unit_cpu_seconds": unit.cpu,
        "bf16_matrix_rate": rate,
    }


def _notes(contestants: Sequence[Contestant]) -> list[str]:
    notes = []
    if any(c.name == "esam" for c in contestants):
        notes.append("esam: with its paper's settings, beta 0.6 and gamma 0.5, which its code has switched off")
    if any(c.differentiates for c in contestants):
        notes.append("eigensam: overhead and memory are those of the steps between two estimates of the eigenvector")
    return notes
