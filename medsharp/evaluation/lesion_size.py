"""Lesion sizes, where the table has them: images in thirds from the smallest lesions to the largest."""

from __future__ import annotations

import numpy as np
import pandas as pd

from medsharp.errors import InputError
from medsharp.evaluation.predictions import text_of

COLUMNS = ("lesion_size_mm", "lesion_size", "lesion_area_mm2", "lesion_area")
"""Where a size may stand, whichever comes first: a length, or an area, in any unit, such as a share of the image."""


def size_groups(rows: pd.DataFrame) -> list[tuple[str, np.ndarray]]:
    """Return thirds of the images by lesion size as name and mask [N], and those without a size where there are any.

    The limits come from these very images, so thirds of two data sets are not of the same size.

    Raises:
        InputError: A size is not a number or is negative; the sentence names the row of the table as it was read.
    """
    column = next((name for name in COLUMNS if (text_of(rows, name) != "").any()), None)
    if column is None:
        return []
    text = text_of(rows, column)
    sizes = pd.to_numeric(text.where(text != ""), errors="coerce").to_numpy(dtype=float)
    wrong = np.flatnonzero((text != "").to_numpy() & ~(np.isfinite(sizes) & (sizes >= 0)))
    if len(wrong):
        first = int(wrong[0])
        raise InputError(
            f"{rows['image'].iloc[first]}: {column} is '{text.iloc[first]}'; give a size as a number, or nothing"
        )
    known = np.isfinite(sizes)
    low, high = np.quantile(sizes[known], [1 / 3, 2 / 3])
    if low == high:
        return []
    # NaN compares as False, so that images without a size are in no third.
    groups = [
        (f"smallest third (up to {low:.3g})", sizes <= low),
        (f"middle third ({low:.3g} to {high:.3g})", (sizes > low) & (sizes <= high)),
        (f"largest third (above {high:.3g})", sizes > high),
    ]
    if not known.all():
        groups.append(("not recorded", ~known))
    return groups
