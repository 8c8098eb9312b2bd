"""`medsharp bench optim`: what each optimizer costs, beside a plain forward and backward."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from medsharp.cli._console import console, heading, note, progress_bar
from medsharp.cli.bench._output import JsonFile, check_json, write_json
from medsharp.progress import rate_text

if TYPE_CHECKING:
    from training.benchmark import Report, Row, Spread


class Device(StrEnum):
    """Where to compute."""

    cpu = "cpu"
    cuda = "cuda"


class Precision(StrEnum):
    """What to compute with."""

    fp32 = "fp32"
    bf16 = "bf16"


def optim(
    optimizer: Annotated[
        list[str] | None, typer.Option(help="Such as wsam; may be repeated. Without it: every sharpness-aware method.")
    ] = None,
    base: Annotated[str, typer.Option(help="What they stand on: sgd, adam or adamw.")] = "sgd",
    network: Annotated[str, typer.Option(help="A timm name, such as resnet50.")] = "resnet18",
    batch_size: Annotated[int, typer.Option(min=8, max=65_536)] = 16,
    image_size: Annotated[int, typer.Option(min=16, max=4096, help="Side of the images in pixels.")] = 128,
    device: Annotated[Device, typer.Option()] = Device.cpu,
    precision: Annotated[Precision, typer.Option(help="bf16 computes the network under autocast.")] = Precision.fp32,
    channels_last: Annotated[
        bool, typer.Option("--channels-last", help="Keep the channels of a pixel together in memory.")
    ] = False,
    compile_: Annotated[bool, typer.Option("--compile", help="Compile the network.")] = False,
    rounds: Annotated[int, typer.Option(min=1, max=10_000, help="How often everything is measured.")] = 9,
    threads: Annotated[int | None, typer.Option(min=1, max=1024, help="Of torch on the CPU.")] = None,
    fused: Annotated[
        bool | None, typer.Option("--fused/--no-fused", help="Step the base optimizer in one kernel, or not.")
    ] = None,
    rivals: Annotated[bool, typer.Option(help="Measure pytorch_optimizer too, where it is installed.")] = True,
    seed: Annotated[int, typer.Option(min=0, help="Of the order within the rounds.")] = 0,
    json_: JsonFile = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the table as Markdown.")] = False,
) -> None:
    """Measure time and memory of the optimizers; the unit is one plain forward and backward of the network.

    Everything is measured once a round, in another order each time. Figures are medians, with quartiles in brackets.
    What a method adds to its passes is measured by itself, with passes that cost nothing.
    """
    check_json(json_)

    from training.benchmark import Settings, benchmark_optimizers

    settings = Settings(
        optimizers=tuple(optimizer or ()),
        base=base,
        network=network,
        batch_size=batch_size,
        image_size=image_size,
        device=device.value,
        precision=precision.value,
        channels_last=channels_last,
        compile=compile_,
        rounds=rounds,
        threads=threads,
        fused=fused,
        rivals=rivals,
        seed=seed,
    )
    with progress_bar() as report:
        measured = benchmark_optimizers(settings, report)
    write_json(json_, measured.as_dict())
    if markdown:
        typer.echo(_markdown(measured))
        return
    for number, line in enumerate(_about(measured)):
        (note if number else heading)(line)
    table = Table()
    shown = _columns(measured)
    for title, _ in shown:
        table.add_column(title, justify="left" if title in {"method", "by"} else "right")
    for row in measured.rows:
        table.add_row(*(cell(row) for _, cell in shown), style="" if row.by == "medsharp" else "dim")
    console.print(table)
    for line in [*_legend(measured), *measured.notes]:
        note(line)


_FUSED = {None: "", True: " (fused)", False: " (not fused)"}


def _about(report: Report) -> list[str]:
    about = report.header
    layout = [about["precision"]]
    layout += ["channels-last"] * about["channels_last"] + ["compiled"] * about["compile"]
    rival = about["pytorch_optimizer"]
    where = ""
    if about["accelerator"]:
        where = f"{about['accelerator']}, bf16 matrices at {about['bf16_matrix_rate'] / 1e12:.0f} TFLOP/s; host "
    return [
        f"medsharp {about['medsharp']}, torch {about['torch']}"
        + (f", pytorch_optimizer {rival}" if rival else " (pytorch_optimizer is not installed)" * about["rivals"]),
        f"{where}{about['processor']}, {about['threads']} thread{'s' * (about['threads'] != 1)}",
        f"unit: forward and backward of {about['network']} ({about['parameters'] / 1e6:.1f} M parameters), batch "
        f"{about['batch_size']}, {about['image_size']} x {about['image_size']}, {', '.join(layout)}: "
        f"{1000 * about['unit_seconds']:.1f} ms",
        f"base optimizer: {about['base']}{_FUSED[about['fused']]}; "
        f"{about['rounds']} round{'s' * (about['rounds'] != 1)}",
    ]


def _legend(report: Report) -> list[str]:
    return [
        "units: time of a step over that of a plain forward and backward; median of the rounds [quartiles]",
        f"overhead: what a step takes above its passes and {report.header['base']}'s own step, in % of a unit",
        "over bare: that overhead over the one of bare calls, which are the least that SAM takes in torch operations: "
        "norm, backup, climb and restoration, nothing checked",
        "memory: peak above the base optimizer's, in copies of the weights",
    ]


def _columns(report: Report) -> list[tuple[str, Callable[[Row], str]]]:
    columns: list[tuple[str, Callable[[Row], str]]] = [
        ("method", lambda row: row.name),
        ("by", lambda row: row.by),
        ("passes", lambda row: "" if row.passes is None else f"{row.passes:g}"),
        ("units", lambda row: _spread(row.units, 2)),
    ]
    timed_cpu = any(row.units_cpu for row in report.rows)
    if timed_cpu:
        columns.append(("units, CPU time", lambda row: _spread(row.units_cpu, 2)))
    columns.append(("overhead, %", lambda row: _spread(row.overhead, 1)))
    if timed_cpu:
        columns.append(("overhead, CPU time, %", lambda row: _spread(row.overhead_cpu, 1)))
    columns.append(("over bare", lambda row: _spread(row.overhead_in_bare, 2)))
    columns.append(("memory", lambda row: f"{row.memory:.2f}"))
    if any(row.images_a_second for row in report.rows):
        columns.append(("images/s", lambda row: _known(row.images_a_second)))
        columns.append(("matrix rate, %", lambda row: _known(row.matrix_share, 100)))
    if any(row.ours_over_theirs for row in report.rows):
        columns.append(("ours / theirs", lambda row: _spread(row.ours_over_theirs, 3)))
    return columns


def _known(rate: float | None, factor: float = 1) -> str:
    return "" if rate is None else rate_text(factor * rate)


def _spread(spread: Spread | None, digits: int) -> str:
    if spread is None:
        return ""
    return f"{spread.median:.{digits}f} [{spread.low:.{digits}f}-{spread.high:.{digits}f}]"


def _markdown(report: Report) -> str:
    columns = _columns(report)
    lines = [
        "| " + " | ".join(title for title, _ in columns) + " |",
        "|" + "|".join("---" if title in {"method", "by"} else "---:" for title, _ in columns) + "|",
    ]
    lines += ["| " + " | ".join(cell(row) for _, cell in columns) + " |" for row in report.rows]
    return "\n".join([*_about(report), "", *lines, "", *_legend(report), *report.notes])
