"""Small pictures of the images that the model got wrong, for a report that stays where the patients' data are."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from typing import Any

from PIL import Image

from medsharp.images import DecodedImage

SIDE = 128
"""Longest side in pixels."""


def thumbnails_of(failures: dict[str, Any], image_of: Callable[[str], DecodedImage]) -> dict[str, str]:
    """Return a JPEG of each listed image as a data URI, by image name.

    Args:
        failures: As `failures_of` gives them.
        image_of: Decodes the image of a name.

    Raises:
        InputError: A file cannot be read.
    """
    names = [image["image"] for kind in failures.values() for image in kind["images"]]
    return {name: _thumbnail(image_of(name)) for name in names}


def _thumbnail(image: DecodedImage) -> str:
    picture = Image.fromarray(image.pixels)
    picture.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    picture.save(stream, format="JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode("ascii")
