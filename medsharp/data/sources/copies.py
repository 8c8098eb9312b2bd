"""Copies of images under numbers, for manifests that leave the place where names may be read."""

from __future__ import annotations

import dataclasses
import shutil
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path, PurePosixPath

import pandas as pd

from medsharp.data.manifest import AUDITED, CARRIED, COLUMNS, DESCRIBED, Manifest
from medsharp.data.sources.listing import SUFFIXES
from medsharp.data.sources.patients import PatientKey
from medsharp.data.sources.rules import kept_headings
from medsharp.errors import InputError
from medsharp.files import atomic_path
from medsharp.images import ValueRange
from medsharp.keys import clusters_of, is_keyed, name_key, named, patient_key, patients_of, site_key
from medsharp.progress import Progress

IMAGES = "images"


def of_known_columns(manifest: Manifest, keep: Collection[str] = ()) -> Manifest:
    """Leave out the columns of somebody's manifest that reading a folder does not fill: names may stand in them.

    Args:
        manifest: Read from a file; a note says which columns are left out.
        keep: Further columns that are kept.

    Raises:
        InputError: One that is kept is not there.
    """
    columns = list(manifest.table)
    kept = {*COLUMNS, *CARRIED, *kept_headings(keep, columns, manifest.info.name)}
    # A second `Study date` beside the manifest's own is none of it; reading has renamed those that stand alone.
    kept |= {name for name in columns if name_key(name).replace(" ", "_") in DESCRIBED}
    further = [name for name in columns if name not in kept]
    if not further:
        return manifest
    note = f"columns that the copies go without, as names may stand there (--keep keeps one): {named(further)}"
    return manifest.replace(table=manifest.table.drop(columns=further), notes=(*manifest.notes, note))


def copy_images(manifest: Manifest, out: Path, key: PatientKey, *, progress: Progress | None = None) -> Manifest:
    """Copy the images and masks that nothing excludes into a folder, under names that say nothing.

    A file is called by the patient's number and a keyed hash of its path, so that the same export gives the same
    names; of paths, every letter counts, as `1.png` and `01.png` are two. Patients that a manifest calls otherwise than
    by a keyed hash are numbered by what their rows say, and by nothing of other rows: that name, and the site where the
    row names one, so that a patient has one number in copies of one data set, of several, before an exclusion and after
    it. Contents stay as they are: the headers of DICOM files still name patients, and so may their pixels.

    Args:
        manifest: Whose excluded rows are left behind, and its notes, which may quote names; of an audit it stays known
            that it was made.
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
    numbers = _numbered(table, key)
    table["group"], several = _groups(table, numbers, key)
    table["patient"] = numbers
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
    left = len(manifest.table) - len(table)
    patients = set(numbers) - {""}
    ours = {number for number in patients if key.gave(number)}
    notes = [
        f"{len(names)} files copied; DICOM headers and burned-in text are as they were",
        f"files{' and patients' if ours else ''} are numbered by the key {key.fingerprint}",
    ]
    if patients - ours:
        notes.append(
            f"{len(patients - ours)} patients keep the numbers that they had, which another key may have given"
        )
    if several:
        notes.append(f"{several} patients have rows with a site and rows without: numbered apart, and tied by a group")
    if left:
        notes.append(f"{left} images that are left out are not copied, and not in the manifest")
    if any(note.startswith(AUDITED) for note in manifest.notes):
        notes.append(f"{AUDITED}made before the images were copied; what it said is not stored with the copies")
    return Manifest(table.reset_index(drop=True), info, out, tuple(notes))


def _one_range(manifest: Manifest) -> ValueRange | None:
    ranges = {part.range for part in manifest.parts} or {manifest.info.range}
    if len(ranges) > 1:
        raise InputError(f"{manifest.info.name} joins data sets of several ranges of values; copy each by itself")
    return ranges.pop()


def _numbered(table: pd.DataFrame, key: PatientKey) -> list[str]:
    """Return each row's patient as a keyed hash, of what the row alone says: the same in a copy with other rows.

    A keyed hash stays, as it is written here. Any other name, which might lead out of the folder, gets one: of itself,
    and of the site where the row names one.
    """
    numbers: dict[tuple[str, str], str] = {}  # a keyed hash a row would be 100,000 of them
    for patient, site in sorted(set(zip(table["patient"], table["site"], strict=True))):
        number, where = patient_key(patient), site_key(site)
        if is_keyed(patient):
            numbers[patient, site] = f"P{name_key(patient)[1:]}"
        else:
            numbers[patient, site] = key.number(f"{number} at {where}" if number and where else number)
    return [numbers[one] for one in zip(table["patient"], table["site"], strict=True)]


def _groups(table: pd.DataFrame, numbers: Sequence[str], key: PatientKey) -> tuple[list[str], int]:
    """Return each row's group under a number, and how many patients have several numbers.

    They are those with rows that name a site and rows that name none, which count as one patient
    (`medsharp.keys.patients_in`): in the copies a group ties them.

    Args:
        table: With patients and groups as they were.
        numbers: Of the patients, from `_numbered`.
        key: Numbers what groups say.
    """
    hidden = {group: key.number(group) for group in table["group"].unique()}
    groups = pd.Series([f"group {hidden[group]}" if hidden[group] else "" for group in table["group"]], table.index)
    who, number = patients_of(table), pd.Series(numbers, table.index)
    several = number[who != ""].groupby(who[who != ""]).nunique() > 1
    if not several.any():
        return list(groups), 0
    clusters = pd.Series(clusters_of(table[["patient", "site", "group"]]), table.index)
    divided = clusters.isin(clusters[who.isin(several.index[several])])
    first = number[number != ""].groupby(clusters[number != ""]).min()
    groups[divided] = "patients of " + clusters[divided].map(first)
    return list(groups), int(several.sum())


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
