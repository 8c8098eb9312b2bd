"""What a cached image was made from: the file, the settings, the code that made it, and the decoders it used."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from PIL import features

from medsharp.errors import InputError
from medsharp.files import sha256_file

DECODERS = (
    "gdcm",
    "imagecodecs",
    "imagehash",
    "numpy",
    "pillow",
    "pydicom",
    "pyjpegls",
    "pylibjpeg",
    "pylibjpeg-libjpeg",
    "pylibjpeg-openjpeg",
    "pylibjpeg-rle",
    "python-gdcm",
    "scipy",
)
"""Distributions whose presence or next version may give other pixels."""

_CODECS = ("jpg", "jpg_2000", "libtiff", "webp", "zlib", "libjpeg_turbo")
"""Libraries that Pillow is built with: a distribution's own build may have others than the wheel of that version."""


def file_digests(paths: Sequence[Path]) -> list[bytes]:
    """Return the SHA-256 of each file, 32 bytes; a file that is named several times is read once.

    Raises:
        InputError: A file cannot be read.
    """
    several = list(dict.fromkeys(paths))
    with ThreadPoolExecutor() as pool:
        known = dict(zip(several, pool.map(_digest, several), strict=True))
    return [known[path] for path in paths]


def cache_recipe(settings: Mapping[str, Any], sources: Sequence[str]) -> str:
    """Return a name for how cached images are made; it changes with whatever may change a pixel.

    Args:
        settings: What the code is told, as plain values.
        sources: Files and folders of the package, such as `images` or `data/lesion.py`, that hold the code.
    """
    code = hashlib.sha256()
    package = files("medsharp")
    for name in sources:
        for text in _sources(package / name):
            code.update(text)
    about = {
        "settings": dict(settings),
        "code": code.hexdigest(),
        "decoders": {name: _version(name) for name in DECODERS},
        "codecs": {name: features.version(name) for name in _CODECS if name in _known_features()},
    }
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:16]


def _known_features() -> set[str]:
    return {*features.codecs, *features.features, *features.modules}


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _digest(path: Path) -> bytes:
    try:
        return bytes.fromhex(sha256_file(path))
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error


def _sources(place: Traversable) -> list[bytes]:
    if place.is_dir():
        inside = sorted(place.iterdir(), key=lambda item: item.name)
        return [text for item in inside if item.is_dir() or item.name.endswith(".py") for text in _sources(item)]
    return [place.read_bytes()] if place.is_file() else []
