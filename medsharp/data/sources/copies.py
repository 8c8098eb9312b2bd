"""Copies of images under numbers, for manifests that leave the place where names may be read."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path, PurePosixPath

from medsharp.data.manifest import Manifest
from medsharp.data.sources.patients import PatientKey
from medsharp.errors import InputError
from medsharp.files import atomic_path
from medsharp.progress import Progress

IMAGES = "images"


def copy_images(manifest: Manifest, out: Path, key: PatientKey, *, progress: Progress | None = None) -> Manifest:
    """Copy the images and masks that nothing excludes into a folder, under names that say nothing.

    A file is called by the patient's number and a keyed hash of its path, so that the same export gives the same
    names; of paths, every letter counts, as `1.png` and `01.png` are two. Contents stay as they are: the headers of
    DICOM files still name patients, and so may their pixels.

    Args:
        manifest: Whose excluded rows are left behind.
        out: The copies are written to `images` in it.
        key: Numbers what paths and groups said.
        progress: Called with files done, files in all and what is being done.

    Returns:
        The manifest of the copies, without the rows that are excluded.

    Raises:
        InputError: A file cannot be read or written.
    """
    table = manifest.included.copy()
    names: dict[str, str] = {}
    for image, patient in zip(table["image"], table["patient"], strict=True):
        names.setdefault(image, f"{IMAGES}/{patient or 'unknown'}/{_called(image, key)}")
    masks: Counter[str] = Counter()  # of an image; its frames may have masks of their own
    for cell, image in zip(table["mask"], table["image"], strict=True):
        for mask in filter(None, cell.split(";")):
            if mask not in names:
                masks[image] += 1
                own = PurePosixPath(names[image])
                own = own.with_name(f"{own.stem}_mask_{masks[image]}{Path(mask).suffix.lower()}")
                names[mask] = own.as_posix()
    assert len(set(names.values())) == len(names), "two files have one name"
    for done, (name, copy) in enumerate(names.items(), start=1):
        _copy(manifest.path(name), out / copy)
        if progress is not None:
            progress(done, len(names), "copying images")
    table["image"] = table["image"].map(names)
    table["mask"] = [";".join(names[mask] for mask in cell.split(";") if mask) for cell in table["mask"]]
    groups = [key.number(group) for group in table["group"]]
    table["group"] = [f"group {number}" if number else "" for number in groups]
    left = len(manifest.table) - len(table)
    notes = [f"{len(names)} files copied; DICOM headers and burned-in text are as they were"]
    if left:
        notes.append(f"{left} images that are left out are not copied, and not in the manifest")
    return Manifest(table.reset_index(drop=True), manifest.info, out, (*manifest.notes, *notes))


def _called(image: str, key: PatientKey) -> str:
    return f"{key.digest(image)}{Path(image).suffix.lower()}"


def _copy(source: Path, copy: Path) -> None:
    try:
        with atomic_path(copy, private=True) as temporary:
            shutil.copyfile(source, temporary)
    except OSError as error:
        raise InputError(f"cannot copy {source}: {error.strerror}") from error
