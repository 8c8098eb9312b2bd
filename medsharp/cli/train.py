"""`medsharp train`: a configuration and a data set in, a run folder out."""

from __future__ import annotations

import itertools
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medsharp.cli._console import console, fail, heading, note, progress_bar
from medsharp.cli._data_options import SOURCE_HELP, announce_data, data_overrides
from medsharp.errors import InputError
from medsharp.optim.catalogue import list_optimizers, optimizer_info
from medsharp.yaml_text import quoted

if TYPE_CHECKING:
    from medsharp.config import TrainConfig
    from medsharp.data.manifest import Manifest
    from medsharp.weights_origin import WeightsOrigin
    from training import Processes


def describe_optimizers() -> str:
    """Return every optimizer with its paper, its passes and its settings, for the help page."""
    lines = [
        "[bold]Optimizers[/] (--optimizer NAME; settings by --set optimizer.KEY=VALUE, or optimizer.NAME.KEY=VALUE for "
        "another one, here with their defaults)"
    ]
    for name in list_optimizers():
        info = optimizer_info(name)
        authors = info.paper.split(",")[0]
        settings = ", ".join(f"{entry.name}={_plain(entry.default)}" for entry in info.hyperparameters)
        passes = f"{info.passes:g} pass{'' if info.passes == 1 else 'es'}"
        lines.append(f"[cyan]{name}[/]  {authors}, {info.venue} {info.year}; {passes} a step; [dim]{settings}[/]")
    return "\n\n".join(lines)


def _plain(value: object) -> str:
    """Return a default as YAML spells it; brackets are escaped, because the help page is marked up with them."""
    text = json.dumps(value).strip('"')
    return text.replace("[", r"\[")


def train(
    data: Annotated[
        list[str] | None,
        typer.Option(
            help="Manifest, folder of a known data set, or folder with a sub-folder a class; once for each hospital. "
            "Without it: simulated images."
        ),
    ] = None,
    source: Annotated[
        list[str] | None, typer.Option(help=SOURCE_HELP + " Once for all, or once for each --data.")
    ] = None,
    optimizer: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="One of those below."),
    ] = None,
    config: Annotated[Path | None, typer.Option(help="YAML file; docs/configuration.md has every key.")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Such as optimizer.lr=3e-4; may be repeated.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Run folder; runs/<name> without it.")] = None,
    resume: Annotated[
        Path | None,
        typer.Option(
            help="Run folder to continue where it stopped; with --set schedule.epochs=N it trains longer than it began."
        ),
    ] = None,
    print_config: Annotated[bool, typer.Option("--print-config", help="Print every setting and leave.")] = False,
) -> None:
    """Train a classifier; the best weights by validation AUROC are kept, or the last (schedule.keep=last).

    Images are checked, near-duplicates are tied together, and patients (or ties) are split into train, validation
    and test before anything is learned. torchrun -m medsharp train ... trains with several processes, see
    docs/several-processes.md.
    """
    from medsharp.config import dump_config, load_config

    overrides = [*(set_ or []), *data_overrides(data, source)]
    if optimizer is not None:
        overrides.append(f"optimizer.name={quoted(optimizer)}")
    if resume is not None and (data or source or optimizer or config or out or print_config):
        raise InputError("--resume takes data and settings from the run folder; give it alone, or with --set")
    if print_config:
        from training import check_config, check_network

        settings = load_config(config, overrides)
        check_config(settings)
        typer.echo(dump_config(settings) + _comments(check_network(settings)), nl=False)
        return

    from training import torchrun_processes

    with torchrun_processes(fail) as processes:
        console.quiet = not processes.leads
        with processes.agreed():
            begin = None
            if processes.leads:
                begin = (
                    _going_on(resume, set_ or [])
                    if resume is not None
                    else _beginning(load_config(config, overrides), out)
                )
        begun = _shared(begin, processes)
        run_training(begun.settings, begun.manifest, begun.folder, begun.resume, processes)
        if resume is None:
            console.print(f"\nnext: [bold]medsharp export {begun.folder} --out BUNDLE[/]", soft_wrap=True)


@dataclass(frozen=True)
class _Beginning:
    """What a training begins with, or goes on with."""

    settings: TrainConfig
    manifest: Manifest
    folder: Path
    resume: bool


def _beginning(settings: TrainConfig, out: Path | None) -> _Beginning:
    """Check settings and prepare data; under torchrun go on with a run that the same command has begun before."""
    from medsharp.runs import CONFIG, Run
    from training import check_config, check_network, launched, may_start_again

    if out is None and may_start_again():
        raise InputError("torchrun --max-restarts runs this command again; give --out, so that it finds its run then")
    check_config(settings)
    if launched() and out is not None and (out / CONFIG).is_file():
        return _Beginning(settings, Run.load(out).manifest, out, resume=True)
    check_network(settings)
    manifest = prepare(settings)
    return _Beginning(settings, manifest, out or free_run_folder(settings, manifest), resume=False)


def _going_on(folder: Path, overrides: list[str]) -> _Beginning:
    from training import change_settings

    run = change_settings(folder, overrides)
    return _Beginning(run.config, run.manifest, folder, resume=True)


def _shared(begin: _Beginning | None, processes: Processes) -> _Beginning:
    """Return what the first process begins with."""
    from medsharp.config import validate_config

    settings = processes.of_first(None if begin is None else begin.settings.model_dump(mode="json"))
    others = processes.of_first(None if begin is None else (begin.manifest, begin.folder, begin.resume))
    assert settings is not None
    assert others is not None
    return begin or _Beginning(validate_config(settings), *others)


def _comments(origin: WeightsOrigin | None) -> str:
    """Return where weights would come from as comments, so that what is printed stays a configuration."""
    if origin is None:
        return ""
    values = origin.model_dump(exclude_defaults=True)
    return f"# starts from {origin.sentence()}:\n" + "".join(f"#   {key}: {value}\n" for key, value in values.items())


def prepare(settings: TrainConfig) -> Manifest:
    """Open, audit and split the data of a configuration, saying what was left out or tied and why."""
    from medsharp.data.prepare import prepare_manifest

    announce_data(settings)
    with progress_bar() as report:
        manifest = prepare_manifest(settings.data, progress=report)
    for sentence in manifest.notes:
        note(sentence)
    return manifest


def run_training(
    settings: TrainConfig,
    manifest: Manifest,
    folder: Path,
    resume: bool = False,
    processes: Processes | None = None,
) -> None:
    """Train with progress on the screen."""
    from medsharp.cli._training_progress import TrainingProgress
    from training import ALONE
    from training import train as fit

    processes = processes or ALONE
    several = f", {processes.count} processes" if processes.count > 1 else ""
    heading(
        f"Training {settings.network.name} with {settings.optimizer.name}, "
        f"{settings.schedule.epochs} epochs{several}, into {folder}"
    )
    with TrainingProgress(settings.schedule.epochs) as events:
        fit(settings, manifest, out=folder, resume=resume, events=events, processes=processes)


def free_run_folder(settings: TrainConfig, manifest: Manifest) -> Path:
    """Name a new run folder by data, network, optimizer and seed, counted up when taken."""
    data = re.sub(r"[\W_]+", "-", manifest.info.name.lower()).strip("-")
    name = f"{data}-{settings.network.name}-{settings.optimizer.name}-seed{settings.seed}"
    for count in itertools.count(1):
        folder = Path("runs") / (name if count == 1 else f"{name}-{count}")
        if not folder.exists():
            return folder
    raise AssertionError("unreachable")
