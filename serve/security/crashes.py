"""What is logged when something goes wrong: where in the code, and never a value, since a value may be a name."""

from __future__ import annotations

import logging
import traceback
import warnings
from types import TracebackType
from typing import TextIO

_log = logging.getLogger("medsharp.serve")
_OWN_WORDS = frozenset({"medsharp", "serve", "uvicorn"})


def log_fault(what: str, error: BaseException) -> None:
    """Log a fault of the server: the kinds of the errors and the lines that led to them, without their words.

    Args:
        what: Was being done.
        error: What was raised.
    """
    _log.error("%s: %s", what, places(error))


def places(error: BaseException) -> str:
    """Write an error as its type and the lines that it came through, innermost last, causes first.

    The words of an error quote what it is about: a file's name, a value of a DICOM header.
    """
    chain: list[BaseException] = []
    one: BaseException | None = error
    while one is not None and one not in chain:
        chain.append(one)
        one = one.__cause__ or (None if one.__suppress_context__ else one.__context__)
    return "\n".join(f"{type(one).__name__}\n{_frames(one.__traceback__)}" for one in reversed(chain)).rstrip()


def _frames(trace: TracebackType | None) -> str:
    return "".join(f"  {frame.filename}:{frame.lineno} in {frame.name}\n" for frame in traceback.extract_tb(trace))


class PlacesOnly(logging.Formatter):
    """Formats a record without the words of the error that goes with it.

    Of a package that is not known to say nothing of what it works on, its place stands for its words.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Write a record as one line, and the places of its error below it."""
        is_ours = record.name.split(".")[0] in _OWN_WORDS
        words = record.getMessage() if is_ours else f"at {record.pathname}:{record.lineno}"
        error = record.exc_info[1] if record.exc_info else None
        below = "" if error is None else f"\n{places(error)}"
        return f"{record.levelname} {record.name}: {words}{below}"


def quiet_logging() -> None:
    """Have every log and warning of this process go to standard error without a value of what is worked on."""
    handler = logging.StreamHandler()
    handler.setFormatter(PlacesOnly())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    warnings.showwarning = _show_place


def _show_place(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    _log.warning("%s at %s:%d", category.__name__, filename, lineno)
