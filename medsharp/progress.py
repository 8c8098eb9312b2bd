"""How long work tells how far it is."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[int, int, str], None]
"""Called with how much is done, how much there is in all, and what is being done."""


def rate_text(per_second: float) -> str:
    """Write a rate with two digits at least, so that slow is not none: `12,340`, `0.42`."""
    return f"{per_second:,.0f}" if per_second >= 10 else f"{per_second:.2g}"
