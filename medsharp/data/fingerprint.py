"""What cached pixels were made from, as digests: the files, the settings, and the code that made them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from importlib.metadata import version
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from medsharp.errors import InputError
from medsharp.files import sha256_file
from medsharp.preprocess import PreprocessSpec

_DECODERS = ("numpy", "pillow", "pydicom", "scipy")
"""Whose next version may give other pixels."""


def file_digests(paths: Sequence[Path]) -> list[bytes]:
    """Return the SHA-256 of each file, 32 bytes.

    Raises:
        InputError: A file cannot be read.
    """
    with ThreadPoolExecutor() as pool:
        return list(pool.map(_digest, paths))


def recipe_name(spec: PreprocessSpec) -> str:
    """Return a name for how pixels come from a file; it changes with the settings, our own code and the decoders."""
    code = hashlib.sha256()
    package = files("medsharp")
    for name in ("images", "preprocess", "data/lesion.py"):
        for text in _sources(package / name):
            code.update(text)
    about = {"spec": asdict(spec), "code": code.hexdigest(), **{name: version(name) for name in _DECODERS}}
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:16]


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
