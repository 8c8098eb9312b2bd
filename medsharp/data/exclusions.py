"""Why images are left out, counted: one sentence a kind of reason."""

from __future__ import annotations

import pandas as pd


def count_exclusions(reasons: pd.Series) -> dict[str, int]:
    """Count reasons; those that name a file or another image are counted without the name.

    Args:
        reasons: Of the column `exclude`; empty where an image is not left out.

    Returns:
        Number of images by kind of reason, the most frequent first.
    """
    kinds = reasons[reasons != ""].str.replace(r"^(unreadable):.*", r"\1", regex=True)
    kinds = kinds.str.replace(r"^((?:.* )?duplicate) of .*", r"\1", regex=True)
    return {str(reason): int(count) for reason, count in kinds.value_counts().items()}
