"""All checks, in the order in which they are asked: an image is told its first refusal."""

from __future__ import annotations

from medsharp.inference.checks import blank, brightness, clipped, colour, size, two_views, ultrasound
from medsharp.inference.checks.entry import ImageCheck

IMAGE_CHECKS: tuple[ImageCheck, ...] = (
    size.TOO_SMALL,
    blank.BLANK,
    blank.BLACK,
    ultrasound.CHECK,
    colour.COLOURED,
    colour.DOPPLER,
    size.SMALL_IMAGE,
    two_views.CHECK,
    clipped.CHECK,
    brightness.DARK,
    brightness.BRIGHT,
)
"""Of the picture alone. Every bundle has those that have a limit here."""
