"""What a known data set must tell of itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from medsharp.data.manifest import DatasetInfo, Manifest

TOLERANCE = 0.1
"""A class may have this share more or fewer images than were published: some copies leave out known mistakes."""


@dataclass(frozen=True)
class Source:
    """A public data set that is recognised by its layout and more, never by the name of its folder.

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
        matches: Whether a folder (or file) has its layout, which a hospital's own folder may have too.
        read: Turns it into a manifest.
        evidence: What else shows that a folder of this layout is this data set, such as the particular columns of its
            table, in words; empty where nothing does. By default nothing but the numbers of images does.
        hashes: SHA-256 of some of its files, by their path in the folder.
        unlabelled: Published number of images without labels.
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
    evidence: Callable[[Path], str] = lambda path: ""
    hashes: Mapping[str, str] = field(default_factory=dict)
    unlabelled: int = 0

    @property
    def name(self) -> str:
        """Short name."""
        return self.info.name

    @property
    def key(self) -> str:
        """How `--source` calls it: its name in lower-case letters and digits."""
        return "".join(letter for letter in self.name.lower() if letter.isalnum())

    @property
    def total(self) -> int:
        """Published number of images."""
        return sum(self.images.values()) + self.unlabelled

    def as_dict(self) -> dict[str, object]:
        """Return what people ask of it, for JSON."""
        return {
            "name": self.name,
            "source": self.key,
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
