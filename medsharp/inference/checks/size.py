"""Images too small to show a lesion."""

from __future__ import annotations

from medsharp.inference.checks.entry import ImageCheck
from medsharp.inference.checks.picture import Picture

LEAST = 64
"""Pixels of the shorter side."""


def _side(picture: Picture) -> float:
    return float(min(picture.grey.shape))


CHECK = ImageCheck(
    "too_small",
    "refusal",
    f"the image is smaller than {LEAST} pixels a side: a thumbnail shows no lesion",
    f"the shorter side is below {LEAST} pixels",
    _side,
    LEAST,
    above=False,
)
