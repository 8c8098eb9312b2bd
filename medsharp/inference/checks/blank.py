"""Images that show nothing: of one grey, or black but for a few pixels."""

from __future__ import annotations

from medsharp.inference.checks.entry import ImageCheck
from medsharp.inference.checks.picture import Picture

_BLACK = 8


def _spread(picture: Picture) -> float:
    return picture.deviation


def _black(picture: Picture) -> float:
    return float(picture.levels[:_BLACK].sum())


BLANK = ImageCheck(
    "blank",
    "refusal",
    "the image is of one grey: it shows nothing",
    "the standard deviation of the grey levels is below 4 of 255",
    _spread,
    4.0,
    above=False,
    advice="open the file in a viewer: if nothing is seen there either, export the image anew",
)

BLACK = ImageCheck(
    "mostly_black",
    "refusal",
    "almost all of the image is black",
    f"more than 90 % of the pixels are darker than grey level {_BLACK}",
    _black,
    0.9,
    advice="open the file in a viewer: if it is black there too, export the image anew; if the scan is small in a wide "
    "black frame, cut the frame off",
)
