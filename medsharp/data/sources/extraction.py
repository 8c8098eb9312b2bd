"""Data sets that are one file: their images are written once into a cache folder, where everything else finds files."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from medsharp.data.manifest import Manifest, read_manifest, write_manifest
from medsharp.errors import InputError
from medsharp.files import cache_folder, sha256_file


def extracted(file: Path, name: str, recipe: int, make: Callable[[Path], Manifest]) -> Manifest:
    """Return the manifest of the images in a file, writing them the first time.

    Beside the manifest lie the images as PNG. The folder's name holds the hash of the file and the number of the
    recipe, so that a changed file, or a changed way of making images, is not taken for the old one. Several processes
    may do so at once: the first to finish wins, and the bytes are the same. Its owner alone may enter the folder, and
    `medsharp data cache --clear` removes it.

    Args:
        file: What holds the images.
        name: Of the data set.
        recipe: Of `make`, to be counted up when its images change.
        make: Writes images into a folder and returns their manifest.

    Raises:
        InputError: The cache cannot be written or made private.
    """
    cache = cache_folder()
    folder = cache / f"{name}-{recipe}-{sha256_file(file)[:16]}"
    if not (folder / "manifest.csv").is_file():
        temporary: Path | None = None
        try:
            cache.mkdir(parents=True, exist_ok=True)
            temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=cache))
            inside = temporary / "data"
            inside.mkdir(mode=0o700)
            write_manifest(make(inside), inside)
            # A folder that is not empty cannot be renamed over.
            inside.rename(folder)
        except OSError as error:
            if not (folder / "manifest.csv").is_file():
                raise InputError(f"cannot write {folder}: {error.strerror}; set XDG_CACHE_HOME elsewhere") from error
        finally:
            if temporary is not None:
                shutil.rmtree(temporary, ignore_errors=True)
    else:
        _make_private(folder)
    return read_manifest(folder)


def _make_private(folder: Path) -> None:
    """Close a folder that an earlier version left open to all."""
    try:
        if folder.stat().st_mode & 0o077:
            folder.chmod(0o700)
    except OSError as error:
        raise InputError(f"cannot make {folder} private: {error.strerror}; set XDG_CACHE_HOME elsewhere") from error
