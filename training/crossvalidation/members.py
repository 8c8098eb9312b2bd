"""Training the members of a cross-validation: one after another, or a process for each device."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from medsharp import runs
from medsharp.data.manifest import Manifest
from medsharp.data.prepare import split_as
from training.crossvalidation.plan import Member
from training.events import Events
from training.loop import train
from training.run_folder import clear_unbegun
from training.side_by_side import Failure, Pieces, work_here, work_on_devices

_WORKER = "training.crossvalidation.worker"


def is_finished(folder: Path) -> bool:
    """Whether a member's run came to its end."""
    return (folder / runs.PREDICTIONS).is_file()


def train_member(folder: Path, member: Member, manifest: Manifest, device: str | None, events: Events) -> None:
    """Train a member, from where it stopped if it was begun.

    Raises:
        InputError: As `training.train`.
    """
    clear_unbegun(folder)
    begun = (folder / runs.CONFIG).is_file()
    train(
        member.config,
        split_as(member.config.data, manifest),
        out=folder,
        resume=begun,
        events=events,
        device=device,
    )


def train_here(
    root: Path, members: Sequence[Member], manifest: Manifest, device: str | None, events: Events
) -> list[Failure]:
    """Train members one after another; one that fails does not keep the others from being trained."""
    by_name = {member.name: member for member in members}
    return work_here(
        _pieces(root, members),
        lambda name, tell: train_member(root / name, by_name[name], manifest, device, tell),
        events,
    )


def train_on_devices(root: Path, members: Sequence[Member], devices: Sequence[str], events: Events) -> list[Failure]:
    """Train members in a process each, one at a time on each device.

    Args:
        root: The cross-validation's folder, whose plan and manifest the processes read.
        members: To be trained.
        devices: Such as `cuda:0`, `cuda:1`.
        events: Called from several threads, one call at a time.
    """
<<<<<<< HEAD
    waiting: queue.SimpleQueue[Member] = queue.SimpleQueue()
    for member in members:
        waiting.put(member)
    failures: list[Failure] = []
    lock, stop = threading.Lock(), threading.Event()
    processes: dict[str, subprocess.Popen[str]] = {}

    def tell(event: dict[str, object]) -> None:
        with lock:
            events(event)

    def serve(device: str) -> None:
        while not stop.is_set():
            try:
                member = waiting.get_nowait()
            except queue.Empty:
                return
            sentence = _in_process(root, member.name, device, tell, processes)
            with lock:
                if sentence and not stop.is_set():
                    failures.append(Failure(member.name, sentence))
                _tell_end(events, member.name, failures)

    threads = [threading.Thread(target=serve, args=(device,)) for device in devices]
    for thread in threads:
        thread.start()
    try:
        for thread in threads:
            while thread.is_alive():
                thread.join(timeout=0.2)  # short, so that an interrupt is heard
    except BaseException:
        stop.set()
        for process in list(processes.values()):  # threads take theirs out
            process.terminate()
        for thread in threads:
            thread.join()
        raise
    return failures


def _in_process(root: Path, name: str, device: str, events: Events, processes: dict[str, subprocess.Popen[str]]) -> str:
    """Train a member in a process of its own; return why that failed, or nothing."""
    command = [sys.executable, "-m", _WORKER, str(root), name, device]
    sentence, printed = "", list[str]()
    pipe = subprocess.PIPE  # standard input tells it that this process lives
    with subprocess.Popen(command, text=True, stdin=pipe, stdout=pipe, stderr=pipe) as process:
        processes[device] = process
        assert process.stdout is not None
        assert process.stderr is not None
        errors = process.stderr
        reader = threading.Thread(target=lambda: printed.extend(errors))  # or a full pipe would stop the process
        reader.start()
        for line in process.stdout:
            event = _event_of(line)
            if event is None:
                printed.append(line)
            elif event["kind"] == "refused":
                sentence = event["sentence"]
            else:
                events({**event, "member": name})
        reader.join()
    del processes[device]
    if process.returncode == 0 or sentence:
        return sentence
    kept = _keep_error(root, name, "".join(printed))
    last = next((line.strip() for line in reversed(printed) if line.strip()), f"exit code {process.returncode}")
    return f"{last} (see {kept})"


def _event_of(line: str) -> dict[str, Any] | None:
    """Return the event that a line of a worker's tells, or None for what a library prints."""
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) and "kind" in event else None


def _keep_error(root: Path, name: str, text: str) -> Path:
    path = root / ERRORS / f"{name.replace('/', '-')}.txt"
    write_text(path, text)
    return path


def _tell_end(events: Events, name: str, failures: Sequence[Failure]) -> None:
    sentence = failures[-1].sentence if failures and failures[-1].name == name else ""
    events({"kind": "member", "member": name, "failure": sentence})


def _named(events: Events, name: str) -> Events:
    return lambda event: events({**event, "member": name})


def _clear_unbegun(folder: Path) -> None:
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


_UNBEGUN = frozenset({".lock", "manifest.csv", "manifest.yaml"})
=======
    return work_on_devices(_pieces(root, members), devices, events)


def _pieces(root: Path, members: Sequence[Member]) -> Pieces:
    return Pieces(root, [member.name for member in members], "member", _WORKER)
>>>>>>> a54fb59 (medsharp study: optimizers compared on a grid of runs that goes on after a kill, with verdicts by a rule fixed beforehand)
