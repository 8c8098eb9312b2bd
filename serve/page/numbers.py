"""How numbers are written on the page."""

from __future__ import annotations

from collections.abc import Sequence


def percent(value: float) -> str:
    """Write a share as people read it; what is rounded is never 0 % or 100 %."""
    if 0.0 < value < 0.001:
        return "< 0.1\N{NO-BREAK SPACE}%"
    if 0.999 < value < 1.0:
        return "> 99.9\N{NO-BREAK SPACE}%"
    return f"{100 * value:.1f}\N{NO-BREAK SPACE}%"


def interval(limits: Sequence[float]) -> str:
    """Write a 95 % interval of a share."""
    low, high = limits
    return f"95\N{NO-BREAK SPACE}% interval {percent(low)} to {percent(high)}"


def probability_beside(value: float, threshold: float) -> str:
    """Write a probability, never as 0 % or 100 %, which no model may claim, and never as the operating point it misses.

    Args:
        value: The probability.
        threshold: The operating point, which is shown beside it by `percent`.
    """
    shown = percent(min(max(value, 1e-9), 1 - 1e-9))
    if value < threshold and shown == percent(threshold):
        return f"just below {shown}"
    return shown


def out_of(share: float) -> str:
    """Write a share as so many of a few: `about 4 of 5`; the fewest, at most ten, that are within 1.5 points of it."""
    of, most = next(
        ((count, round(share * count)) for count in range(1, 11) if abs(round(share * count) / count - share) <= 0.015),
        (10, round(share * 10)),
    )
    if of == 1:
        return "nearly all" if most else "hardly any"
    return f"about {most} of {of}"


def noun(positive: str) -> str:
    """Turn the name of the positive class into what the probability is of."""
    return {"malignant": "malignancy"}.get(positive, positive)


def sentence(words: str) -> str:
    """Give words a capital and a full stop."""
    words = words.strip()
    return words[:1].upper() + words[1:] + ("" if words.endswith((".", "!", "?")) else ".")
