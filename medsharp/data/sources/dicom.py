"""A folder of DICOM files, one series or many; labels come from `labels.csv`."""

from __future__ import annotations

import warnings
from pathlib import Path

from medsharp.data.manifest import COLUMNS, DatasetInfo, Manifest, make_table
from medsharp.data.sources.source import Source
from medsharp.errors import InputError
from medsharp.tables import has_columns, read_table

TABLE = "labels.csv"
"""Columns `image` (path from the folder, file name, or series folder) and `label`; others of a manifest may follow."""

_NEEDED = ("image", "label")


def matches(folder: Path) -> bool:
    """Whether DICOM files lie directly in the folder, or somewhere below beside a `labels.csv`."""
    if not folder.is_dir():
        return False
    if (folder / TABLE).is_file() and has_columns(folder / TABLE, _NEEDED):
        return any(_is_dicom(file) for file in folder.rglob("*"))
    return any(_is_dicom(file) for file in folder.iterdir())


def read(folder: Path) -> Manifest:
    """List the files; patients are numbered as they occur, so that no identifier of theirs is kept.

    Raises:
        InputError: A row of `labels.csv` names no file, or a file cannot be read as DICOM.
    """
    files = sorted(file for file in folder.rglob("*") if _is_dicom(file))
    given = _labels(folder, files)
    patients: dict[str, str] = {}
    rows = []
    for file in files:
        identity, device = _about(file)
        known = given.get(file, {})
        if identity and identity not in patients:
            patients[identity] = str(len(patients) + 1)
        rows.append(
            {
                "label": "",
                "patient": patients.get(identity, ""),
                "device": device,
                **{column: known[column] for column in known if column in COLUMNS and known[column]},
                "image": file.relative_to(folder).as_posix(),
            }
        )
    classes = tuple(sorted({row["label"] for row in rows} - {""}))
    info = DatasetInfo(name=folder.resolve().name, classes=classes)
    return Manifest(make_table(rows), info, folder)


def _labels(folder: Path, files: list[Path]) -> dict[Path, dict[str, str]]:
    if not (folder / TABLE).is_file():
        return {}
    by_name: dict[str, list[Path]] = {}
    for file in files:
        inside = file.relative_to(folder)
        for name in {inside.as_posix(), file.name, file.stem, *(parent.as_posix() for parent in inside.parents)}:
            by_name.setdefault(name, []).append(file)
    given: dict[Path, dict[str, str]] = {}
    for line, entry in read_table(folder / TABLE, _NEEDED).records():
        name = entry["image"].replace("\\", "/").strip("/")
        if name in {"", "."} or name not in by_name:
            raise InputError(f"{folder / TABLE}, row {line}: '{entry['image']}' names no DICOM file or series here")
        if len(by_name[name]) > 1 and not (folder / name).is_dir():
            raise InputError(f"{folder / TABLE}, row {line}: '{entry['image']}' names several files; give their path")
        for file in by_name[name]:
            if file in given and given[file]["label"] != entry["label"]:
                inside = file.relative_to(folder)
                raise InputError(f"{folder / TABLE}, row {line}: {inside} has label '{given[file]['label']}' already")
            given[file] = entry
    return given


def _is_dicom(file: Path) -> bool:
    try:
        with file.open("rb") as stream:
            return stream.read(132)[128:] == b"DICM"
    except OSError:
        return False  # a folder, or not to be read


def _about(file: Path) -> tuple[str, str]:
    """Return what tells patients apart, which must not leave this file, and the scanner."""
    from pydicom import dcmread
    from pydicom.errors import InvalidDicomError

    tags = ["PatientID", "StudyInstanceUID", "Manufacturer", "ManufacturerModelName"]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of values that are not quite by the standard
            header = dcmread(file, stop_before_pixels=True, specific_tags=tags)
            identity = str(header.get("PatientID") or header.get("StudyInstanceUID") or "")
            device = " ".join(str(header.get(tag) or "") for tag in ("Manufacturer", "ManufacturerModelName")).strip()
    except (InvalidDicomError, OSError, EOFError, ValueError, KeyError, NotImplementedError) as error:
        raise InputError(f"{file} cannot be read as DICOM") from error
    return identity, device


DICOM = Source(
    info=DatasetInfo(name="DICOM folder", classes=(), source="any hospital"),
    country="",
    device="as the files say",
    images={},
    patients=None,
    masks=False,
    request="your own archive",
    flaws=(),
    verified=False,
    matches=matches,
    read=read,
)
