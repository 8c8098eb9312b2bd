"""What a study learns from and chooses by: training and validation rows of each fold, and no others."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from medsharp.data.manifest import Manifest, read_manifest, write_manifest

_OPEN = "open"
_DIGESTED = ("image", "frame", "label", "mask", "split", "sha256", "patient", "group")


def write_open(root: Path, place: str, manifest: Manifest) -> str:
    """Write the rows of a fold, such as `busi/fold-0`; return their digest."""
    write_manifest(manifest, root / _OPEN / place)
    return manifest_digest(manifest)


def open_folder(root: Path, place: str) -> Path:
    """Return where the rows of a fold lie."""
    return root / _OPEN / place


def read_open(root: Path, place: str) -> Manifest:
    """Read the rows of a fold.

    Raises:
        InputError: They are not there, or an image is not there any more.
    """
    return read_manifest(open_folder(root, place))


def manifest_digest(manifest: Manifest) -> str:
    """Return the SHA-256 of what a manifest says of its images, wherever they lie."""
    columns = [column for column in _DIGESTED if column in manifest.table]
    rows = manifest.included[columns].to_dict("records")
    return hashlib.sha256(json.dumps(rows, sort_keys=True).encode()).hexdigest()
