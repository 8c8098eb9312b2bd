"""`medsharp study`: optimizers compared on networks, folds and seeds; `status` and `report` of one that was begun."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from typer.core import TyperGroup

from medsharp.cli._console import CPUS_HELP, GPUS_HELP, RAY_HELP, console, errors, heading, note, progress_bar
from medsharp.cli._data_options import SOURCE_HELP
from medsharp.errors import InputError

if TYPE_CHECKING:
    from medsharp.data.manifest import Manifest
    from training.study import StudyDefinition
    from training.study.folder import StudyFolder


class _RunByDefault(TyperGroup):
    """Takes `study FILE` for `study run FILE`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and not args[0].startswith("-") and args[0] not in self.commands:
            args = ["run", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_RunByDefault,
    no_args_is_help=True,
    help="Compare optimizers on networks, hospitals, folds, seeds: study STUDY.yaml trains what is not finished.",
    rich_markup_mode="rich",
)
_STUDY_HELP = "The study's file, or its folder."
_OUT_HELP = "Folder of the study; runs/study-<name> without it."


@app.command("run")
def run(
    study: Annotated[Path, typer.Argument(help="The study's file; docs/study.md.")],
    out: Annotated[Path | None, typer.Option(help=_OUT_HELP + " A second start goes on there.")] = None,
    data: Annotated[
        list[str] | None,
        typer.Option(help="As of medsharp train; once for each hospital. Without it: the file's."),
    ] = None,
    source: Annotated[
        list[str] | None, typer.Option(help=SOURCE_HELP + " Once for all, or once for each --data.")
    ] = None,
    devices: Annotated[
        str,
        typer.Option(help="One in place of run.device, or several, a process each: cuda:0,cuda:1, or cpu,cpu."),
    ] = "",
    new_code: Annotated[
        bool,
        typer.Option("--new-code", help="Go on with another version of the code; what is finished stays."),
    ] = False,
    ray: Annotated[str | None, typer.Option(metavar="[ADDRESS]", help=RAY_HELP)] = None,
    gpus_each: Annotated[float | None, typer.Option(min=0, help=GPUS_HELP)] = None,
    cpus_each: Annotated[int | None, typer.Option(min=1, help=CPUS_HELP)] = None,
) -> None:
    """Train every run that is not finished; it may be stopped at any time and goes on with the same command.

    Images that are tested are sealed first, and read by `study report` alone. A run that fails does not stop the
    others; it is listed at the end, and tried again by the same command.
    """
    from medsharp.cli._pieces import pieces_on
    from medsharp.cli._study_progress import StudyProgress
    from training.study import load_study, run_study

    definition = _with_data(load_study(study), data, source)
    folder = out or Path("runs") / f"study-{definition.name}"
    chosen = [device.strip() for device in devices.split(",") if device.strip()]
    heading(f"Study {definition.name}, in {folder}")
    with ExitStack() as opening, pieces_on(ray, gpus_each, cpus_each, devices) as hand_out, StudyProgress() as training:
        report = opening.enter_context(progress_bar())

        def begun(found: StudyFolder) -> None:
            opening.close()  # one bar at a time
            note(f"rule and settings registered {found.registration['begun']}, SHA-256 {found.study.digest()}")

        outcome = run_study(
            definition,
            out=folder,
            devices=chosen,
            hand_out=hand_out,
            new_code=new_code,
            events=training,
            progress=report,
            opened=_tell_notes,
            registered=begun,
        )
    if outcome.failures:
        count = len(outcome.failures)
        errors.print(f"[bold red]error:[/] {count} chain{'s' if count > 1 else ''} of runs failed:")
        for failure in outcome.failures:
            errors.print(f"  {escape(failure.name)}: {escape(failure.sentence)}", soft_wrap=True)
        raise typer.Exit(2)
    console.print(f"\nnext: [bold]medsharp study report {folder}[/]", soft_wrap=True)


@app.command("status")
def status(
    study: Annotated[Path, typer.Argument(help=_STUDY_HELP)],
    out: Annotated[Path | None, typer.Option(help=_OUT_HELP)] = None,
) -> None:
    """Say how far a study is, how long the rest takes, and what failed."""
    from training.study.forecast import duration, forecast

    folder = _open(study, out)
    seen = forecast(folder)
    heading(f"Study {folder.study.name}, begun {folder.registration['begun']}, SHA-256 {folder.study.digest()}")
    note(f"{seen.finished_cells} of {seen.cells} cells finished, {seen.finished} of {seen.runs} runs with trials")
    left = "unknown before a run is finished" if seen.remaining is None else duration(seen.remaining)
    note(f"trained {duration(seen.seconds)}; left {left}, one run after another")
    written = sorted((folder.root / "errors").glob("*.txt"))
    for path in written:
        note(f"failed: {path}")


@app.command("report")
def report(
    study: Annotated[Path, typer.Argument(help=_STUDY_HELP)],
    out: Annotated[
        Path | None, typer.Option(help="Folder of the report; report in the study's folder without it.")
    ] = None,
    folder: Annotated[
        Path | None, typer.Option(help="Of the study, where its file is given; as --out of study.")
    ] = None,
    interim: Annotated[
        bool,
        typer.Option(
            "--interim", help="Report on what is finished; verdicts on claims whose cells are all there alone."
        ),
    ] = False,
    sharpness: Annotated[
        int,
        typer.Option(
            min=0, help="Measure each run's sharpness on so many training images, once; takes minutes a run; 0: none."
        ),
    ] = 0,
    device: Annotated[str, typer.Option(help="Where to predict and measure: cpu, cuda or one GPU.")] = "cpu",
) -> None:
    """Read what is tested, once, and write tables, verdicts and a page: HTML, Markdown, LaTeX, CSV and JSON."""
    from medsharp.config import check_device
    from training.reproducibility import select_device
    from training.study.report import write_report
    from training.study.sharpness import measure_with

    begun = _open(study, folder)
    try:
        check_device(device)
    except ValueError as error:
        raise InputError(f"--device: {error}") from error
    chosen = str(select_device(device))
    measure = measure_with(sharpness, chosen) if sharpness else None
    with progress_bar() as bar:
        results, written = write_report(begun, out=out, interim=interim, measure=measure, device=chosen, progress=bar)
    heading(f"Study {begun.study.name}, rule SHA-256 {results['study_sha256']}")
    for claim in results["claims"]:
        reason = f" ({claim['reason']})" if claim["reason"] else ""
        note(f"{claim['name']}: {claim['verdict']}{reason}")
    for path in written:
        note(str(path))


def _open(study: Path, out: Path | None) -> StudyFolder:
    from training.study import load_study
    from training.study.folder import StudyFolder

    if study.is_dir():
        return StudyFolder.open(study)
    definition = load_study(study)
    return StudyFolder.open(out or Path("runs") / f"study-{definition.name}")


def _with_data(study: StudyDefinition, data: list[str] | None, source: list[str] | None) -> StudyDefinition:
    """Return a study with other paths of the same hospitals."""
    from medsharp.cli._data_options import sources_of
    from training.study.definition import merged

    if not data:
        if source:
            raise InputError("--source says what --data is; give that too")
        return study
    sources = [name or "auto" for name in sources_of(source, data)]
    return study.model_copy(update={"base": merged(study.base, {"data": {"path": list(data), "source": sources}})})


def _tell_notes(manifest: Manifest) -> None:
    for sentence in manifest.notes:
        note(sentence)
