"""Where identifiers of patients are left after reading a folder: in paths and in pixels; counted, never shown."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path

from medsharp.data.sources.headers import Header
from medsharp.data.sources.listing import Listing
from medsharp.data.sources.patients import PatientKey
from medsharp.keys import patient_key

_LEAST_NAME = 4
"""Letters of an identifier from which on it is looked for in paths: shorter ones are there by chance."""


def privacy_notes(listing: Listing, key: PatientKey, listed: Mapping[Path, Collection[str]]) -> list[str]:
    """Say, without an identifier, where identifiers are left: in paths, or in pixels.

    Args:
        listing: The files.
        key: Numbers patients.
        listed: What a list of labels calls the patients of files.
    """
    notes = []
    burned = sum(listing.headers[file].burned_in for file in listing.images if file in listing.headers)
    if burned:
        notes.append(
            f"{burned} DICOM files say BurnedInAnnotation YES: names may stand in their pixels: look before you "
            "share them"
        )
    named = sum(
        _is_named(listing.inside(file), listing.headers.get(file), listed.get(file, ())) for file in listing.images
    )
    if named:
        notes.append(
            f"{named} paths hold the patient's name or number: they stand in every table that is made of them; "
            "`medsharp data prepare --copy` writes copies under other names"
        )
    headers = listing.headers.values()
    identifiers = {patient_key(header.patient) for header in headers}
    if len(identifiers) == 1 < len({header.study for header in headers}) and "" not in identifiers:
        notes.append(
            "every DICOM file has the same PatientID, though they are of several studies: they count as one patient; a "
            "list of labels with a column patient says otherwise"
        )
    if any(header.patient or header.study for header in headers) or any(listed.values()):
        notes.append(
            f"patients are numbered by the key {_at_home(key.where)} ({key.fingerprint}); keep it, so that later "
            "exports are tied to the same patients"
        )
    return notes


def _at_home(path: Path) -> str:
    """Write a path from the home folder on, elsewhere its name alone: notes are stored in manifests that are shared."""
    home = Path.home()
    return f"~/{path.relative_to(home).as_posix()}" if path.is_relative_to(home) else path.name


def _is_named(path: str, header: Header | None, listed: Collection[str]) -> bool:
    plain = _letters(path)
    # A name is looked for word by word, as a path may turn it round; of a number such as 2021-17 the whole counts.
    parts = list(listed)
    parts += [word for who in listed if not re.search(r"\d", who) for word in re.split(r"[\W_]+", who)]
    if header is not None:
        parts += [header.patient, header.accession, *header.name.replace("^", " ").replace("=", " ").split()]
    return any(len(_letters(part)) >= _LEAST_NAME and _letters(part) in plain for part in parts)


def _letters(text: str) -> str:
    return "".join(letter for letter in text.casefold() if letter.isalnum())
