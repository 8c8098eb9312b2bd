"""Small pictures of the images that the model got wrong, for a report that stays where the patients' data are."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image

from medsharp.images import read_image

SIDE = 128
"""Longest side in pixels."""


def thumbnails_of(failures: dict[str, Any], path_of: Callable[[str], Path]) -> dict[str, str]:
    """Return a JPEG of each listed image as a data URI, by image name.

    Args:
        failures: As `failures_of` gives them.
        path_of: The file of an image name.

    Raises:
        InputError: A file cannot be read.
    """
    names = [image["image"] for kind in failures.values() for image in kind["images"]]
    return {name: _thumbnail(path_of(name), name) for name in names}


def _thumbnail(path: Path, name: str) -> str:
    picture = Image.fromarray(read_image(path, name=name).pixels)
    picture.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    picture.save(stream, format="JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode("ascii")
