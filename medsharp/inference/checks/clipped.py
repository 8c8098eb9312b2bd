"""Images of which much is pure white: gain or window were set so that structure is lost."""

from __future__ import annotations

from medsharp.inference.checks.entry import ImageCheck
from medsharp.inference.checks.picture import Picture

_WHITE = 250


def _white(picture: Picture) -> float:
    return float(picture.levels[_WHITE:].sum())


CHECK = ImageCheck(
    "clipped",
    "caution",
    "much of the image is pure white: structure is lost, by too much gain or a narrow window",
    f"more than 12 % of the pixels are at grey level {_WHITE} or above",
    _white,
    0.12,
)
