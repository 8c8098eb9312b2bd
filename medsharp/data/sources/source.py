"""What a known data set must tell of itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from medsharp.data.manifest import DatasetInfo, Manifest


@dataclass(frozen=True)
class Source:
    """A public data set that is recognised by its layout, never by the name of its folder.

    Attributes:
        info: Name, classes, licence, citation, hospital and DOI, as a manifest carries them.
        country: Where the hospital is.
        device: Which scanners.
        images: Published number of images of each class; empty where a data set has no labels.
        patients: Published number of patients; None where patients cannot be told apart.
        masks: Whether lesions are outlined.
        request: Where to get it.
        flaws: What is known to be wrong with it.
        verified: Read from the real data; otherwise built from the published layout.
        matches: Whether a folder (or file) has its layout.
        read: Turns it into a manifest.
    """

    info: DatasetInfo
    country: str
    device: str
    images: dict[str, int]
    patients: int | None
    masks: bool
    request: str
    flaws: tuple[str, ...]
    verified: bool
    matches: Callable[[Path], bool]
    read: Callable[[Path], Manifest]

    @property
    def name(self) -> str:
        """Short name."""
        return self.info.name

    def as_dict(self) -> dict[str, object]:
        """Return what people ask of it, for JSON."""
        return {
            "name": self.name,
            "hospital": self.info.source,
            "country": self.country,
            "device": self.device,
            "images": self.images,
            "patients": self.patients,
            "masks": self.masks,
            "licence": self.info.licence,
            "doi": self.info.doi,
            "citation": self.info.citation,
            "request": self.request,
            "flaws": list(self.flaws),
            "verified": self.verified,
        }
