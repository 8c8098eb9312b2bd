"""What is tested: written when a study begins, and read by its report alone.

Nothing that trains or chooses may import this module, which is checked with the other floors of the house; the
rows are in no manifest that training is given.
"""

from __future__ import annotations

from pathlib import Path

from medsharp.data.manifest import Manifest, read_manifest, write_manifest

_SEALED = "sealed"


def seal(root: Path, place: str, manifest: Manifest) -> None:
    """Put rows away.

    Args:
        root: The study's folder.
        place: Such as `busi/fold-0` or `busi/external-busbra`.
        manifest: The rows, all of the split `test`.
    """
    write_manifest(manifest, root / _SEALED / place)


def unseal(root: Path, place: str) -> Manifest:
    """Return rows that were put away.

    Raises:
        InputError: They are not there, or an image is not there any more.
    """
    return read_manifest(root / _SEALED / place)
