"""Training a chain of a study: its trials, then the cells that have the settings that those chose."""

from __future__ import annotations

import json
import math
import shutil
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medsharp import runs
from medsharp.data.manifest import Manifest
from medsharp.errors import InputError
from medsharp.quantities import counted
from medsharp.runs import Run
from training.events import Events
from training.loop import DivergedError, train
from training.run_folder import clear_unbegun
from training.side_by_side import Failure, forget_error, keep_error
from training.study.folder import StudyFolder
from training.study.open_data import open_folder, read_open
from training.study.plan import Cell, Chain, cell_config, plan_cells
from training.study.search import Answer, Choice, Watch, choose


def is_done(folder: StudyFolder, chain: Chain) -> bool:
    """Whether all cells of a chain are finished."""
    return all(folder.record(cell) is not None for cell in plan_cells(folder.study, chain))


def train_chain(folder: StudyFolder, chain: Chain, device: str | None, events: Events) -> list[Failure]:
    """Train what is not finished of a chain, each run from where it stopped.

    Args:
        folder: The study.
        chain: Which.
        device: In place of `run.device`.
        events: Told what training tells, and `begin` (`cell`, `run`) before each run.

    Returns:
        The cells that failed.

    Raises:
        InputError: A trial could not be trained, for another reason than that its settings are bad; or all are. The
            sentence is kept as that of the chain.
    """
    try:
        return _train_chain(folder, chain, device, events)
    except InputError as error:
        keep_error(folder.root, chain.name, str(error))
        raise


def _train_chain(folder: StudyFolder, chain: Chain, device: str | None, events: Events) -> list[Failure]:
    manifest = read_open(folder.root, f"{chain.hospital.name}/fold-{chain.fold}")
    cells = plan_cells(folder.study, chain)

    def answer(settings: Mapping[str, float], watch: Watch) -> Answer:
        name = folder.run_folder(cells[0], settings).name
        criterion = folder.study.search.criterion
        try:
            path = _train(
                folder, cells[0], settings, manifest, device, events, lambda line: _watched(line, criterion, watch)
            )
        except _PrunedError as error:
            return Answer(name, None, str(error), pruned=True)
        except DivergedError as error:  # an answer: these settings are bad; whatever else fails is tried again some day
            return Answer(name, None, str(error))
        value = _value(Run(path), criterion)
        if not math.isfinite(value):
            return Answer(path.name, None, _NOT_FINITE)
        return Answer(path.name, value)

    kept = folder.choice(chain)
    if kept is None:
        choice = choose(folder.study, chain, answer)
        if choice is None:
            raise InputError(f"{chain.name}: every trial diverged; give lower settings, such as optimizer.lr")
        kept = {"chosen": dict(choice.chosen), "trials": [dict(trial) for trial in choice.trials]}
        folder.keep_choice(chain, kept)
        _drop_weights(folder, choice)
    failures = []
    for cell in cells:
        if folder.record(cell) is None:
            try:
                path = _train(folder, cell, kept["chosen"], manifest, device, events)
                folder.keep_record(cell, _record(cell, Run(path), kept["chosen"]))
            except InputError as error:
                keep_error(folder.root, cell.name, str(error))
                failures.append(Failure(cell.name, str(error)))
            except Exception as error:  # whatever it is: told, kept with its traceback, and no other run waits for it
                written = keep_error(folder.root, cell.name, traceback.format_exc())
                failures.append(Failure(cell.name, f"{type(error).__name__}: {error} (see {written})"))
            else:
                forget_error(folder.root, cell.name)
    if not failures:
        forget_error(folder.root, chain.name)
    return failures


def _train(
    folder: StudyFolder,
    cell: Cell,
    chosen: Mapping[str, float],
    manifest: Manifest,
    device: str | None,
    events: Events,
    watch: Events | None = None,
) -> Path:
    """Train a run if it is not finished; return its folder.

    Args:
        folder: The study.
        cell: Whose run it is.
        chosen: Its settings.
        manifest: What it learns from.
        device: In place of `run.device`.
        events: Told what training tells.
        watch: Given the line of `metrics.jsonl` of each epoch, those of an earlier start too; what it raises ends the
            training.
    """
    path = folder.run_folder(cell, chosen)
    if watch is not None:
        for line in Run(path).metrics():
            watch(line)
    if Run(path).finished:
        return path
    clear_unbegun(path)
    begun = (path / runs.CONFIG).is_file()
    if begun:
        # Its name is the hash of what matters; the folder as a whole may lie elsewhere by now.
        config = Run.load(path).config
    else:
        config = cell_config(folder.study, cell, chosen)
        place = str(open_folder(folder.root, f"{cell.chain.hospital.name}/fold-{cell.chain.fold}"))
        config = config.model_copy(update={"data": config.data.model_copy(update={"path": place, "source": "auto"})})
    events({"kind": "begin", "cell": cell.name, "run": path.name})

    def tell(event: dict[str, Any]) -> None:
        events(event)
        if watch is not None and event["kind"] == "epoch":
            watch(event)

    train(config, manifest, out=path, resume=begun, events=tell, device=device)
    (path / runs.LAST_STATE).unlink(missing_ok=True)  # a finished run has nothing to resume
    return path


class _PrunedError(Exception):
    """A trial was ended early."""


def _watched(line: Mapping[str, Any], criterion: str, watch: Watch) -> None:
    """Tell an epoch's value.

    Raises:
        _PrunedError: The trial is to end there.
    """
    epoch, value = int(line["epoch"]) + 1, line[criterion]
    if watch(epoch, math.nan if value is None else float(value)):
        raise _PrunedError(f"ended after {counted(epoch, 'epoch')}: other trials were better there")


_NOT_FINITE = "figures of validation images are not finite"


def _value(run: Run, criterion: str) -> float:
    kept = _environment(run)["kept"]
    value = kept["auroc" if criterion == "val_auroc" else "loss"]
    return math.nan if value is None else float(value)  # JSON has no infinity: None is a loss that is not finite


def _environment(run: Run) -> dict[str, Any]:
    return dict(json.loads((run.folder / runs.ENVIRONMENT).read_text(encoding="utf-8")))


def _record(cell: Cell, run: Run, chosen: Mapping[str, float]) -> dict[str, Any]:
    about, metrics = _environment(run), run.metrics()
    config = run.config
    if not all(math.isfinite(_value(run, criterion)) for criterion in ("val_auroc", "val_loss")):
        raise InputError(_NOT_FINITE)
    return {
        "hospital": cell.chain.hospital.name,
        "network": cell.chain.network.name,
        "pretrained": bool(config.network.pretrained or config.network.checkpoint),
        "optimizer": cell.chain.optimizer.name,
        "fold": cell.chain.fold,
        "budget": cell.budget,
        "seed": cell.seed,
        "run": run.folder.name,
        "settings": config.optimizer.summary(),
        "chosen": dict(chosen),
        "epochs": config.schedule.epochs,
        "val_auroc": about["kept"]["auroc"],
        "val_loss": about["kept"]["loss"],
        "train_loss": metrics[-1]["train_loss"],
        "seconds": about["seconds"],
        "seconds_an_epoch": round(about["seconds"] / config.schedule.epochs, 3),
        "images": len(run.manifest.of_split("train")),
        "device": about["device"],
        "git_commit": about["git_commit"],
    }


def _drop_weights(folder: StudyFolder, choice: Choice) -> None:
    """Remove the weights of trials that were not chosen: their figures stay, and nobody predicts with them."""
    winner = next(trial["run"] for trial in choice.trials if trial["settings"] == choice.chosen)
    for trial in choice.trials:
        run = folder.run_of(trial)
        if trial["run"] != winner and (run.finished or trial.get("pruned")):
            shutil.rmtree((run.folder / runs.LAST_WEIGHTS).parent, ignore_errors=True)
