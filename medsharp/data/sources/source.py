"""What a known data set must tell of itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from medsharp.data.manifest import Manifest


@dataclass(frozen=True)
class Source:
    """A public data set that is recognised by its layout.

    Attributes:
        name: Short name.
        description: Hospital, device and size, for people.
        licence: As its authors state it.
        doi: Where to find it.
        matches: Whether a folder has its layout.
        read: Turns such a folder into a manifest.
    """

    name: str
    description: str
    licence: str
    doi: str
    matches: Callable[[Path], bool]
    read: Callable[[Path], Manifest]
