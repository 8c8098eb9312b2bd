"""Pieces of work that must not bring each other down: one after another, a process for each device, or elsewhere."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from medsharp.errors import InputError
from medsharp.files import write_text
from training.events import Events
from training.run_folder import Interrupted

ENDED = "ended"
"""The kind of a piece's last event."""

ERRORS = "errors"
"""The folder, in that of the whole, of what was printed by pieces that failed."""


_SAME_CODE = """
import json, runpy, sys
sys.path[:] = json.loads(sys.argv[1])
del sys.argv[:2]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""
"""Runs a module as `-m` does, but found where the process that starts it finds its own: `-m` looks in the working
folder first, and would run whatever checkout lies there."""


@dataclass(frozen=True)
class Failure:
    """A piece of work that failed, and why in a sentence."""

    name: str
    sentence: str


@dataclass(frozen=True)
class Pieces:
    """Pieces of work by name.

    Attributes:
        root: The folder of the whole.
        names: Of what is to be done, in order.
        kind: What a piece is called in events, such as `member`.
        module: What a process of its own runs, with the folder, the name and the device as arguments; it prints events,
            a line of JSON each, of which `refused` with a `sentence` says why it fails, and ends with its parent.
    """

    root: Path
    names: Sequence[str]
    kind: str
    module: str

    def tell_end(self, events: Events, name: str, failure: str) -> None:
        """Tell that a piece is at its end, and why it failed if it did."""
        events({"kind": self.kind, self.kind: name, "failure": failure})

    def named(self, events: Events, name: str) -> Events:
        """Return what tells events with the name of a piece."""
        return lambda event: events({**event, self.kind: name})


def work_here(pieces: Pieces, work: Callable[[str, Events], None], events: Events) -> list[Failure]:
    """Do one piece after another; one that fails does not keep the others from being done.

    Args:
        pieces: What is to be done.
        work: Called with the name of each and with what tells its events.
        events: Told what happens.
    """
    failures = []
    for name in pieces.names:
        sentence = ""
        try:
            work(name, pieces.named(events, name))
        except InputError as error:
            sentence = str(error)
        except Exception as error:  # whatever it is, it is told, kept with its traceback, and ends with code 2
            kept = keep_error(pieces.root, name, traceback.format_exc())
            sentence = f"{type(error).__name__}: {error} (see {kept})"
        if sentence:
            failures.append(Failure(name, sentence))
        pieces.tell_end(events, name, sentence)
    return failures


PieceEvents = Callable[[str, str], Iterator[dict[str, Any]]]
"""Does the piece of a name on a device, in a process of its own, and gives its events, as `piece_events`."""

HandOut = Callable[[Sequence[str], PieceEvents], Iterator[tuple[str, dict[str, Any]]]]
"""Has pieces done by others, and gives each one's events with its name, the last of which is `ended`."""


def work_elsewhere(pieces: Pieces, hand_out: HandOut, events: Events) -> list[Failure]:
    """Have pieces done by other processes, such as a cluster's, which see the folder of the whole.

    Args:
        pieces: What is to be done.
        hand_out: Does it.
        events: Told what happens.
    """
    failures = []
    for name, event in hand_out(pieces.names, partial(piece_events, replace(pieces, root=pieces.root.resolve()))):
        if event["kind"] != ENDED:
            pieces.named(events, name)(event)
            continue
        if event["failure"]:
            failures.append(Failure(name, event["failure"]))
        pieces.tell_end(events, name, event["failure"])
    return failures


def work_on_devices(
    pieces: Pieces, devices: Sequence[str], events: Events, environment: Mapping[str, str] | None = None
) -> list[Failure]:
    """Do pieces in a process each, one at a time for each entry of `devices`.

    Args:
        pieces: What is to be done.
        devices: Such as `cuda:0`, `cuda:1`; one that stands twice has two processes.
        events: Called from several threads, one call at a time.
        environment: Variables of the processes, in addition to those of this one.
    """
    waiting: queue.SimpleQueue[str] = queue.SimpleQueue()
    for name in pieces.names:
        waiting.put(name)
    failures: list[Failure] = []
    lock, stop = threading.Lock(), threading.Event()
    processes: dict[int, subprocess.Popen[str]] = {}

    def tell(event: dict[str, object]) -> None:
        with lock:
            events(event)

    def serve(place: int) -> None:
        while not stop.is_set():
            try:
                name = waiting.get_nowait()
            except queue.Empty:
                return
            sentence = _in_process(pieces, name, devices[place], place, tell, processes, environment or {})
            with lock:
                if sentence and not stop.is_set():
                    failures.append(Failure(name, sentence))
                pieces.tell_end(events, name, sentence)

    threads = [threading.Thread(target=serve, args=(place,)) for place in range(len(devices))]
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


def keep_error(root: Path, name: str, text: str) -> Path:
    """Keep what a piece printed, or its traceback; return the file."""
    path = error_file(root, name)
    write_text(path, text)
    return path


def forget_error(root: Path, name: str) -> None:
    """Remove what `keep_error` kept of a piece that has been done since."""
    error_file(root, name).unlink(missing_ok=True)


def error_file(root: Path, name: str) -> Path:
    """Return where `keep_error` keeps what a piece printed."""
    return root / ERRORS / f"{name.replace('/', '-')}.txt"


def do_piece(work: Callable[[Path, str, str, Events], None], root: str, name: str, device: str) -> int:
    """Do a piece in this process, printing its events; return the exit code.

    Args:
        work: Called with the folder, the name, the device and what tells events.
        root: The folder of the whole.
        name: The piece.
        device: What it is done on.
    """

    def tell(event: dict[str, Any]) -> None:
        print(json.dumps(event), flush=True)

    try:
        work(Path(root), name, device, tell)
    except InputError as error:
        tell({"kind": "refused", "sentence": str(error)})
        return 2
    except Interrupted as interrupt:
        tell({"kind": "refused", "sentence": str(interrupt)})
        return 130
    return 0


def end_with_parent() -> None:
    """End this process where the one that started it has ended, however: its end of standard input is closed then.

    Nothing is lost by it: a run goes on from its last whole epoch, and must not hold its folder against a new start.
    """

    def wait() -> None:
        sys.stdin.read()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _in_process(
    pieces: Pieces,
    name: str,
    device: str,
    place: int,
    events: Events,
    processes: dict[int, subprocess.Popen[str]],
    environment: Mapping[str, str],
) -> str:
    """Do a piece in a process of its own; return why that failed, or nothing."""
    tell, sentence = pieces.named(events, name), ""

    def begun(process: subprocess.Popen[str]) -> None:
        processes[place] = process

    for event in piece_events(pieces, name, device, environment, begun):
        if event["kind"] == ENDED:
            sentence = event["failure"]
        else:
            tell(event)
    del processes[place]
    return sentence


def piece_events(
    pieces: Pieces,
    name: str,
    device: str,
    environment: Mapping[str, str] | None = None,
    begun: Callable[[subprocess.Popen[str]], None] | None = None,
) -> Iterator[dict[str, Any]]:
    """Do a piece in a process of its own, which ends with this one, and give its events.

    Args:
        pieces: That it is of.
        name: Which.
        device: What it is done on; empty for what its settings say.
        environment: Variables in addition to those of this process.
        begun: Called with the process.

    Yields:
        Its events, and at last `ended`, with why it failed as `failure`, or nothing.
    """
    command = [sys.executable, "-c", _SAME_CODE, json.dumps(sys.path), pieces.module, str(pieces.root), name, device]
    sentence, printed = "", list[str]()
    pipe = subprocess.PIPE  # standard input tells it that this process lives
    with subprocess.Popen(
        command, text=True, stdin=pipe, stdout=pipe, stderr=pipe, env={**os.environ, **(environment or {})}
    ) as process:
        if begun is not None:
            begun(process)
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
                yield event
        reader.join()
    if process.returncode != 0 and not sentence:
        kept = keep_error(pieces.root, name, "".join(printed))
        last = next((line.strip() for line in reversed(printed) if line.strip()), f"exit code {process.returncode}")
        sentence = f"{last} (see {kept})"
    yield {"kind": ENDED, "failure": sentence}


def _event_of(line: str) -> dict[str, Any] | None:
    """Return the event that a line of a worker's tells, or None for what a library prints."""
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) and "kind" in event else None
