"""Images too small to show a lesion, or so small that the network sees them enlarged."""

from __future__ import annotations

from medsharp.inference.checks.entry import ImageCheck
from medsharp.inference.checks.picture import Picture

LEAST = 32
SMALL = 64
"""Pixels of the shorter side."""


def _side(picture: Picture) -> float:
    return float(min(picture.grey.shape))


TOO_SMALL = ImageCheck(
    "too_small",
    "refusal",
    f"the image is smaller than {LEAST} pixels a side: a thumbnail shows no lesion",
    f"the shorter side is below {LEAST} pixels",
    _side,
    LEAST,
    above=False,
    advice="upload the image in full size, as the scanner saved it, not the preview of a list or a report",
)

SMALL_IMAGE = ImageCheck(
    "small",
    "caution",
    f"the image is smaller than {SMALL} pixels a side: the network sees it enlarged, without detail",
    f"the shorter side is below {SMALL} pixels",
    _side,
    SMALL,
    above=False,
)
