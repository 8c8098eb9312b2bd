"""Several tests at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def holm(values: Sequence[float | None]) -> list[float | None]:
    """Return p values adjusted so that a family of tests errs in at most as many studies as a single one would.

    Holm (Scandinavian Journal of Statistics 6, 1979): of m p values in ascending order, `max_{i <= j} (m - i + 1) p_i`,
    1 at most. A missing p value stays missing and does not count.
    """
    known = np.array([value for value in values if value is not None], dtype=np.float64)
    order = np.argsort(known)
    adjusted = np.empty_like(known)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(known[order] * np.arange(len(known), 0, -1)))
    ordered = iter(adjusted.tolist())
    return [None if value is None else next(ordered) for value in values]
