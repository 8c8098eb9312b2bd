"""Several tests at once."""

from __future__ import annotations

from collections.abc import Sequence


def holm(values: Sequence[float | None]) -> list[float | None]:
    """Return p values adjusted so that a family of tests errs in at most as many studies as a single one would.

    Holm (Scandinavian Journal of Statistics 6, 1979), by statsmodels. A missing p value stays missing and does not
    count.
    """
    known = [value for value in values if value is not None]
    if len(known) < 2:
        return list(values)
    # Loads in a second, which the usual comparison of two models need not wait for.
    from statsmodels.stats.multitest import multipletests

    adjusted = iter(multipletests(known, method="holm")[1].tolist())
    return [None if value is None else float(next(adjusted)) for value in values]
