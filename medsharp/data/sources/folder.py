"""Any hospital's own folder: class folders or a list of labels; pictures, DICOM or both; patients by number."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Literal

from medsharp.data.manifest import DatasetInfo, Manifest, make_table
from medsharp.data.sources.headers import Header
from medsharp.data.sources.identities import Identity, identified
from medsharp.data.sources.labels import FRAME, Entry, Labels, find_table, read_labels
from medsharp.data.sources.listing import (
    SUFFIXES,
    Listing,
    MaskKey,
    is_image_folder,
    list_images,
    mask_key,
    mask_keys,
    shown,
)
from medsharp.data.sources.patients import PatientKey
from medsharp.data.sources.privacy import privacy_notes
from medsharp.data.sources.rules import LabelRule
from medsharp.errors import InputError
from medsharp.images.dicom import OTHER_MODALITIES, of_other_modality
from medsharp.keys import named, says_nothing

StudyDate = Literal["none", "year", "month", "day"]

KNOWN_CLASSES = ("benign", "malignant", "normal")
"""Labels that are written so, whatever the case of a folder's or a table's."""

_SPLIT_FOLDERS = frozenset({"train", "training", "val", "valid", "validation", "test", "testing"})
_LEAST_SUBFOLDERS = 3
"""From as many sub-folders on, each is taken for a patient's: two are rather left and right, or two scanners."""

_NO_PATIENTS = re.compile(
    r"(19|20)\d\d([-_ .]?(0[1-9]|1[0-2]))?"  # years and months
    r"|(ge|philips|siemens|toshiba|canon|samsung|medison|hitachi|aloka|mindray|esaote|fuji(film)?|supersonic|sonosite"
    r"|logiq|voluson|epiq|iu22|affiniti|acuson|aplio|aixplorer|resona|mylab)\b.*"
)
"""Names of folders, in lower case, that are those of scanners or of years and not of patients, where all are such."""

_MOST_CLASSES = 10
"""Folders of names that are no known class's are classes where there are no more: more are patients or series."""

_DATES = {"none": 0, "year": 4, "month": 6, "day": 8}


@dataclass(frozen=True)
class FolderReading:
    """What a person says of a folder.

    Attributes:
        classes: How labels are written; those that occur by default.
        table: The list of labels; by default `labels.csv` or its like in the folder.
        rule: How a column becomes labels.
        key: Numbers patients.
        study_date: How much of StudyDate is carried: a date of examination helps to find out who a patient is. The year
            where nothing is said.
        keep: Columns of the list, or of a manifest that is copied, that are carried besides those of a manifest.
        copied: Whether copies are made: the key numbers those too, and of a manifest further columns are left out.
    """

    classes: tuple[str, ...] = ()
    table: Path | None = None
    rule: LabelRule | None = None
    key: PatientKey = field(default_factory=PatientKey)
    study_date: StudyDate | None = None
    keep: tuple[str, ...] = ()
    copied: bool = False

    def label(self, written: str) -> str:
        """Return a label as the classes are written, whatever its case."""
        known = {name.casefold(): name for name in (*KNOWN_CLASSES, *self.classes)}
        return known.get(written.strip().casefold(), written.strip())


@dataclass(frozen=True)
class _Place:
    """What the folders above a file say: the class, the folders below it, and a split of whoever made them."""

    label: str = ""
    below: tuple[str, ...] = ()
    split: str = ""


@dataclass(frozen=True)
class _Masks:
    """Names of the masks of images, and of all masks whose image is there: some are passed over for likelier ones."""

    of_images: Mapping[Path, Sequence[str]]
    with_image: frozenset[str]


def read_folder(folder: Path, reading: FolderReading | None = None) -> Manifest:
    """List the images of a folder with what their places, headers and a list of labels say of them.

    Folders of the first level are classes (but for folders named `images` and the like, and for DICOM whose folders
    bear no class's name); images below them are tied by sub-folder where no patient is known. What lies in folders
    named `masks` and the like, or is called `*_mask`, is the mask of the image of the same name.

    Args:
        folder: The folder.
        reading: What a person says of it.

    Returns:
        The manifest; its notes say what was left out and why, and what was taken for what. Patients are numbered by
        a keyed hash.

    Raises:
        InputError: There are no images, images of one class only, or the list of labels does not fit.
    """
    reading = reading or FolderReading()
    listing = list_images(folder)
    table = reading.table or find_table(folder)
    if not listing.images:
        masks = [f"{len(listing.masks)} are taken for masks by their names"] if listing.masks else []
        left = "; ".join([*masks, *listing.notes()])
        raise InputError(
            f"{folder} holds no images that are known{f' ({left})' if left else ''}: expected a manifest.csv, a known "
            f"data set, a sub-folder a class or a labels.csv, with {', '.join(sorted(SUFFIXES))} or DICOM files"
        )
    labels = None
    if table is None and reading.rule is not None:
        raise InputError(
            f"{folder} has no table to make labels from {reading.rule.column} of; put a labels.csv there, or name one "
            "with --labels"
        )
    if table is None and reading.keep:
        raise InputError(f"{folder} has no list of labels to keep {named(reading.keep)} of; name one with --labels")
    if table is not None:
        labels = read_labels(table, listing, rule=reading.rule, label_of=reading.label, keep=reading.keep)
        listing = _without_masks(listing, labels)
    nested = _only_folder(listing, reading, table)
    if nested is not None:
        return nested
    places, by_class, notes = _places(listing, reading, labels)
    found = _find_masks(listing)
    rows = _rows(listing, places, by_class, labels, reading, found)
    listed = {} if labels is None else {file: _listed(frames) for file, frames in labels.entries.items()}
    notes += [*privacy_notes(listing, reading.key, listed), *_said(rows, labels), *_said_of_masks(rows, listing, found)]
    classes = tuple(sorted({row["label"] for row in rows if row.get("label")}))
    if by_class and labels is None and len(classes) < 2:
        raise InputError(
            f"{folder} holds images of one class only ({', '.join(classes)}); two are needed{_empty(folder)}"
        )
    if reading.classes and set(classes) <= set(reading.classes):
        classes = reading.classes
    expected = frozenset({table.name}) if table is not None and table.parent == folder else frozenset[str]()
    info = DatasetInfo(name=folder.resolve().name, classes=classes)
    return Manifest(make_table(rows), info, folder, (*listing.notes(expected), *notes))


def _listed(frames: Mapping[str, Entry]) -> set[str]:
    """Return the patients that a list gives for a file."""
    return {entry.patient for entry in frames.values() if not says_nothing(entry.patient)}


def _without_masks(listing: Listing, labels: Labels) -> Listing:
    """Take for masks what the list names as such, whatever it is called."""
    named = {
        mask
        for frames in labels.entries.values()
        for entry in frames.values()
        for mask in entry.values.get("mask", "").split(";")
    }
    masks = tuple(file for file in (*listing.images, *listing.drawings) if listing.inside(file) in named)
    of_masks = set(masks)
    images, drawings = (
        tuple(file for file in files if file not in of_masks) for files in (listing.images, listing.drawings)
    )
    return replace(listing, images=images, masks=(*listing.masks, *masks), drawings=drawings)


def _only_folder(listing: Listing, reading: FolderReading, table: Path | None) -> Manifest | None:
    """Read the one folder that an archive unpacked to, where it is no class but holds classes or a list of labels.

    Masks may lie beside it; paths are from the upper folder on then.
    """
    tops = {PurePosixPath(listing.inside(file)).parts[0] for file in listing.images}
    child = listing.folder / min(tops)
    classes = {name.casefold() for name in (*KNOWN_CLASSES, *reading.classes)} | _SPLIT_FOLDERS
    says_more = child.name.casefold() in classes or is_image_folder(child.name)
    if table is not None or len(tops) > 1 or says_more or not child.is_dir():
        return None
    if find_table(child) is None and not any(entry.is_dir() for entry in child.iterdir()):
        return None
    manifest = read_folder(child, reading)
    told = f"read {child.name}, the only folder of {listing.folder.resolve().name} that holds images"
    beside = tuple(mask for mask in listing.masks if not mask.is_relative_to(child))
    if beside:
        manifest = _with_masks(manifest, replace(listing, masks=beside))
    return manifest.replace(notes=(told, *manifest.notes))


def _with_masks(manifest: Manifest, listing: Listing) -> Manifest:
    """Give the images of a folder masks that lie beside it, with paths from the folder of both on."""
    masks = _find_masks(listing)
    above = manifest.root.relative_to(listing.folder).as_posix()
    rows = []
    for row in manifest.table.to_dict("records"):
        own = [f"{above}/{name}" for name in row["mask"].split(";") if name]
        found = own or masks.of_images.get(manifest.path(row["image"]), ())
        rows.append({**row, "image": f"{above}/{row['image']}", "mask": ";".join(found)})
    notes = (*manifest.notes, *_said_of_masks(rows, listing, masks))
    return replace(manifest, table=make_table(rows), root=listing.folder, notes=notes)


def _empty(folder: Path) -> str:
    empty = [child.name for child in sorted(folder.iterdir()) if child.is_dir() and not any(child.iterdir())]
    return f" ({', '.join(empty)} is empty)" if empty else ""


def _places(
    listing: Listing, reading: FolderReading, labels: Labels | None
) -> tuple[dict[Path, _Place], bool, list[str]]:
    """Say of each image what its folders mean, whether they are classes, and what of it a person should know."""
    parts = {file: _meaningful(listing.inside(file)) for file in listing.images}
    notes, splits = [], dict.fromkeys(parts, "")
    tops = {inside[0] for inside in parts.values() if inside}
    if (
        tops
        and {top.casefold() for top in tops} <= _SPLIT_FOLDERS
        and all(len(inside) > 1 for inside in parts.values())
    ):
        splits = {file: inside[0] for file, inside in parts.items()}
        parts = {file: inside[1:] for file, inside in parts.items()}
        tops = {inside[0] for inside in parts.values()}
        notes.append(
            "the folders train, validation and test are kept in the column official_split and not used: they are "
            "split anew, by patient"
        )
    known = {name.casefold() for name in (*KNOWN_CLASSES, *reading.classes)}
    depth = {
        file: next((at for at, part in enumerate(inside) if part.casefold() in known), -1)
        for file, inside in parts.items()
    }
    if min(depth.values(), default=-1) >= 0 < max(depth.values()):
        parts = {
            file: (inside[depth[file]], *inside[: depth[file]], *inside[depth[file] + 1 :])
            for file, inside in parts.items()
        }
        tops = {inside[0] for inside in parts.values()}
        notes.append("classes are folders below those of the first level, which are taken for patients' or scanners'")
    by_class = bool(tops) and (
        any(top.casefold() in known for top in tops)
        or not (
            (labels is not None and (labels.labelled or len(tops) < 2))
            or any(file in listing.headers for file in listing.images)
            or len(tops) > _MOST_CLASSES
        )
    )
    places = {}
    for file, inside in parts.items():
        label = reading.label(inside[0]) if by_class and inside and reading.rule is None else ""
        places[file] = _Place(label, inside[1:] if by_class else inside, splits[file])
    by_class = by_class and reading.rule is None
    if not by_class and (labels is None or not labels.labelled):
        lacking = "neither class folders nor a list of labels" if labels is None else labels.lack
        notes.append(f"no image has a label: {lacking}. Good for prediction only")
    elif by_class and labels is not None and not labels.labelled and not {top.casefold() for top in tops} & known:
        notes.append(f"folders are taken for classes, as {labels.lack}")
    return places, by_class, notes


def _meaningful(name: str) -> tuple[str, ...]:
    return tuple(part for part in PurePosixPath(name).parts[:-1] if not is_image_folder(part))


def _rows(
    listing: Listing,
    places: Mapping[Path, _Place],
    by_class: bool,
    labels: Labels | None,
    reading: FolderReading,
    masks: _Masks,
) -> list[dict[str, str]]:
    patients: dict[str, str] = {}  # a keyed hash a file would be 100,000 of them

    def number(identifier: str) -> str:
        if identifier not in patients:
            patients[identifier] = reading.key.number(identifier)
        return patients[identifier]

    rows, identities = [], []
    for file in listing.images:
        name, place, header = listing.inside(file), places[file], listing.headers.get(file)
        about = {"mask": ";".join(masks.of_images.get(file, ())), "label": place.label}
        if place.split:
            about["official_split"] = place.split
        patient, study = "", ""
        if header is not None:
            about |= _of_header(header, reading.study_date or "year")
            patient, study = header.patient, header.study
        if by_class and not place.label:
            about["exclude"] = "in no class folder"
        said = labels.entries.get(file) if labels is not None else None
        if labels is not None and labels.labelled and said is None and not place.label:
            about["exclude"] = f"no row in {labels.table.name}"
        for frame, entry in (said or {"": Entry("")}).items():
            row = dict(about)
            if said is not None and labels is not None:
                row |= _of_entry(row, entry, labels, name)
                if header is not None and header.laterality in {"L", "R"}:
                    row["laterality"] = header.laterality  # of this image; the list's may be of the examination
            row |= {"image": name, FRAME: frame}
            identities.append(Identity(entry.patient, patient, study))
            if header is not None and header.modality in OTHER_MODALITIES:
                row["exclude"] = of_other_modality(header.modality)
            rows.append(row)
    identifiers, ties, of_study = identified(identities)
    for row, identifier, tie in zip(rows, identifiers, ties, strict=True):
        row["patient"] = number(identifier)
        if tie:
            row["group"] = row.get("group") or f"patients of {number(tie)}"
    patients_known = [bool(row["patient"]) and not study for row, study in zip(rows, of_study, strict=True)]
    _tie_subfolders(rows, [places[listing.folder / row["image"]].below for row in rows], patients_known)
    return rows


def _of_entry(row: Mapping[str, str], entry: Entry, labels: Labels, name: str) -> dict[str, str]:
    said = {column: value for column, value in entry.values.items() if value}
    if not labels.labelled:
        return said
    if row["label"] and entry.label and row["label"] != entry.label:
        raise InputError(
            f"{labels.table} gives {name} the label '{entry.label}', and its folder '{row['label']}'; one must be wrong"
        )
    exclude = said.get("exclude", "")
    if row["label"] and not entry.label:
        return {**said, "exclude": exclude}  # the folder says what the list leaves open
    exclude = exclude or entry.exclude
    return {**said, "label": entry.label, "exclude": exclude}


def _of_header(header: Header, study_date: StudyDate) -> dict[str, str]:
    date = header.date[: _DATES[study_date]]
    known = {
        "device": header.device,
        "laterality": header.laterality,
        "pixel_spacing": header.spacing,
        "study_date": "-".join(filter(None, (date[:4], date[4:6], date[6:]))),
    }
    return {column: value for column, value in known.items() if value}


def _find_masks(listing: Listing) -> _Masks:
    images: dict[MaskKey, list[Path]] = {}
    for file in listing.images:  # of one name in two formats, the mask is of both
        images.setdefault(mask_key(listing.inside(file)), []).append(file)
    # Masks may lie beside the one folder of all images.
    levels = zip(*(folders for folders, _ in images), strict=False)
    above = sum(1 for _ in itertools.takewhile(lambda parts: len(set(parts)) == 1, levels))
    below = {(folders[above:], stem): files for (folders, stem), files in images.items()}
    found: dict[Path, dict[str, bool]] = {}
    for mask in listing.masks:
        name = listing.inside(mask)
        keys = mask_keys(name)
        place, at = next(((place, key) for place in (images, below) for key in keys if key in place), ({}, keys[0]))
        for image in place.get(at, ()):
            found.setdefault(image, {})[name] = at == keys[0]
    # `1_mask_copy` beside `1_mask` is that mask at another time.
    of_images = {
        image: [name for name, likely in masks.items() if likely or not any(masks.values())]
        for image, masks in found.items()
    }
    return _Masks(of_images, frozenset(name for masks in found.values() for name in masks))


def _tie_subfolders(
    rows: Sequence[dict[str, str]], folders: Sequence[tuple[str, ...]], patients_known: Sequence[bool]
) -> None:
    """Tie the images of a sub-folder where no patient is known: it is most often a patient's or an examination's.

    Images of a known patient in it, such as DICOM files beside pictures, are tied to them, if there is one patient.

    Args:
        rows: Their `group` is filled in, in place.
        folders: The folders of each row below that of its class.
        patients_known: Whether more than the study of a row is known.
    """
    level = _level_of_patients([below for below, known in zip(folders, patients_known, strict=True) if not known])
    names = ["/".join(below[:level]) if len(below) >= level else "" for below in folders]
    patients: dict[str, set[str]] = {}
    for row, name, known in zip(rows, names, patients_known, strict=True):
        patients.setdefault(name, set()).add(row["patient"] if known else "")
    loose = {name for name, found in patients.items() if name and "" in found}
    if len(loose) < _LEAST_SUBFOLDERS:
        return
    for row, name, known in zip(rows, names, patients_known, strict=True):
        if name in loose and (not known or len(patients[name]) == 2):
            row["group"] = row.get("group") or f"folder {name}"


def _level_of_patients(folders: Sequence[tuple[str, ...]]) -> int:
    """Return how many folders below that of the class lead to a patient's: most often one.

    Folders with further ones in them are rather scanners' or years' where they are called so, are too few to be
    patients, or hold as many folders each as there are of them: patients are many, with few examinations each. In doubt
    the upper folder is taken, as it ties more.

    Args:
        folders: Of each image, from that of the class down.
    """
    level = 1
    while True:
        above = {below[:level] for below in folders if len(below) >= level}
        inside = {below[: level + 1] for below in folders if len(below) > level}
        if len(inside) < _LEAST_SUBFOLDERS:
            return level
        counts = Counter(below[:level] for below in inside)
        usual = sorted(counts[below] for below in above)[len(above) // 2]
        called = all(_NO_PATIENTS.fullmatch(below[-1].casefold()) for below in above)
        if not (called or len(above) < _LEAST_SUBFOLDERS or usual >= len(above)):
            return level
        level += 1


def _said(rows: Sequence[Mapping[str, str]], labels: Labels | None) -> list[str]:
    notes = list(labels.notes) if labels is not None else []
    for reason, count in Counter(row.get("exclude", "") for row in rows).items():
        if reason:
            notes.append(f"{count} images left out: {reason}")
    tied = {row["group"] for row in rows if row.get("group", "").startswith("folder ")}
    if tied:
        count = sum(row.get("group", "") in tied for row in rows)
        notes.append(
            f"{count} images are tied by their {len(tied)} sub-folders, as no patient is known: a list of labels with "
            "a column patient says otherwise"
        )
    return notes


def _said_of_masks(rows: Sequence[Mapping[str, str]], listing: Listing, masks: _Masks) -> list[str]:
    matched = {mask for row in rows for mask in row.get("mask", "").split(";") if mask}
    unused = [name for name in map(listing.inside, listing.masks) if name not in matched]
    orphans = [name for name in unused if name not in masks.with_image]
    spare = [name for name in unused if name in masks.with_image]
    notes = []
    if orphans:
        notes.append(f"{len(orphans)} masks belong to no image: {shown(orphans)}")
    if spare:
        notes.append(f"{len(spare)} masks are not used, as others of their images count before them: {shown(spare)}")
    return notes


def with_classes(reading: FolderReading | None, classes: Sequence[str] | None, rule: LabelRule | None) -> FolderReading:
    """Return a reading that writes labels as `classes` do and makes them by a rule."""
    reading = reading or FolderReading()
    return replace(reading, classes=tuple(classes or reading.classes), rule=rule or reading.rule)
