"""A hospital's list of labels: which files a row means, and what becomes of several rows for one image."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

import pandas as pd

from medsharp.data.manifest import CARRIED, COLUMNS, DESCRIBED, says_all
from medsharp.data.same_meaning import PATIENT, fullest_columns
from medsharp.data.sources.finder import KEYS, PRECISION, Finder
from medsharp.data.sources.headers import side_of
from medsharp.data.sources.listing import Listing
from medsharp.data.sources.rules import LabelRule, kept_headings
from medsharp.errors import InputError, nearest
from medsharp.keys import named, patient_key, says_nothing
from medsharp.tables import Table, is_workbook, read_table, reason
from medsharp.tables import number as plain_number
from medsharp.tables.merged import fill_merged

TABLES = ("labels.csv", "labels.tsv", "labels.xlsx", "labels.xlsm", "labels.parquet")
"""Names under which the list is looked for in the folder, whatever their case."""

FRAME = "frame"

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

_HEADINGS = ("image", "file", "filename", *KEYS, "Accession Number", "Accession", "Patient ID", "Patient", "MRN")
"""What is looked for where the first row is no header."""

_MADE = frozenset({"image", "label", "sha256", "dhash", "study_date", "lesions", "official_split"})
"""Columns that are found out, and not read from a list."""

_CARRIED = frozenset((*COLUMNS, *CARRIED, *DESCRIBED)) - _MADE

_WORST_FIRST = ("malignant", "benign", "normal")


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
        further: Headings of columns that are neither keys nor labels.
        notes: What a person should know of it.
    """

    table: Path
    entries: Mapping[Path, Mapping[str, Entry]]
    labelled: bool
    further: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def lack(self) -> str:
        """Why it gives no label, and the remedy."""
        others = f", such as {named(self.further)}" if self.further else ""
        return f"{self.table.name} has no column label (or class); --label-from makes labels from another{others}"


@dataclass(frozen=True)
class _Row:
    number: int
    values: dict[str, str]
    files: tuple[Path, ...]
    by: str
    label: str
    exclude: str
    doubt: str = ""  # why it can be of none of its files


def find_table(folder: Path) -> Path | None:
    """Return the list of labels that lies in a folder.

    Raises:
        InputError: There are several.
    """
    found = [file for file in sorted(folder.iterdir()) if is_list(file)]
    if len(found) > 1:
        names = " and ".join(file.name for file in found)
        raise InputError(f"{folder} holds {names}; keep one, or say which with --labels")
    return found[0] if found else None


def is_list(file: Path) -> bool:
    """Whether a file is a list of labels by its name."""
    return file.name.casefold() in TABLES and file.is_file()


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
    - A row of one side is not of an image whose header says the other, and one whose accession number or study is of
      several patients is of nobody's images: an image that has no other such row is excluded, with that reason.

    Args:
        table: CSV, Parquet or workbook.
        listing: The files.
        rule: Makes labels from a column; without it there is a column `label`, or none.
        label_of: Gives a label as classes are written.
        keep: Further columns that are carried into the manifest.

    Raises:
        InputError: The table has no key, a row of `image` names nothing or several files, or rows contradict each
            other.
    """
    read = _read(table, rule)
    header = [str(name) for name in read.frame]
    if read.frame.empty:
        raise InputError(f"{table} has no rows{_also(read)}")
    columns = {name: _canonical(name) for name in header}
    if "PatientID" not in columns.values() and not set(columns.values()) & {"image", *KEYS}:
        columns = {name: "PatientID" if known == "patient" else known for name, known in columns.items()}
    keys = [known for known in ("image", *KEYS) if known in columns.values()]
    if not keys:
        raise InputError(
            f"{table} names no images: it needs a column image, or one of {', '.join(KEYS)}{nearest('image', header)}"
            f"{_also(read)}"
        )
    labelled = rule is not None or "label" in columns.values()
    source = None if rule is None else rule.heading(header)
    if rule is not None and source is None:
        raise InputError(f"{table} has no column '{rule.column}' to make labels from{nearest(rule.column, header)}")
    keep = kept_headings(keep, header, str(table))
    columns, patient, doubled = _one_of_each(read, columns, labelled_by_rule=rule is not None)
    merged = _fill_merged(read, patient, next((name for name, known in columns.items() if known == "site"), None))
    rows = list(read.records())
    finder = Finder(table, listing)
    matched, lost = [], []
    for number, given in rows:
        values = {known: given.get(name, "") for name, known in columns.items()}
        if patient is not None:
            values[PATIENT] = given.get(patient, "")
        if not any(values[key] for key in keys):
            raise InputError(f"{table}, row {number}: nothing stands under {' or '.join(keys)}")
        values[FRAME] = _frame(table, number, values.get(FRAME, ""))
        files, by = finder.files(number, {key: values[key] for key in keys if values[key]})
        if not files:
            lost.append(number)
            continue
        if rule is not None and source is not None:
            label, why = rule.label(given.get(source, ""))
        else:
            given_label = values.get("label", "")
            label = "" if says_nothing(given_label) else label_of(given_label)
            why = "" if label or not labelled else f"no label in {table.name}"
        values |= {name: given.get(name, "") for name in keep}
        values["exclude"] = reason(values.get("exclude", ""), f"excluded in {table.name}")
        values["mask"] = finder.masks(number, values.get("mask", ""))
        matched.append(_Row(number, values, files, by, label, why, _of_several(listing, files, by)))
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
    others = tuple(name for name, known in columns.items() if known not in {"label", PATIENT, FRAME, "mask", *keys})
    return Labels(table, entries, labelled, others, (*read.notes, *doubled, *merged, *notes, *further))


def _one_of_each(
    read: Table, columns: Mapping[str, str], *, labelled_by_rule: bool
) -> tuple[dict[str, str], str | None, list[str]]:
    """Keep one column of each meaning.

    Args:
        read: The table.
        columns: What each heading is called here.
        labelled_by_rule: Whether a column `label` says nothing.

    Returns:
        The columns that are left; the heading that says who the patient is; and what a person should know.

    Raises:
        InputError: Two columns of one meaning contradict each other.
    """
    meanings: dict[str, list[str]] = {}
    for name, known in columns.items():
        if not (known == "label" and labelled_by_rule):
            meanings.setdefault(PATIENT if known == "PatientID" else known, []).append(name)
    # DICOM's own name goes first, so that a patient has the same number in other exports.
    meanings.get(PATIENT, []).sort(key=lambda name: (columns[name] != "PatientID", _plain(name) != "patientid"))
    chosen, notes = fullest_columns(read.path, read.frame, meanings)
    patient = chosen.pop(PATIENT, None)
    # A key to files is what DICOM calls so, if not in every row.
    key = next((name for name in meanings.get(PATIENT, ()) if columns[name] == "PatientID"), patient)
    left = {*chosen.values(), key}
    return {name: known for name, known in columns.items() if name in left}, patient, notes


def _fill_merged(read: Table, patient: str | None, site: str | None) -> list[str]:
    """Fill what merged cells leave empty of patients and sites, in place; return what a person should know of it."""
    if says_all(read.frame, {}):  # a manifest in place of a list
        return []
    places = {"patient": patient, "site": site}
    given = {known: read.frame[name] if name else "" for known, name in places.items()}
    cells = pd.DataFrame(given, index=read.frame.index, dtype=object)
    notes = fill_merged(read.path, cells)
    for known, name in places.items():
        if name:
            read.frame[name] = cells[known]
    return notes


def _read(table: Path, rule: LabelRule | None) -> Table:
    """Read a list whose header may stand below a title, or on a later sheet of a workbook."""

    def rank(header: Sequence[str]) -> int:
        known = {_canonical(name) for name in header}
        labelled = "label" in known if rule is None else rule.heading(header) is not None
        return 1 + labelled if known & {"image", "patient", *KEYS} else 0

    try:
        read, lacking = read_table(table, rank=rank), None
        if rank([str(name) for name in read.frame]):
            return read
    except InputError as error:
        if is_workbook(table):  # whose every row was looked at
            raise
        read, lacking = None, error
    for heading in _HEADINGS:
        try:
            return read_table(table, (heading,))
        except InputError:
            continue
    if read is None:
        assert lacking is not None
        raise lacking
    return read


def _also(read: Table) -> str:
    """What the sentence of an error adds, as notes are not shown then: such as that a hidden sheet is not read."""
    return "".join(f"; {note}" for note in read.notes)


def _canonical(name: str) -> str:
    plain = _plain(name)
    return _NAMES.get(plain) or next((known for known in _CARRIED | {"label"} if known.replace("_", "") == plain), name)


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.casefold())


def _frame(table: Path, number: int, given: str) -> str:
    frame = plain_number(given)
    if frame and not re.fullmatch(r"0*[1-9]\d{0,8}", frame):
        raise InputError(f"{table}, row {number}: frame '{given}' is no number of a frame; they count from 1")
    return frame.lstrip("0")


def _of_several(listing: Listing, files: Sequence[Path], by: str) -> str:
    """Say that what should be of one patient is of several, as where two archives number alike; else nothing."""
    if by not in {"AccessionNumber", "StudyInstanceUID", "SeriesInstanceUID"}:
        return ""
    patients = {patient_key(listing.headers[file].patient) for file in files if file in listing.headers} - {""}
    return f"{by} of several patients" if len(patients) > 1 else ""


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
        if frames and whole and min(PRECISION[row.by] for row in whole) == 0:
            raise InputError(
                f"{table}, row {whole[0].number}: {listing.inside(file)} has rows for single frames too; "
                "give every row of a clip its frame, or none"
            )
        side = listing.headers[file].laterality if file in listing.headers else ""
        for frame, said in (frames or {"": whole}).items():
            # What is said of the patient or study holds for each frame, where the frame's own row says nothing.
            fitting, why = _fitting(table, [*said, *(whole if frames else [])], side)
            if why:
                values = {**_values(fitting, kept), "exclude": why}
                entries.setdefault(file, {})[frame] = Entry("", why, values, _patient(fitting))
                continue
            entry, several, split = _joined(table, listing.inside(file), fitting, kept)
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


def _fitting(table: Path, rows: Sequence[_Row], side: str) -> tuple[list[_Row], str]:
    """Return the rows that can be of an image of this side; and why none is, where the most precise ones cannot."""
    wrong: dict[int, str] = {}
    for row in rows:
        stated = side_of(row.values.get("laterality", ""))
        if row.doubt:
            wrong[row.number] = row.doubt
        elif {stated, side} == {"L", "R"}:
            wrong[row.number] = f"side {stated} in {table.name} contradicts {side} in the header"
    best = min(PRECISION[row.by] for row in rows)
    precise = [row for row in rows if PRECISION[row.by] == best]
    fitting = [row for row in rows if row.number not in wrong]
    # A row of the image itself speaks of it, rightly or not; of an examination's rows, those of its side do.
    if best > 0 and any(row.number not in wrong for row in precise):
        return fitting, ""
    return fitting, next((wrong[row.number] for row in precise if row.number in wrong), "")


def _joined(table: Path, name: str, rows: Sequence[_Row], kept: frozenset[str]) -> tuple[Entry, bool, bool]:
    """Join what rows say of one image; also whether they are several lesions, and whether they leave it open."""
    _refuse_two_patients(table, name, rows)
    best = min(PRECISION[row.by] for row in rows)
    precise = [row for row in rows if PRECISION[row.by] == best]
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


def _refuse_two_patients(table: Path, name: str, rows: Sequence[_Row]) -> None:
    named = sorted((row for row in rows if row.values.get(PATIENT)), key=lambda row: row.number)
    other = next(
        (row for row in named if patient_key(row.values[PATIENT]) != patient_key(named[0].values[PATIENT])), None
    )
    if other is not None:  # whose numbers are nobody's to read
        raise InputError(f"{table}, row {other.number}: {name} is of another patient than in row {named[0].number}")


def _values(rows: Sequence[_Row], kept: frozenset[str]) -> dict[str, str]:
    values: dict[str, str] = {}
    for row in rows:
        for name in row.values.keys() & kept - {FRAME, "patient"}:
            values[name] = values.get(name) or row.values[name]
    return values


def _patient(rows: Sequence[_Row]) -> str:
    return next((row.values[PATIENT] for row in rows if row.values.get(PATIENT)), "")
