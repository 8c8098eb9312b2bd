"""What columns of a table that somebody brings mean, by their headings in whatever case and words."""

from __future__ import annotations

import re
from collections.abc import Iterable

import numpy as np
import pandas as pd

from medsharp.errors import InputError
from medsharp.keys import name_key

_ALIASES = {"patientid": "patient", "patientno": "patient", "patientnumber": "patient", "mrn": "patient"}
"""Headings that say the same in other words, in small letters without separators."""


def known_names(headings: Iterable[str], known: Iterable[str]) -> dict[str, str]:
    """Return the right name of each heading that means a known column: `BI-RADS` is `birads`, `MRN` is `patient`.

    Args:
        headings: Of a table.
        known: The right names.
    """
    right = {_bare(name): name for name in known}
    right |= {alias: name for alias, name in _ALIASES.items() if name in right.values()}
    return {name: right[_bare(name)] for name in headings if _bare(name) in right}


def with_known_names(table: pd.DataFrame, known: Iterable[str], file: str) -> pd.DataFrame:
    """Return a table whose known columns have their right names.

    Of several that mean the same and say the same, the one that has the name, or the first, is kept.

    Args:
        table: Text; the index is the row in the file less 2.
        known: The right names.
        file: To name in errors.

    Raises:
        InputError: Two columns mean the same and say different things; the sentence names both and the row.
    """
    names = known_names(map(str, table), known)
    kept: dict[str, str] = {}
    for heading in sorted(names, key=lambda heading: heading != names[heading]):  # the right name first
        first = kept.setdefault(names[heading], heading)
        differ = np.flatnonzero((table[heading] != table[first]).to_numpy())
        if len(differ):
            row = int(table.index[differ[0]]) + 2
            raise InputError(
                f"{file}: columns '{first}' and '{heading}' both mean {names[heading]} and differ, first in row {row}; "
                "keep one of them"
            )
    dropped = [heading for heading in names if kept[names[heading]] != heading]
    return table.drop(columns=dropped).rename(columns={heading: name for name, heading in kept.items()})


def _bare(name: str) -> str:
    return re.sub("[ _-]", "", name_key(name))
