"""All checks, in the order in which they are asked: an image is told its first refusal."""

from __future__ import annotations

from medsharp.inference.checks import blank, clipped, colour, size, two_views, ultrasound
from medsharp.inference.checks.entry import ImageCheck

IMAGE_CHECKS: tuple[ImageCheck, ...] = (
    size.CHECK,
    blank.BLANK,
    blank.BLACK,
    ultrasound.CHECK,
    colour.COLOURED,
    colour.DOPPLER,
    two_views.CHECK,
    clipped.CHECK,
)
"""Of the picture alone: every bundle has them."""
