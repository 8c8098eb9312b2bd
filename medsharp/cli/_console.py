"""What every command prints with: one console, an error line, progress bars, figures with their intervals."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape

from medsharp.progress import Progress

if TYPE_CHECKING:
    from rich.table import Table

# `:name:` in a path is no emoji.
console = Console(highlight=False, emoji=False)
errors = Console(stderr=True, highlight=False, emoji=False)

LIMIT_HELP = "What is refused before decoding, such as max_frames=5000 or max_pixels=1e8; may be repeated."
"""Of the option `--limit`, which is the same for every command that reads images."""


RANGE_HELP = (
    "Values that are black and white in images of more than 8 bits, such as 0,4095; by default a manifest's `range`."
)
"""Of the option `--range`, for the same commands."""

ANYWAY_HELP = (
    "For research: give images that an input check refuses their number all the same; their status stays refused."
)
"""Of the option `--answer-anyway`; the server has none."""


def fail(sentence: str) -> None:
    """Print an error sentence to standard error, on one line so that it can be searched for."""
    errors.print(f"[bold red]error:[/] {escape(sentence)}", soft_wrap=True)


def note(sentence: str) -> None:
    """Print a remark about what was done, such as what was left out and why."""
    console.print(f"  {escape(sentence)}", style="dim", soft_wrap=True)


def warn(sentence: str) -> None:
    """Print to standard error what the user must know of a result that was made nevertheless."""
    errors.print(f"[bold yellow]warning:[/] {escape(sentence)}", soft_wrap=True)


def heading(sentence: str) -> None:
    """Print what begins now."""
    console.print(f"[bold]{escape(sentence)}[/]", soft_wrap=True)


def drop_unwritten() -> None:
    """Forget what could not be written: a console keeps it, and would write it again before all that follows."""
    for each in (console, errors):
        with each.capture():
            pass


@contextmanager
def progress_bar() -> Iterator[Progress]:
    """Show long work as a bar per kind of work; gives the callable that the work reports to."""
    from rich import progress

    bars = progress.Progress(
        progress.SpinnerColumn(),
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TimeRemainingColumn(),
        console=console,
        transient=True,
    )
    tasks: dict[str, Any] = {}

    def report(done: int, total: int, what: str) -> None:
        if what not in tasks:
            tasks[what] = bars.add_task(escape(what), total=total)
        bars.update(tasks[what], completed=done, total=total)

    with bars:
        yield report


def size_of(count: int) -> str:
    """Write a number of bytes in the unit that gives it digits, such as `10.7 MiB`, `3.2 KiB` or `180 bytes`."""
    if count < 2**10:
        return f"{count} bytes"
    return f"{count / 2**20:,.1f} MiB" if count >= 2**20 else f"{count / 2**10:.1f} KiB"


def interval(figure: Mapping[str, Any] | None, digits: int = 3) -> str:
    """Write a figure as `0.871 (0.842 to 0.897)`, `8.12 (at least 2.50)` without an upper limit, or a dash."""
    if figure is None or figure.get("value") is None:
        return "-"
    text = f"{figure['value']:.{digits}f}"
    low, high = figure.get("low"), figure.get("high")
    if low is not None:
        text += f" (at least {low:.{digits}f})" if high is None else f" ({low:.{digits}f} to {high:.{digits}f})"
    return text


BY_HELP = (
    "Columns to group by, and test whether groups differ: categories as they are, numbers cut at points, as "
    "age:40,50,60,tissue."
)

DEVICE_HELP = (
    "auto (CUDA where it works, else the CPU), cpu, cuda, tensorrt, openvino or coreml; an absent one is an error."
)
PRECISION_HELP = "auto (fp32, in which the operating point was frozen), fp32, fp16 or int8, where the bundle has it."


RAY_HELP = (
    "Do it on Ray (medsharp\\[cluster]): on this machine without an address or with local, else auto, HOST:6379 or "
    "ray://HOST:10001; docs/cluster.md."
)
"""Of the option `--ray`, for the same commands."""

GPUS_HELP = (
    "With --ray: GPUs that each piece of the work takes, also a part of one, such as 0.25; by default one where there "
    "are any. 0: the CPU."
)
CPUS_HELP = "With --ray: cores that each piece of the work takes; one by default."


class IntervalKind(StrEnum):
    """How a bootstrap interval is made."""

    percentile = "percentile"
    bca = "bca"


_SHOWN = (
    "auroc",
    "auprc",
    "partial_auroc",
    "sensitivity",
    "specificity",
    "ppv",
    "npv",
    "ppv_at_prevalence",
    "npv_at_prevalence",
    "lr_positive",
    "lr_negative",
    "net_benefit_gain_at_threshold",
    "brier",
    "calibration_intercept",
    "calibration_slope",
    "calibration_error",
)


def figures_table(columns: Mapping[str, Mapping[str, Any]], title: str) -> Table:
    """Lay figures with their 95 % intervals side by side, one column a data set.

    Args:
        columns: Column heading to figures, as in `evaluation.json`.
        title: Stands above the table.
    """
    from rich.table import Table

    from medsharp.evaluation.statistics.registry import names_of

    table = Table(title=title, title_justify="left", title_style="bold")
    table.add_column("figure (95 % interval)")
    for name in columns:
        table.add_column(escape(name))
    for key, label in names_of(_SHOWN).items():
        if any(key in figures for figures in columns.values()):
            table.add_row(
                label.format(prevalence="the stated prevalence"),
                *(interval(figures.get(key)) for figures in columns.values()),
            )
    return table


def reader_notes(datasets: Sequence[Mapping[str, Any]]) -> None:
    """Print how the model compares with the readers of each data set of `evaluation.json`, where there are any."""
    from medsharp.evaluation.report import reader_section

    for entry in datasets:
        section = reader_section(dict(entry))
        if section is not None:
            heading(f"{entry['name']}: compared with the readers")
            for sentence in (*section.sentences, *section.notes):
                note(sentence)
