"""Taking a run folder for one training: fresh or resumed, never two at once."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from medsharp import runs
from medsharp.config import TrainConfig, dump_config, load_config
from medsharp.data.manifest import Manifest, write_manifest
from medsharp.errors import InputError
from medsharp.files import only_writer, write_text
from medsharp.runs import Run

_LOCK = ".lock"
CHANGEABLE = ("schedule.epochs", "run.device", "run.workers", "run.compile")
"""What may be changed of a run that has begun."""

_UNBEGUN = frozenset({_LOCK, "manifest.csv", "manifest.yaml"})


class Interrupted(KeyboardInterrupt):
    """Training was stopped by the user; the last whole epoch is saved and the message says how to go on."""


@contextmanager
def taken(folder: Path, config: TrainConfig, manifest: Manifest, resume: bool) -> Iterator[Run]:
    """Open a run folder and keep it for this training alone.

    Args:
        folder: To make, or with `resume` to continue.
        config: Resolved.
        manifest: With splits.
        resume: Whether the run is there already.

    Raises:
        InputError: Another training is in it; it is not empty; or the run was started with other settings or data.
            Nothing is written then, and an InputError of the block before its first checkpoint takes back what was.
        Interrupted: In place of a KeyboardInterrupt of the block.
    """
    made = not folder.exists()
    # Looked at before anything is written there, and again under the lock.
    _check(folder, config, manifest, resume)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make the run folder {folder}: {error.strerror}") from error
    ours = False
    try:
        with only_writer(folder / _LOCK, _busy(folder)):
            ours = True
            _check(folder, config, manifest, resume)
            try:
                if not resume:
                    write_manifest(manifest, folder)
                    write_text(folder / runs.CONFIG, dump_config(config))
                yield Run.load(folder)
            except KeyboardInterrupt as interrupt:
                raise Interrupted(f"stopped; {_how_to_continue(folder)}") from interrupt
            except InputError:
                if not resume and not _learned(folder):
                    for name in (runs.CONFIG, "manifest.csv", "manifest.yaml", runs.ORIGIN, runs.LAST_STATE):
                        (folder / name).unlink(missing_ok=True)
                    with suppress(FileNotFoundError):
                        (folder / runs.LAST_STATE).parent.rmdir()
                raise
    finally:
        if ours and made and {file.name for file in folder.iterdir()} <= {_LOCK}:
            (folder / _LOCK).unlink(missing_ok=True)
            folder.rmdir()


def change_settings(folder: Path, overrides: Sequence[str]) -> Run:
    """Change settings of a run that has begun: how long it trains, or where.

    A finished run that shall train longer is not finished any more: its predictions are those of a shorter one.

    Args:
        folder: Of the run.
        overrides: Such as `schedule.epochs=60`; of `CHANGEABLE` alone.

    Raises:
        InputError: A setting cannot be changed any more, or the run has more epochs already, or it has dropped what it
            could go on from; or another training is in the folder.
    """
    before = Run.load(folder)
    if not overrides:
        return before
    with only_writer(folder / _LOCK, _busy(folder)):
        config = load_config(folder / runs.CONFIG, overrides)
        if (was := before.config.schedule).frozen_epochs == was.epochs:
            # Frozen to the end, however far that is.
            frozen = f"schedule.frozen_epochs={config.schedule.epochs}"
            config = load_config(folder / runs.CONFIG, [*overrides, frozen])
        old, new = (dict(_flat(one.model_dump(mode="json"))) for one in (before.config, config))
        changed = [key for key in new if new[key] != old.get(key)]
        follows = {"schedule.frozen_epochs"} if was.frozen_epochs == was.epochs else set()
        fixed = next((key for key in changed if key not in {*CHANGEABLE, *follows}), None)
        if fixed is not None:
            raise InputError(
                f"{fixed} of a run that has begun stays as it is; --set beside --resume takes {', '.join(CHANGEABLE)}"
            )
        done, epochs = len(before.metrics()), config.schedule.epochs
        if epochs < done:
            raise InputError(f"schedule.epochs = {epochs}: {folder} has trained {done} epochs already")
        if before.finished and epochs > done:
            if not (folder / runs.LAST_STATE).is_file():
                raise InputError(f"{folder} cannot go on: it has no {runs.LAST_STATE} any more; train a new run")
            (folder / runs.PREDICTIONS).unlink()
        if changed:
            write_text(folder / runs.CONFIG, dump_config(config))
    return Run.load(folder)


def clear_unbegun(folder: Path) -> None:
    """Remove what a run leaves that was killed before its settings were written, which is nothing that was trained."""
    if not folder.is_dir() or (folder / runs.CONFIG).exists():
        return
    files = list(folder.iterdir())
    ours = all(
        file.is_file() and (file.name.startswith((".manifest.", ".config.")) or file.name in _UNBEGUN) for file in files
    )
    if ours:
        for file in files:
            file.unlink()


def _busy(folder: Path) -> str:
    return f"another training is writing to {folder}; wait for it or choose another folder"


def _flat(values: dict[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{above}{name}.")
        else:
            yield above + name, value


def _learned(folder: Path) -> bool:
    """Whether anything was saved but the weights that training starts from."""
    saved = (folder / runs.LAST_STATE).parent
    if not saved.exists():
        return False
    return (folder / runs.METRICS).exists() or [file.name for file in saved.iterdir()] != [Path(runs.LAST_STATE).name]


def _check(folder: Path, config: TrainConfig, manifest: Manifest, resume: bool) -> None:
    if resume:
        run = Run.load(folder)
        if dump_config(run.config) != dump_config(_settled(config, run.config)):
            raise InputError(f"{folder} was started with other settings; resume it with its own config.yaml")
        columns = ["image", "label", "mask", "split", "exclude"]
        ours, given = (table[columns].to_numpy().tolist() for table in (run.manifest.table, manifest.table))
        if ours != given:
            raise InputError(f"{folder} was started with other data; resume it with its own manifest.csv")
        return
    if folder.is_dir() and any(file.name != _LOCK for file in folder.iterdir()):
        begun = (folder / runs.CONFIG).exists()
        remedy = (
            f"continue it with: medsharp train --resume {shlex.quote(str(folder))}"
            if begun
            else "choose another folder"
        )
        raise InputError(f"{folder} exists already; {remedy}")


def _settled(config: TrainConfig, begun: TrainConfig) -> TrainConfig:
    """Return a configuration with what the run has settled since: `auto` meant the precision that it began with."""
    if config.run.precision != "auto":
        return config
    return config.model_copy(update={"run": config.run.model_copy(update={"precision": begun.run.precision})})


def _how_to_continue(folder: Path) -> str:
    return f"continue with: medsharp train --resume {shlex.quote(str(folder))}"
