"""Which code a run comes from: a digest of the source that decides what is trained, and of what it stands on."""

from __future__ import annotations

import hashlib
import importlib.metadata
from functools import cache
from pathlib import Path

import medsharp
import training

_LIBRARIES = ("torch", "timm", "monai", "numpy")
_LIBRARY_ROOMS = ("optim", "networks", "data", "images", "preprocess")
_LIBRARY_FILES = ("config.py", "optimizer_config.py", "recipes.py", "settings.py", "keys.py", "runs.py")
_NOT_IN_A_RUN = ("phantom", "benchmark", "audit")


@cache
def code_digest() -> str:
    """Return 16 digits of the SHA-256 of the sources that a run depends on, and of the versions of libraries.

    Pages, reports, statistics and the command line are no part of it: a study may go on when those are mended.
    """
    root, own = Path(medsharp.__file__).parent, Path(training.__file__).parent
    files = [file for room in _LIBRARY_ROOMS for file in (root / room).rglob("*.py")]
    files = [file for file in files if not set(_NOT_IN_A_RUN) & set(file.relative_to(root).parts)]
    files += [root / name for name in _LIBRARY_FILES]
    files += own.glob("*.py")
    digest = hashlib.sha256()
    for file in sorted(files):
        digest.update(f"{file.relative_to(root.parent if root in file.parents else own.parent)}\n".encode())
        digest.update(file.read_bytes())
    for name in _LIBRARIES:
        digest.update(f"{name} {importlib.metadata.version(name)}\n".encode())
    return digest.hexdigest()[:16]
