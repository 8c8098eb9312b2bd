"""Lesion sizes, where the table has them: images in thirds from the smallest lesions to the largest."""

from __future__ import annotations

import numpy as np
import pandas as pd

from medsharp.errors import InputError
from medsharp.evaluation.grouping import Group, numbers_of, thirds
from medsharp.evaluation.predictions import text_of

COLUMNS = ("lesion_size_mm", "lesion_size", "lesion_area_mm2", "lesion_area")
"""Where a size may stand, whichever comes first: a length, or an area, in any unit, such as a share of the image."""

_REMEDY = "give a size as a number, or nothing"


def size_groups(rows: pd.DataFrame) -> list[Group]:
    """Return thirds of the images by lesion size, and those without a size where there are any.

    Raises:
        InputError: A size is not a number or is negative; the sentence names the image.
    """
    column = next((name for name in COLUMNS if (text_of(rows, name) != "").any()), None)
    if column is None:
        return []
    sizes = numbers_of(rows, column, _REMEDY)
    negative = np.flatnonzero(sizes < 0)
    if len(negative):
        first = int(negative[0])
        text = text_of(rows, column).iloc[first]
        raise InputError(f"{rows['image'].iloc[first]}: {column} is '{text}'; {_REMEDY}")
    return thirds(sizes, ("smallest", "middle", "largest"))
