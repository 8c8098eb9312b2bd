"""Several tests at once."""

from __future__ import annotations

from collections.abc import Sequence


def holm(values: Sequence[float | None]) -> list[float | None]:
    """Return p values adjusted so that a family of tests errs in at most as many studies as a single one would.

    Holm (Scandinavian Journal of Statistics 6, 1979): the i-th smallest of m is multiplied by `m - i + 1`, and none
    becomes smaller than one before it. A missing p value stays missing and does not count.
    """
    known = sorted((value, place) for place, value in enumerate(values) if value is not None)
    adjusted: list[float | None] = [None] * len(values)
    largest = 0.0
    for rank, (value, place) in enumerate(known):
        largest = max(largest, min(1.0, (len(known) - rank) * value))
        adjusted[place] = largest
    return adjusted
