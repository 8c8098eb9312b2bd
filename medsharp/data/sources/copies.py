"""Copies of images under numbers, for manifests that leave the place where names may be read."""

from __future__ import annotations

import dataclasses
import shutil
from collections import Counter
from collections.abc import Collection
from pathlib import Path, PurePosixPath

import pandas as pd

from medsharp.data.manifest import CARRIED, COLUMNS, Manifest
from medsharp.data.sources.listing import SUFFIXES
from medsharp.data.sources.patients import PatientKey
from medsharp.errors import InputError, nearest
from medsharp.files import atomic_path
from medsharp.images import ValueRange
from medsharp.keys import is_keyed, name_key, named, patient_key, patients_of, site_key
from medsharp.progress import Progress

IMAGES = "images"


def of_known_columns(manifest: Manifest, keep: Collection[str] = ()) -> Manifest:
    """Leave out the columns of somebody's manifest that are none of a manifest's own: names may stand in them.

    Args:
        manifest: Read from a file; a note says which columns are left out.
        keep: Further columns that are kept.

    Raises:
        InputError: One that is kept is not there.
    """
    columns = list(manifest.table)
    for name in keep:
        if name not in columns:
            raise InputError(f"{manifest.info.name} has no column '{name}' to keep{nearest(name, columns)}")
    further = [name for name in columns if name not in (*COLUMNS, *CARRIED, *keep)]
    if not further:
        return manifest
    note = f"columns that the copies go without, as names may stand there (--keep keeps one): {named(further)}"
    return manifest.replace(table=manifest.table.drop(columns=further), notes=(*manifest.notes, note))


def copy_images(manifest: Manifest, out: Path, key: PatientKey, *, progress: Progress | None = None) -> Manifest:
    """Copy the images and masks that nothing excludes into a folder, under names that say nothing.

    A file is called by the patient's number and a keyed hash of its path, so that the same export gives the same
    names; of paths, every letter counts, as `1.png` and `01.png` are two. Patients that a manifest calls otherwise than
    by a keyed hash are numbered, with the site where one number stands at several: those are patients of their own
    (`medsharp.keys.patients_in`). Contents stay as they are: the headers of DICOM files still name patients, and so may
    their pixels.

    Args:
        manifest: Whose excluded rows are left behind, and its notes, which may quote names.
        out: The copies are written to `images` in it.
        key: Numbers patients, and what paths and groups said.
        progress: Called with files done, files in all and what is being done.

    Returns:
        The manifest of the copies, without the rows that are excluded; its notes are of copying.

    Raises:
        InputError: A file cannot be read or written, or data sets of several ranges of values are joined.
    """
    info = dataclasses.replace(manifest.info, range=_one_range(manifest))
    table = manifest.included.copy()
    table["patient"], several = _numbered(table, key)
    names: dict[str, str] = {}
    for image, patient in zip(table["image"], table["patient"], strict=True):
        names.setdefault(image, f"{IMAGES}/{patient or 'unknown'}/{_called(image, key)}")
    masks: Counter[str] = Counter()  # of an image; its frames may have masks of their own
    for cell, image in zip(table["mask"], table["image"], strict=True):
        for mask in filter(None, cell.split(";")):
            if mask not in names:
                masks[image] += 1
                own = PurePosixPath(names[image])
                own = own.with_name(f"{own.stem}_mask_{masks[image]}{_ending(mask)}")
                names[mask] = own.as_posix()
    assert len(set(names.values())) == len(names), "two files have one name"
    lost = [name for name in names if not manifest.path(name).is_file()]
    if lost:
        raise InputError(f"cannot copy {manifest.path(lost[0])}: there is no such file ({len(lost)} in all)")
    for done, (name, copy) in enumerate(names.items(), start=1):
        _copy(manifest.path(name), out / copy)
        if progress is not None:
            progress(done, len(names), "copying images")
    table["image"] = table["image"].map(names)
    table["mask"] = [";".join(names[mask] for mask in cell.split(";") if mask) for cell in table["mask"]]
    groups = [key.number(group) for group in table["group"]]
    table["group"] = [f"group {number}" if number else "" for number in groups]
    left = len(manifest.table) - len(table)
    notes = [
        f"{len(names)} files copied; DICOM headers and burned-in text are as they were",
        f"files and patients are numbered by the key {key.fingerprint}",
    ]
    if several:
        notes.append(f"{several} numbers of patients stand at several sites: each is a patient of its own at each")
    if left:
        notes.append(f"{left} images that are left out are not copied, and not in the manifest")
    return Manifest(table.reset_index(drop=True), info, out, tuple(notes))


def _one_range(manifest: Manifest) -> ValueRange | None:
    ranges = {part.range for part in manifest.parts} or {manifest.info.range}
    if len(ranges) > 1:
        raise InputError(f"{manifest.info.name} joins data sets of several ranges of values; copy each by itself")
    return ranges.pop()


def _numbered(table: pd.DataFrame, key: PatientKey) -> tuple[list[str], int]:
    """Return each row's patient as a keyed hash, and how many plain numbers are patients of their own at several sites.

    A keyed hash stays, as it is written here. Any other name, which might lead out of the folder, gets one.
    """
    who, plain = patients_of(table), table["patient"].map(patient_key)
    at_sites = who.groupby(plain).nunique()
    several = set(at_sites.index[at_sites > 1])
    numbers: dict[str, str] = {}
    for one, number, patient, site in zip(who, plain, table["patient"], table["site"], strict=True):
        if one in numbers:
            continue
        if is_keyed(patient):
            numbers[one] = f"P{name_key(patient)[1:]}"
        else:
            numbers[one] = key.number(f"{number} at {site_key(site)}" if number in several else patient)
    return [numbers[one] for one in who], len(several)


def _called(image: str, key: PatientKey) -> str:
    return f"{key.digest(image)}{_ending(image)}"


def _ending(name: str) -> str:
    """Return the ending of a file where it is an image's; any other may be a part of a name, as in `1.schmidt`."""
    ending = Path(name).suffix.lower()
    return ending if ending in SUFFIXES else ""


def _copy(source: Path, copy: Path) -> None:
    try:
        with atomic_path(copy, private=True) as temporary:
            shutil.copyfile(source, temporary)
    except OSError as error:
        raise InputError(f"cannot copy {source}: {error.strerror}") from error
