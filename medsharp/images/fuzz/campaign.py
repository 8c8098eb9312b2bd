"""Many mutated files, each read in a child process under a limit of time and memory that the system enforces."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from medsharp.images.fuzz.mutate import mutate
from medsharp.images.fuzz.seeds import FORMATS, seed_files
from medsharp.images.limits import ImageError
from medsharp.images.read import read_image
from medsharp.progress import Progress

_GRACE = 5.0
"""Seconds beyond the limit after which a child that does not answer is ended from outside."""

_READY = "ready"
_START = 120.0
"""Seconds that a child may take to start."""


@dataclass(frozen=True)
class Trouble:
    """A file that ended otherwise than it must.

    Attributes:
        case: Its number; `case_file` makes it again.
        what: Such as `killed by signal 11` or `raised KeyError`.
    """

    case: int
    what: str


@dataclass(frozen=True)
class Outcome:
    """How the mutated files of a format ended.

    Attributes:
        kind: The format.
        files: How many were read.
        images: How many ended in an image; the others in the one error.
        slowest: Seconds of the slowest.
        peak: Bytes of memory that the reading process had at most, interpreter and libraries included.
        trouble: Those that ended otherwise.
    """

    kind: str
    files: int
    images: int
    slowest: float
    peak: int
    trouble: tuple[Trouble, ...] = field(default=())

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain values."""
        return asdict(self)


def case_file(kind: str, seed: int, case: int) -> bytes:
    """Return the mutated file of a number."""
    return mutate(seed_files(kind), _chance(kind, seed, case))


def run_campaign(
    kind: str,
    files: int,
    *,
    seed: int = 0,
    seconds: float = 2.0,
    memory: int = 2**30,
    progress: Progress | None = None,
) -> Outcome:
    """Read mutated files of a format, each of which must end in an image or an `ImageError`.

    Args:
        kind: A key of `FORMATS`.
        files: How many.
        seed: Of the mutations.
        seconds: That a file may take; the system's timer ends the child then.
        memory: Bytes of address space that the child may have, itself included (`RLIMIT_AS`).
        progress: Called with files done, files in all and what is being done.
    """
    images, slowest, peak, done = 0, 0.0, 0, 0
    trouble: list[Trouble] = []
    # Memory that every thread of a numeric library reserves would count.
    with _environment(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1"):
        while done < files:
            for ended, readable, took, resident, what in _child(kind, seed, done, files, seconds, memory):
                done, images = ended + 1, images + readable
                slowest, peak = max(slowest, took), max(peak, resident)
                if what:
                    trouble.append(Trouble(ended, what))
                if progress is not None and (done % 100 == 0 or done == files):
                    progress(done, files, f"reading mutated {kind}")
    return Outcome(kind, files, images, slowest, peak, tuple(trouble))


def _child(
    kind: str, seed: int, first: int, files: int, seconds: float, memory: int
) -> Iterator[tuple[int, bool, float, int, str]]:
    """Read files from the number `first` on, up to the last or to one that ends the child."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_read_cases, args=(kind, seed, first, files, seconds, memory, theirs), daemon=True)
    process.start()
    theirs.close()
    case = first
    try:
        if not ours.poll(_START) or ours.recv() != _READY:
            raise RuntimeError(f"the child process for {kind} did not start")
        while case < files:
            if not ours.poll(seconds + _GRACE):
                yield case, False, seconds, 0, "did not end"
                return
            yield ours.recv()
            case += 1
    except EOFError:
        process.join()
        signal = -(process.exitcode or 0)
        what = f"took more than {seconds:g} s" if signal == 14 else f"killed by signal {signal}"
        yield case, False, seconds, 0, what
    finally:
        if process.is_alive():
            process.kill()
        process.join()
        ours.close()


def _read_cases(kind: str, seed: int, first: int, files: int, seconds: float, memory: int, answers: Connection) -> None:
    import resource
    import signal

    # Decoders speak on stderr of every damage that they meet.
    with open(os.devnull, "w") as nothing:
        os.dup2(nothing.fileno(), 2)
    sound = seed_files(kind)
    read_image(sound[0])  # libraries load now, so that neither their time nor their size counts for the first file
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    answers.send(_READY)
    for case in range(first, files):
        data = mutate(sound, _chance(kind, seed, case))
        what, readable = "", False
        signal.setitimer(signal.ITIMER_REAL, seconds)  # nobody catches it, so it ends even a decoder that hangs
        start = time.perf_counter()
        try:
            image = read_image(data)
            readable = True
            if image.pixels.dtype != np.uint8 or image.pixels.ndim != 2:
                what = "gave something else than grey pixels"
        except ImageError as error:
            if "\n" in str(error):
                what = "has an error of several lines"
        except BaseException as error:
            what = f"raised {type(error).__name__}"
        took = time.perf_counter() - start
        signal.setitimer(signal.ITIMER_REAL, 0)
        answers.send(
            (case, readable and not what, took, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, what)
        )


def _chance(kind: str, seed: int, case: int) -> np.random.Generator:
    return np.random.default_rng([seed, list(FORMATS).index(kind), case])


@contextmanager
def _environment(**variables: str) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
