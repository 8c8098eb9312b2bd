"""Running a study in a folder from which it goes on after a kill."""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from medsharp import __version__
from medsharp.config import check_device
from medsharp.cores import usable_cores
from medsharp.data.manifest import Manifest
from medsharp.data.prepare import open_tied
from medsharp.errors import InputError
from medsharp.files import only_writer
from medsharp.progress import Progress
from training.datasets import check_splits
from training.environment import git_commit
from training.events import Events
from training.reproducibility import select_device
from training.run_folder import Interrupted
from training.settings import check_config, check_network
from training.side_by_side import Failure, HandOut, Pieces, work_elsewhere, work_here, work_on_devices
from training.study.chains import is_done, train_chain
from training.study.code import code_digest
from training.study.dealing import data_config, deal
from training.study.definition import StudyDefinition
from training.study.folder import LOCK, StudyFolder, accept_code, register
from training.study.forecast import Forecast, forecast
from training.study.open_data import read_open
from training.study.plan import cell_config, check_fair, plan_cells, plan_chains
from training.study.worker import raise_failures

_WORKER = "training.study.worker"


@dataclass(frozen=True)
class Outcome:
    """What came of it.

    Attributes:
        folder: The study.
        failures: Chains, or cells of them, that could not be trained; the next start tries them again.
        forecast: How far it is.
    """

    folder: StudyFolder
    failures: tuple[Failure, ...]
    forecast: Forecast


def run_study(
    study: StudyDefinition,
    *,
    out: str | Path,
    devices: Sequence[str] = (),
    hand_out: HandOut | None = None,
    new_code: bool = False,
    events: Events | None = None,
    progress: Progress | None = None,
    opened: Callable[[Manifest], None] | None = None,
    registered: Callable[[StudyFolder], None] | None = None,
) -> Outcome:
    """Train every run of a study that is not finished yet.

    What is tested is sealed before the first run, see `training.study.sealed`; nothing that trains or chooses reads it.

    Args:
        study: What is compared.
        out: The folder, made or gone on with.
        devices: One in place of `run.device`; or several, each with a process of its own; two where it stands twice.
        hand_out: Has chains done by others, such as a cluster, in place of this machine.
        new_code: Go on with code other than that the study was begun with: runs that are finished stay.
        events: Called with what happens: `study` (the `Forecast`'s fields) once and after each chain, the events of
            `training.Events` and `begin` (`cell`, `run`) with `chain`, and `chain` (`chain`, `failure`).
        progress: Called while data are opened and read.
        opened: Called with all images, tied, before they are dealt.
        registered: Called with the folder before anything is trained.

    Raises:
        InputError: Before anything is written, where no run could be trained with this; the folder is in use, is no
            study's, or that of another study, or of other code.
        Interrupted: The user stopped it.
    """
    root, events = Path(out), events or (lambda event: None)
    _check(study, devices)
    made = not root.exists()
    if not StudyFolder.begun(root) and not made and (not root.is_dir() or any(_foreign(root))):
        raise InputError(f"{root} exists already and is not the folder of a study; choose another folder")
    if StudyFolder.begun(root):
        _check_same(StudyFolder.open(root), study, new_code)
    root.mkdir(parents=True, exist_ok=True)
    try:
        with (
            only_writer(root / LOCK, f"another process trains the study in {root}; wait for it"),
            _unregistered_goes(root, made),
        ):
            if StudyFolder.begun(root):
                folder = StudyFolder.open(root)
                folder = accept_code(folder) if new_code and folder.codes[-1] != code_digest() else folder
            else:
                folder = _begin(root, study, progress, opened)
            if registered is not None:
                registered(folder)
            return _run(folder, devices, hand_out, events)
    except KeyboardInterrupt as interrupt:
        raise Interrupted(f"stopped; the same command goes on in {shlex.quote(str(root))}") from interrupt


@contextmanager
def _unregistered_goes(root: Path, made: bool) -> Iterator[None]:
    """Remove what was dealt for a study that did not come to be registered, and the folder if it was made for it.

    Whoever has the lock may: without it, these may be the parts that another process is dealing.
    """
    try:
        yield
    finally:
        if not StudyFolder.begun(root):
            for name in _UNREGISTERED:
                shutil.rmtree(root / name, ignore_errors=True)
            if made:
                (root / LOCK).unlink(missing_ok=True)
                with suppress(OSError):  # what somebody else has put there meanwhile stays
                    root.rmdir()


_UNREGISTERED = ("open", "sealed")


def _foreign(root: Path) -> list[str]:
    """Return what lies in a folder that no study leaves which was killed before it was registered."""
    ours = {LOCK, "study.yaml", *_UNREGISTERED}
    return [file.name for file in root.iterdir() if file.name not in ours and not file.name.startswith(".")]


def _check(study: StudyDefinition, devices: Sequence[str]) -> None:
    for device in devices:
        try:
            check_device(device)
        except ValueError as error:
            raise InputError(f"--devices: {error}") from error
        select_device(device)
    check_fair(study)
    for chain in plan_chains(study):
        if chain.fold == study.fold_numbers[0]:
            for cell in plan_cells(study, chain):
                check_config(cell_config(study, cell, {}))


def _check_same(folder: StudyFolder, study: StudyDefinition, new_code: bool) -> None:
    if folder.study.digest() != study.digest():
        raise InputError(
            f"{folder.root} is of another study, or this one was changed since (SHA-256 {folder.study.digest()[:12]} "
            f"there, {study.digest()[:12]} here); choose another folder, as what was registered stays"
        )
    if folder.codes[-1] != code_digest() and not new_code:
        raise InputError(
            f"{folder.root} was begun with other code ({folder.codes[-1]} there, {code_digest()} here; commit "
            f"{folder.registration['git_commit'] or 'not known'}); go on with that, or accept two versions in one "
            "study: --new-code"
        )


def _begin(
    root: Path, study: StudyDefinition, progress: Progress | None, opened: Callable[[Manifest], None] | None
) -> StudyFolder:
    for network in study.networks:  # weights are looked for before the data are: an audit may take minutes
        chain = next(chain for chain in plan_chains(study) if chain.network == network)
        check_network(cell_config(study, plan_cells(study, chain)[0], {}))
    manifest = open_tied(data_config(study), progress=progress)
    if opened is not None:
        opened(manifest)
    digests = deal(root, study, manifest)
    for chain in plan_chains(study):
        config = cell_config(study, plan_cells(study, chain)[0], {})
        check_splits(read_open(root, f"{chain.hospital.name}/fold-{chain.fold}"), config)
    about = {
        "begun": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "medsharp": __version__,
        "git_commit": git_commit(),
        "sources": {key: getattr(manifest.info, key) for key in ("name", "source", "licence", "citation", "doi")},
    }
    return register(root, study, digests, about)


def _run(folder: StudyFolder, devices: Sequence[str], hand_out: HandOut | None, events: Events) -> Outcome:
    chains = {chain.name: chain for chain in plan_chains(folder.study)}
    waiting = [name for name, chain in chains.items() if not is_done(folder, chain)]
    pieces = Pieces(folder.root, waiting, "chain", _WORKER)
    _tell(folder, events)

    def told(event: dict[str, object]) -> None:
        events(event)
        if event["kind"] == "chain":
            _tell(folder, events)

    if hand_out is not None:
        failures = work_elsewhere(pieces, hand_out, told)
    elif len(devices) > 1:
        # Processes that share cores would wait for each other's threads.
        threads = str(max(1, usable_cores() // len(devices)))
        own = {} if "OMP_NUM_THREADS" in os.environ else {"OMP_NUM_THREADS": threads}
        failures = work_on_devices(pieces, devices, told, own)
    else:
        device = devices[0] if devices else None
        failures = work_here(
            pieces, lambda name, tell: raise_failures(train_chain(folder, chains[name], device, tell)), told
        )
    return Outcome(folder, tuple(failures), forecast(folder))


def _tell(folder: StudyFolder, events: Events) -> None:
    events({"kind": "study", **vars(forecast(folder))})
