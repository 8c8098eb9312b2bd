"""Which files the row of a list means: by path, UID, accession number or patient, or by a name that is there once."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from medsharp.data.sources.headers import Header
from medsharp.data.sources.listing import Listing
from medsharp.errors import InputError, nearest
from medsharp.keys import patient_key, says_nothing
from medsharp.tables import number as plain_number

KEYS = {
    "SOPInstanceUID": "instance",
    "SeriesInstanceUID": "series",
    "StudyInstanceUID": "study",
    "AccessionNumber": "accession",
    "PatientID": "patient",
}
"""Columns that are DICOM attributes, and what a header calls them."""

PRECISION = {"image": 0, "SOPInstanceUID": 0, "folder": 1, "SeriesInstanceUID": 1, "StudyInstanceUID": 2}
PRECISION |= {"AccessionNumber": 2, "PatientID": 3}
"""How little a key says: 0 is one image, 3 all of a patient."""

_FOLDERS_OF = frozenset({"PatientID", "AccessionNumber"})
Match = tuple[tuple[Path, ...], str]
"""Files, and what they were found by."""


class Finder:
    """Finds the files that keys mean; every way of writing is looked up in tables made once."""

    def __init__(self, table: Path, listing: Listing) -> None:
        self._table = table
        self._listing = listing
        self._root = f"/{listing.folder.resolve().name.casefold()}"
        self._paths: dict[str, list[Path]] = {}
        self._folders: dict[str, list[Path]] = {}
        self._names: dict[str, list[Path]] = {}
        self._numbers: dict[str, list[Path]] = {}
        self._folder_names: dict[str, set[str]] = {}
        masks = [*listing.masks, *listing.drawings]
        self._mask_paths = {unicodedata.normalize("NFC", listing.inside(mask)): [mask] for mask in masks}
        # What lies here and is no image: rows of such files are counted, not refused.
        names = [*(name for names in listing.others.values() for name in names), *map(listing.inside, masks)]
        self._others = {unicodedata.normalize("NFC", name) for name in names}
        self._folders_of_others = {
            parent.as_posix() for name in self._others for parent in PurePosixPath(name).parents if parent.name
        }
        self._tags: dict[str, dict[str, list[Path]]] = {name: {} for name in KEYS}
        self._respelled: dict[str, dict[str, set[str]]] = {name: {} for name in KEYS}
        for file in listing.images:
            inside = PurePosixPath(unicodedata.normalize("NFC", listing.inside(file)))
            self._paths.setdefault(inside.as_posix(), []).append(file)
            for name in {inside.name.casefold(), inside.stem.casefold()}:
                self._names.setdefault(name, []).append(file)
            if inside.stem.isdecimal():
                self._numbers.setdefault(inside.stem.lstrip("0"), []).append(file)
            for parent in inside.parents:
                if parent.name:
                    self._folders.setdefault(parent.as_posix(), []).append(file)
                    self._folder_names.setdefault(parent.name.casefold(), set()).add(parent.as_posix())
            if file in listing.headers:
                self._add_tags(file, listing.headers[file])
        self._folders_alike: dict[str, list[str]] = {}
        for folder in self._folder_names:
            self._folders_alike.setdefault(patient_key(folder), []).append(folder)

    def _add_tags(self, file: Path, header: Header) -> None:
        for name, attribute in KEYS.items():
            value = _plain(getattr(header, attribute))
            if not says_nothing(value):
                self._tags[name].setdefault(value, []).append(file)
                self._respelled[name].setdefault(_respelled(name, value), set()).add(value)

    def files(self, number: int, keys: Mapping[str, str]) -> Match:
        """Return the files of a row and the most precise of its keys; none where no file has what a tag says.

        Raises:
            InputError: `image` names nothing or several, or the keys do not agree.
        """
        found: list[Match] = []
        if "image" in keys:
            found.append(self._named(number, keys["image"]))
        stated = [name for name in KEYS if name in keys and not says_nothing(keys[name])]
        if not found and not stated:
            return (), next(iter(keys))  # of a patient whom nobody knows, and not of all such
        for name in stated:
            tagged = self._tagged(name, keys[name])
            # A picture carries no tags: there the list's patient is what is known of it, not a key to it.
            untagged = found and not any(file in self._listing.headers for file in found[0][0])
            if not untagged:
                found.append((tagged, name))
        common = set(found[0][0]).intersection(*(files for files, _ in found[1:]))
        if not common and all(files for files, _ in found):
            raise InputError(
                f"{self._table}, row {number}: its {' and its '.join(by for _, by in found)} are of different files"
            )
        if not common and "image" in keys and found[0][0]:
            lacking = next(by for files, by in found if not files)
            raise InputError(f"{self._table}, row {number}: the file of this name does not have that {lacking}")
        by = min((by for _, by in found), key=PRECISION.__getitem__)
        return tuple(file for file in found[0][0] if file in common), by

    def masks(self, number: int, cell: str) -> str:
        """Return the masks that a row names, as they are spelled from the folder on, joined by semicolons.

        Raises:
            InputError: One is not there.
        """
        found = []
        for given in filter(None, map(str.strip, cell.split(";"))):
            name = unicodedata.normalize("NFC", given.replace("\\", "/").removeprefix("./"))
            file = self._paths.get(name, self._mask_paths.get(name, []))
            if not file:
                raise InputError(
                    f"{self._table}, row {number}: mask '{given}' is not there; give its path from the folder on"
                )
            found.append(self._listing.inside(file[0]))
        return ";".join(found)

    def _tagged(self, name: str, value: str) -> tuple[Path, ...]:
        if says_nothing(value):
            return ()
        plain = _plain(value)
        files = self._tags[name].get(plain)
        if files is None:
            # Spreadsheets take leading zeros away and add `.0`.
            written = self._respelled[name].get(_respelled(name, plain), set())
            files = self._tags[name][next(iter(written))] if len(written) == 1 else []
        if not files and not self._listing.headers and name in _FOLDERS_OF:
            # Pictures carry no tags; where there are only such, a folder of that name is the patient's or the study's.
            names = [plain] if plain in self._folder_names else self._folders_alike.get(patient_key(plain), [])
            if len(names) == 1:
                files = [file for folder in sorted(self._folder_names[names[0]]) for file in self._folders[folder]]
        return tuple(files)

    def _named(self, number: int, given: str) -> Match:
        name = unicodedata.normalize("NFC", given.replace("\\", "/").strip().removeprefix("./").strip("/"))
        if name in self._paths:
            return tuple(self._paths[name]), "image"
        if name in self._folders:
            return tuple(self._folders[name]), "folder"
        if name in self._others:
            return (), "image"
        tagged = [(files, tag) for tag in KEYS if self._tags[tag] and (files := self._tagged(tag, name))]
        if tagged:
            return self._one_meaning(number, given, name, tagged)
        if name in self._folders_of_others:
            return (), "image"
        return self._by_name(number, given, name)

    def _one_meaning(self, number: int, given: str, name: str, tagged: Sequence[Match]) -> Match:
        """Return what a tag means, unless another tag or a name means other files: 7 may be a patient or a file."""
        files, folders = self._alike(name)
        called = {*files, *(file for folder in folders for file in self._folders[folder])}
        meanings = [(set(found), f"by {tag}") for found, tag in tagged] + [(called, "by name")] * bool(called)
        if any(meaning != meanings[0][0] for meaning, _ in meanings):
            shared = meanings[0][0].intersection(*(meaning for meaning, _ in meanings))
            could = [f"{self._listing.inside(min(meaning - shared or meaning))} ({by})" for meaning, by in meanings]
            raise self._several(number, given, could)
        return tagged[0]

    def _several(self, number: int, given: str, could: Sequence[str]) -> InputError:
        several = ", ".join(could[:3]) + (", ..." if len(could) > 3 else "")
        return InputError(
            f"{self._table}, row {number}: '{given}' names several files: {several}; give the path, or a column "
            "SOPInstanceUID, AccessionNumber or PatientID"
        )

    def _alike(self, name: str) -> tuple[list[Path], set[str]]:
        """Return the files and the folders that are called so, whatever the case, the ending and zeros in front."""
        last = name.casefold()
        if "/" in name:  # of a path that is written from elsewhere, or in other case, the end may be right
            alike = self._names.get(last.rpartition("/")[2], [])
            ends = {file: f"/{self._listing.inside(file).casefold()}" for file in alike}
            files = [
                file for file, end in ends.items() if end.endswith(f"/{last}") or f"/{last}".endswith(self._root + end)
            ]
            return files, set()
        files, folders = self._names.get(last, []), self._folder_names.get(last, set())
        if not files and not folders and plain_number(last).isdecimal():
            # Spreadsheets take leading zeros away and add `.0`.
            files = self._numbers.get(plain_number(last).lstrip("0"), [])
        return files, folders

    def _by_name(self, number: int, given: str, name: str) -> Match:
        files, folders = self._alike(name)
        if len(files) == 1 and not folders:
            return tuple(files), "image"
        if not files and len(folders) == 1:
            return tuple(self._folders[next(iter(folders))]), "folder"
        could = [*(self._listing.inside(file) for file in files), *sorted(folders)]
        if could:
            raise self._several(number, given, could)
        close = nearest(name, self._paths, 1)
        raise InputError(
            f"{self._table}, row {number}: '{given}' names no image here: it is no path, no UID, accession number or "
            f"patient of a file, and no file's name{close if close.startswith('; did') else ''}"
        )


def _respelled(name: str, value: str) -> str:
    """Return what is the same however a spreadsheet writes a number; UIDs stay as they are."""
    return patient_key(value) if name in _FOLDERS_OF else value


def _plain(value: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", value).split()).casefold()
