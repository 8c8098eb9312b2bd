"""Images darker or brighter than those that the model knows."""

from __future__ import annotations

from medsharp.inference.checks.entry import ImageCheck
from medsharp.inference.checks.picture import Picture


def _mean(picture: Picture) -> float:
    return picture.mean


DARK = ImageCheck(
    "dark",
    "caution",
    "very dark, compared with the images that the model knows",
    "the mean grey level lies below that of all but 0.5 % of the bundle's own images",
    _mean,
    None,
    above=False,
    fitted=True,
)

BRIGHT = ImageCheck(
    "bright",
    "caution",
    "very bright, compared with the images that the model knows",
    "the mean grey level lies above that of all but 0.5 % of the bundle's own images",
    _mean,
    None,
    fitted=True,
)
