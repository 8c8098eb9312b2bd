"""A cross-validation from its data to its report, in a folder from which it goes on after a kill."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from medsharp.config import TrainConfig, check_device
from medsharp.data.manifest import Manifest
from medsharp.data.prepare import open_tied, split_as
from medsharp.errors import InputError
from medsharp.evaluation import Evaluation
from medsharp.files import only_writer
from medsharp.progress import Progress
from training.crossvalidation.evaluation import evaluate_units, write_results
from training.crossvalidation.members import is_finished, train_elsewhere, train_here, train_on_devices
from training.crossvalidation.plan import By, Member, settled_config
from training.crossvalidation.pooling import Unit, make_units, member_table
from training.crossvalidation.request import REQUEST, Request
from training.datasets import check_splits
from training.events import Events
from training.reproducibility import select_device
from training.run_folder import Interrupted
from training.settings import check_config, check_network
from training.side_by_side import Failure, HandOut

_LOCK = ".lock"


@dataclass(frozen=True)
class Crossvalidation:
    """What came of it.

    Attributes:
        folder: Where it lies.
        members: All runs.
        failures: Those that could not be trained; then there is nothing but runs.
        units: What was left out, with its predictions.
        evaluations: Of each hospital, and of all pooled as the last.
        written: The files of its results.
    """

    folder: Path
    members: tuple[Member, ...]
    failures: tuple[Failure, ...] = ()
    units: tuple[Unit, ...] = ()
    evaluations: tuple[Evaluation, ...] = ()
    written: tuple[Path, ...] = ()


def crossvalidate(
    config: TrainConfig,
    *,
    out: str | Path,
    by: By,
    folds: int | None = None,
    sensitivity: float = 0.95,
    devices: Sequence[str] = (),
    hand_out: HandOut | None = None,
    events: Events | None = None,
    progress: Progress | None = None,
    opened: Callable[[Manifest], None] | None = None,
) -> Crossvalidation:
    """Train every member that is not finished yet, and evaluate what each leaves out.

    A member is an ordinary run folder under `out`. A second start goes on: what is finished is not trained again, what
    was begun resumes, and what failed is tried anew.

    Args:
        config: What all members share: data, network, optimizer.
        out: The folder, made or gone on with.
        by: What is left out, see `plan_members`.
        folds: In place of `data.folds`.
        sensitivity: What operating points reach on the images that they are chosen on.
        devices: One, in place of `run.device`; or several, each with a process of its own.
        hand_out: Has members trained by others, such as a cluster, in place of this machine.
        events: Called with what happens: `crossvalidation` (`epochs` that remain, `finished`, `members`) once, the
            events of `training.Events` with `member`, and `member` (`member`, `failure`) at the end of each.
        progress: Called while data are opened and read.
        opened: Called with all images, tied, before they are split.

    Raises:
        InputError: Before anything is written, where no member could be trained with this; the folder is in use, is no
            cross-validation, or was started with other settings.
        Interrupted: The user stopped it.
    """
    root, events = Path(out), events or (lambda event: None)
    request = Request(by, sensitivity, settled_config(config, by, folds))
    _check(request, devices)
    begun = (root / REQUEST).is_file()
    if begun:
        request.check_same(root)
    elif root.exists() and (not root.is_dir() or any(file.name != _LOCK for file in root.iterdir())):
        raise InputError(f"{root} exists already and is no cross-validation; choose another folder")
    manifest = None
    if not (begun and request.has_manifest(root)):
        check_network(request.config)
        manifest = open_tied(request.config.data, progress=progress)
        if opened is not None:
            opened(manifest)
        for member in request.members(manifest):
            check_splits(split_as(member.config.data, manifest), member.config)
    made = not root.exists()
    root.mkdir(parents=True, exist_ok=True)
    try:
        with only_writer(root / _LOCK, f"another cross-validation is writing to {root}; wait for it"):
            if manifest is not None:
                request.write(root, request.members(manifest))
                request.keep_manifest(root, manifest)
            return _run(root, request, devices, hand_out, events)
    except KeyboardInterrupt as interrupt:
        raise Interrupted(f"stopped; the same command goes on in {shlex.quote(str(root))}") from interrupt
    finally:
        if made and not (root / REQUEST).exists():
            (root / _LOCK).unlink(missing_ok=True)
            with suppress(OSError):  # what somebody else has put there meanwhile stays
                root.rmdir()


def _check(request: Request, devices: Sequence[str]) -> None:
    if not 0 < request.sensitivity <= 1:
        raise InputError(f"sensitivity {request.sensitivity:g} must be above 0 and at most 1")
    if len(set(devices)) < len(devices):
        raise InputError(f"--devices {','.join(devices)} names a device twice")
    for device in devices:
        try:
            check_device(device)
        except ValueError as error:
            raise InputError(f"--devices: {error}") from error
        select_device(device)
    check_config(request.config)


def _run(
    root: Path, request: Request, devices: Sequence[str], hand_out: HandOut | None, events: Events
) -> Crossvalidation:
    # Read again, so that the first start and every later one have the same.
    manifest = request.manifest(root)
    members = request.members(manifest)
    waiting = [member for member in members if not is_finished(root / member.name)]
    epochs = request.config.schedule.epochs * len(waiting)
    done = len(members) - len(waiting)
    events({"kind": "crossvalidation", "members": len(members), "finished": done, "epochs": epochs})
    if hand_out is not None:
        failures = train_elsewhere(root, waiting, hand_out, events)
    elif len(devices) > 1:
        failures = train_on_devices(root, waiting, devices, events)
    else:
        failures = train_here(root, waiting, manifest, devices[0] if devices else None, events)
    if failures:
        return Crossvalidation(root, members, tuple(failures))
    table = member_table(root, members)
    units = make_units(table, members, request.config, request.sensitivity)
    evaluations = evaluate_units(units, request.config, request.by, manifest.info)
    written = write_results(root, units, table, evaluations)
    return Crossvalidation(root, members, (), tuple(units), tuple(evaluations), tuple(written))
