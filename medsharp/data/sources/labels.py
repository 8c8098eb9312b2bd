"""A hospital's list of labels: which files a row means, and what becomes of several rows for one image."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import NoReturn

from medsharp.data.manifest import CARRIED, COLUMNS
from medsharp.data.sources.headers import Header
from medsharp.data.sources.listing import Listing
from medsharp.data.sources.rules import LabelRule
from medsharp.errors import InputError, nearest
from medsharp.tables import read_table, reason

TABLES = ("labels.csv", "labels.tsv", "labels.xlsx", "labels.xlsm")
"""Names under which the list is looked for in the folder, whatever their case."""

FRAME = "frame"
LESION = "lesion"

_NAMES = {
    "image": "image",
    **dict.fromkeys(("file", "filename", "filepath", "imagefile", "imagename", "imagepath", "path"), "image"),
    **dict.fromkeys(("sopinstanceuid", "sopuid", "instanceuid"), "SOPInstanceUID"),
    **dict.fromkeys(("seriesinstanceuid", "seriesuid"), "SeriesInstanceUID"),
    **dict.fromkeys(("studyinstanceuid", "studyuid"), "StudyInstanceUID"),
    **dict.fromkeys(("accessionnumber", "accession", "accessionno"), "AccessionNumber"),
    **dict.fromkeys(("patientid", "patientno", "patientnumber", "mrn"), "PatientID"),
    "birads": "birads",
    "pathology": "pathology",
    "side": "laterality",
    "class": "label",
}
"""Headings as hospitals write them, in lower case and without separators, and what they are called here."""

_ATTRIBUTES = {
    "SOPInstanceUID": "instance",
    "SeriesInstanceUID": "series",
    "StudyInstanceUID": "study",
    "AccessionNumber": "accession",
    "PatientID": "patient",
}
_PRECISION = {"image": 0, "SOPInstanceUID": 0, "folder": 1, "SeriesInstanceUID": 1, "StudyInstanceUID": 2}
_PRECISION |= {"AccessionNumber": 2, "PatientID": 3}
_CARRIED = frozenset((*COLUMNS, *CARRIED)) - {"image", "label", "sha256", "dhash", "study_date"} | {
    "age",
    "pathology",
    LESION,
}

_FOLDERS_OF = frozenset({"PatientID", "AccessionNumber"})
_WORST_FIRST = ("malignant", "benign", "normal")

Match = tuple[tuple[Path, ...], str]
"""Files, and what they were found by."""


@dataclass(frozen=True)
class Entry:
    """What a list says of one image, or of one frame of it.

    Attributes:
        label: Empty where `exclude` says why there is none.
        exclude: Why the image cannot be used.
        values: Further columns of the manifest.
        patient: As the list writes it; to be numbered before it is kept.
    """

    label: str
    exclude: str = ""
    values: Mapping[str, str] = field(default_factory=dict)
    patient: str = field(default="", repr=False)


@dataclass(frozen=True)
class Labels:
    """A list of labels, matched with the files of a folder.

    Attributes:
        table: The file.
        entries: By file, then by frame; the empty text stands for the whole file.
        labelled: Whether the list gives labels, itself or by a rule; otherwise it tells of further columns only.
        notes: What a person should know of it.
    """

    table: Path
    entries: Mapping[Path, Mapping[str, Entry]]
    labelled: bool
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Row:
    number: int
    values: dict[str, str]
    files: tuple[Path, ...]
    by: str
    label: str
    exclude: str


def find_table(folder: Path) -> Path | None:
    """Return the list of labels that lies in a folder.

    Raises:
        InputError: There are several.
    """
    found = [file for file in sorted(folder.iterdir()) if file.name.casefold() in TABLES and file.is_file()]
    if len(found) > 1:
        names = " and ".join(file.name for file in found)
        raise InputError(f"{folder} holds {names}; keep one, or say which with --labels")
    return found[0] if found else None


def read_labels(
    table: Path, listing: Listing, *, rule: LabelRule | None, label_of: Callable[[str], str], keep: Sequence[str] = ()
) -> Labels:
    """Read a list of labels and find the files that each row means.

    A row may have several keys (`image`, `SOPInstanceUID`, `SeriesInstanceUID`, `StudyInstanceUID`,
    `AccessionNumber`, `PatientID`), which must then agree. What stands under `image` is taken for an exact path first,
    then for a UID, an accession number or a patient, then for the name of a file or folder that is there once.

    - Rows that repeat one image are its lesions: it is malignant if one of them is.
    - Rows that repeat a series, study or patient with different labels tell of lesions without saying which image
      shows which: the images are excluded, with that reason.

    Args:
        table: CSV or workbook.
        listing: The files.
        rule: Makes labels from a column; without it there is a column `label`, or none.
        label_of: Gives a label as classes are written.
        keep: Further columns that are carried into the manifest.

    Raises:
        InputError: The table has no key, a row of `image` names nothing or several files, or rows contradict each
            other.
    """
    read = read_table(table)
    rows, header = list(read.records()), [str(name) for name in read.frame]
    if not rows:
        raise InputError(f"{table} has no rows")
    columns = {name: _canonical(name) for name in header}
    if "PatientID" not in columns.values() and not set(columns.values()) & {"image", *_ATTRIBUTES}:
        columns = {name: "PatientID" if known == "patient" else known for name, known in columns.items()}
    keys = [known for known in ("image", *_ATTRIBUTES) if known in columns.values()]
    if not keys:
        raise InputError(
            f"{table} names no images: it needs a column image, or one of {', '.join(_ATTRIBUTES)}"
            f"{nearest('image', header)}"
        )
    labelled = rule is not None or "label" in columns.values()
    source = None if rule is None else rule.heading(header)
    if rule is not None and source is None:
        raise InputError(f"{table} has no column '{rule.column}' to make labels from{nearest(rule.column, header)}")
    finder = _Finder(table, listing)
    matched, lost = [], []
    for number, given in rows:
        values: dict[str, str] = {}
        for name, known in columns.items():
            values[known] = values.get(known) or given.get(name, "")
        if not any(values[key] for key in keys):
            raise InputError(f"{table}, row {number}: nothing stands under {' or '.join(keys)}")
        _check_frame(table, number, values.get(FRAME, ""))
        files, by = finder.files(number, {key: values[key] for key in keys if values[key]})
        if not files:
            lost.append(number)
            continue
        if rule is not None and source is not None:
            label, why = rule.label(given.get(source, ""))
        else:
            label = label_of(values.get("label", ""))
            why = "" if label or not labelled else f"no label in {table.name}"
        values |= {name: given.get(name, "") for name in keep if name in header}
        values["exclude"] = reason(values.get("exclude", ""), f"excluded in {table.name}")
        values["mask"] = finder.masks(number, values.get("mask", ""))
        matched.append(_Row(number, values, files, by, label, why))
    if not matched:
        raise InputError(f"{table}: no row belongs to an image here; rows are matched by {', '.join(keys)}")
    notes = [] if rule is None or source is None else rule.notes(given.get(source, "") for _, given in rows)
    if lost:
        some = ", ".join(map(str, lost[:3])) + (", ..." if len(lost) > 3 else "")
        notes.append(f"{len(lost)} rows of {table.name} belong to no image here (rows {some})")
    kept = _CARRIED | set(keep)
    entries, further = _entries(table, listing, matched, kept)
    unused = [name for name, known in columns.items() if known not in kept | {"label", *keys} and name != source]
    if unused:
        notes.append(f"columns of {table.name} that are not carried: {', '.join(sorted(unused))}")
    return Labels(table, entries, labelled, (*read.notes, *notes, *further))


def _canonical(name: str) -> str:
    plain = re.sub(r"[^a-z0-9]", "", name.casefold())
    return _NAMES.get(plain) or next((known for known in _CARRIED | {"label"} if known.replace("_", "") == plain), name)


def _check_frame(table: Path, number: int, frame: str) -> None:
    if frame and not re.fullmatch(r"0*[1-9]\d{0,8}", frame):
        raise InputError(f"{table}, row {number}: frame '{frame}' is no number of a frame; they count from 1")


class _Finder:
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
        self._mask_paths = {unicodedata.normalize("NFC", listing.inside(mask)): [mask] for mask in listing.masks}
        # What lies here and is no image: rows of such files are counted, not refused.
        self._others = {name for names in listing.others.values() for name in names} | {
            listing.inside(mask) for mask in listing.masks
        }
        self._tags: dict[str, dict[str, list[Path]]] = {name: {} for name in _ATTRIBUTES}
        self._unpadded: dict[str, dict[str, set[str]]] = {name: {} for name in _ATTRIBUTES}
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

    def _add_tags(self, file: Path, header: Header) -> None:
        for name, attribute in _ATTRIBUTES.items():
            value = _plain(getattr(header, attribute))
            if value:
                self._tags[name].setdefault(value, []).append(file)
                self._unpadded[name].setdefault(value.lstrip("0"), set()).add(value)

    def files(self, number: int, keys: Mapping[str, str]) -> Match:
        """Return the files of a row and the most precise of its keys; none where no file has what a tag says.

        Raises:
            InputError: `image` names nothing or several, or the keys do not agree.
        """
        found: list[Match] = []
        if "image" in keys:
            found.append(self._named(number, keys["image"]))
        for name in _ATTRIBUTES:
            if name in keys:
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
        by = min((by for _, by in found), key=_PRECISION.__getitem__)
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
        plain = _plain(value)
        files = self._tags[name].get(plain)
        if files is None:
            # Spreadsheets take leading zeros away.
            written = self._unpadded[name].get(plain.lstrip("0"), set())
            files = self._tags[name][next(iter(written))] if len(written) == 1 else []
        if not files and not self._listing.headers and name in _FOLDERS_OF:
            # Pictures carry no tags; where there are only such, a folder of that name is the patient's or the study's.
            files = [file for folder in sorted(self._folder_names.get(plain, ())) for file in self._folders[folder]]
        return tuple(files)

    def _named(self, number: int, given: str) -> Match:
        name = unicodedata.normalize("NFC", given.replace("\\", "/").strip().removeprefix("./").strip("/"))
        if name in self._paths:
            return tuple(self._paths[name]), "image"
        if name in self._folders:
            return tuple(self._folders[name]), "folder"
        for tag in _ATTRIBUTES:
            files = self._tagged(tag, name) if self._tags[tag] else ()
            if files:
                return files, tag
        if name in self._others or any(other.startswith(f"{name}/") for other in self._others):
            return (), "image"
        return self._by_name(number, given, name)

    def _by_name(self, number: int, given: str, name: str) -> Match:
        place = f"{self._table}, row {number}"
        last = name.casefold()
        if "/" in name:  # of a path that is written from elsewhere, or in other case, the end may be right
            alike = self._names.get(last.rpartition("/")[2], [])
            ends = {file: f"/{self._listing.inside(file).casefold()}" for file in alike}
            files = [
                file for file, end in ends.items() if end.endswith(f"/{last}") or f"/{last}".endswith(self._root + end)
            ]
            folders = set[str]()
        else:
            files, folders = self._names.get(last, []), self._folder_names.get(last, set())
            if not files and not folders and last.isdecimal():
                files = self._numbers.get(last.lstrip("0"), [])  # spreadsheets take leading zeros away
        if len(files) == 1 and not folders:
            return tuple(files), "image"
        if not files and len(folders) == 1:
            return tuple(self._folders[next(iter(folders))]), "folder"
        could = [*(self._listing.inside(file) for file in files), *sorted(folders)]
        if could:
            several = ", ".join(could[:3]) + (", ..." if len(could) > 3 else "")
            raise InputError(
                f"{place}: '{given}' names several files: {several}; give the path, or a column SOPInstanceUID, "
                "AccessionNumber or PatientID"
            )
        close = nearest(name, self._paths, 1)
        raise InputError(
            f"{place}: '{given}' names no image here: it is no path, no UID, accession number or patient of a file, "
            f"and no file's name{close if close.startswith('; did') else ''}"
        )


def _plain(value: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", value).split()).casefold()


def _entries(
    table: Path, listing: Listing, rows: Iterable[_Row], kept: frozenset[str]
) -> tuple[dict[Path, dict[str, Entry]], list[str]]:
    by_file: dict[Path, dict[str, list[_Row]]] = {}
    for row in rows:
        for file in row.files:
            by_file.setdefault(file, {}).setdefault(row.values.get(FRAME, ""), []).append(row)
    entries: dict[Path, dict[str, Entry]] = {}
    lesions = unclear = 0
    for file, frames in by_file.items():
        whole = frames.pop("", [])
        if frames and whole and min(_PRECISION[row.by] for row in whole) == 0:
            raise InputError(
                f"{table}, row {whole[0].number}: {listing.inside(file)} has rows for single frames too; "
                "give every row of a clip its frame, or none"
            )
        for frame, said in (frames or {"": whole}).items():
            # What is said of the patient or study holds for each frame, where the frame's own row says nothing.
            entry, several, split = _joined(table, listing.inside(file), [*said, *(whole if frames else [])], kept)
            entries.setdefault(file, {})[frame] = entry
            lesions += several
            unclear += split
    notes = []
    if lesions:
        notes.append(
            f"{lesions} images have several rows in {table.name}: an image is malignant if one of its lesions is"
        )
    if unclear:
        notes.append(
            f"{unclear} images left out: {table.name} gives their patient, study or folder several labels, and does "
            "not say which image shows which"
        )
    return entries, notes


def _joined(table: Path, name: str, rows: Sequence[_Row], kept: frozenset[str]) -> tuple[Entry, bool, bool]:
    """Join what rows say of one image; also whether they are several lesions, and whether they leave it open."""
    best = min(_PRECISION[row.by] for row in rows)
    precise = [row for row in rows if _PRECISION[row.by] == best]
    labels = {row.label for row in precise if row.label}
    for row in rows:
        if row.label and labels and row.label not in labels:
            _refuse_second(table, name, precise[0], row)
    unlabelled = next((row for row in precise if not row.label), None)
    if best > 0 and (len(labels) > 1 or (labels and unlabelled is not None)):
        reason = f"{precise[0].by} with several labels in {table.name}"
        return Entry("", reason, _values(precise[:1], kept), _patient(rows)), False, True
    if len(labels) > 1 and not labels <= set(_WORST_FIRST):
        first, other = (next(row for row in precise if row.label == label) for label in sorted(labels)[:2])
        _refuse_second(table, name, first, other)
    worst = next((label for label in _WORST_FIRST if label in labels), min(labels, default=""))
    leading = next((row for row in precise if row.label == worst), precise[0])
    if unlabelled is not None and worst != _WORST_FIRST[0]:
        worst, leading = "", unlabelled  # a lesion that nobody judged may be the malignant one
    # The row that gave the label speaks first; others fill what it leaves open.
    values = _values([leading, *(row for row in rows if row is not leading)], kept)
    several = best == 0 and len(precise) > 1
    if several:
        values["lesions"] = str(len(precise))
        values["mask"] = ";".join(dict.fromkeys(row.values["mask"] for row in precise if row.values.get("mask")))
    return Entry(worst, "" if worst else leading.exclude, values, _patient(rows)), several, False


def _refuse_second(table: Path, name: str, one: _Row, other: _Row) -> NoReturn:
    first, second = sorted((one, other), key=lambda row: row.number)
    raise InputError(f"{table}, row {second.number}: {name} has label '{first.label}' already, in row {first.number}")


def _values(rows: Sequence[_Row], kept: frozenset[str]) -> dict[str, str]:
    values: dict[str, str] = {}
    for row in rows:
        for name in row.values.keys() & kept - {FRAME, "patient"}:
            values[name] = values.get(name) or row.values[name]
    return values


def _patient(rows: Sequence[_Row]) -> str:
    return next((row.values[name] for row in rows for name in ("PatientID", "patient") if row.values.get(name)), "")
