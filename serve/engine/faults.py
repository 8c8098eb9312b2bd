"""Faults of the server itself in its log: where they happened, and nothing of what it was given."""

from __future__ import annotations

import logging
import traceback

LOG = logging.getLogger("medsharp.serve")


def log_fault(what: str, error: BaseException) -> None:
    """Log an error with the lines that led to it, without its message, which may quote a name or a value.

    Args:
        what: Was being done.
        error: What was raised.
    """
    lines = " < ".join(
        f"{frame.filename}:{frame.lineno} {frame.name}" for frame in reversed(traceback.extract_tb(error.__traceback__))
    )
    LOG.error("%s: %s at %s", what, type(error).__name__, lines)
