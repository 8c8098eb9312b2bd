"""The one exception that means: what the user gave is wrong, and this sentence says what and how to mend it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """Wrong input from a user: one sentence that names the file, row or key, and the remedy.

    The command line prints it without a traceback and exits with code 2; the HTTP API answers 422.
    """


class ToldElsewhereError(InputError):
    """Another of several processes was given wrong input, and prints the sentence; this one ends with the same code."""


_LEAST_PART = 3


def nearest(name: str, known: Iterable[str], count: int = 3) -> str:
    """Say which known names are close to `name`, as the end of an error sentence.

    Args:
        name: What the user wrote.
        known: The names that would have been right.
        count: How many suggestions to give at most.

    Returns:
        `"; did you mean a, b?"`, or `"; choose from a, b, c"` when nothing is close and the list is short, or `""`.
    """
    names = sorted(set(known))
    close = difflib.get_close_matches(name, names, n=count, cutoff=0.6)
    if not close and len(name) >= _LEAST_PART:
        # A part of a long name, such as `jpeg` of `jpeg_compression`, is far from it by its letters.
        close = [known for known in names if name.casefold() in known.casefold()][:count]
    if close:
        return f"; did you mean {', '.join(close)}?"
    if 0 < len(names) <= 20:
        return f"; choose from {', '.join(names)}"
    return ""
