"""Where data comes from: each known layout is one file here and one line in the registry."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from medsharp.data.manifest import Manifest, manifest_file, read_manifest
from medsharp.data.sources.breast import BREAST
from medsharp.data.sources.breastmnist import BREASTMNIST
from medsharp.data.sources.busbra import BUSBRA
from medsharp.data.sources.busi import BUSI
from medsharp.data.sources.busis import BUSIS
from medsharp.data.sources.busuc import BUSUC
from medsharp.data.sources.busuclm import BUSUCLM
from medsharp.data.sources.copies import copy_images, of_known_columns
from medsharp.data.sources.folder import FolderReading, read_folder, with_classes
from medsharp.data.sources.gdph import GDPH
from medsharp.data.sources.labels import is_list
from medsharp.data.sources.listing import is_image, list_images, shown
from medsharp.data.sources.oasbud import OASBUD
from medsharp.data.sources.patients import PatientKey
from medsharp.data.sources.recognise import AUTOMATIC, FOLDER, insisted, recognise
from medsharp.data.sources.rules import LabelRule
from medsharp.data.sources.source import TOLERANCE, Source
from medsharp.data.sources.stu import STU
from medsharp.data.sources.udiat import UDIAT
from medsharp.data.stores import is_url
from medsharp.errors import InputError, nearest
from medsharp.files import assert_utf8
from medsharp.images.values import declared_range
from medsharp.tables import SUFFIXES

_SOURCES: tuple[Source, ...] = (
    BUSI,
    BUSBRA,
    BREAST,
    BUSUCLM,
    BUSUC,
    BUSIS,
    UDIAT,
    OASBUD,
    GDPH,
    STU,
    BREASTMNIST,
)

_OF_LABELS = ("laid out as ", "no image has a label", "folders are taken for classes")
"""How notes begin that tell where labels come from."""

_ONE_FILE = frozenset({".npz", ".mat"})

__all__ = [
    "FolderReading",
    "LabelRule",
    "PatientKey",
    "Source",
    "check_source",
    "copy_images",
    "list_images",
    "list_sources",
    "open_dataset",
]


def list_sources() -> tuple[Source, ...]:
    """Return the public data sets whose folders are recognised."""
    return _SOURCES


def check_source(name: str) -> str:
    """Return a name that `open_dataset` takes as its `source`.

    Raises:
        InputError: There is no data set of that name.
    """
    plain = "".join(letter for letter in name.lower() if letter.isalnum())
    known = [FOLDER, AUTOMATIC, *(source.key for source in _SOURCES)]
    if plain not in known:
        close = nearest(plain, known)
        raise InputError(f"no data set is called '{name}'{close}")
    return plain


def open_dataset(
    path: str | Path,
    *,
    classes: Sequence[str] | None = None,
    source: str | None = None,
    rule: LabelRule | None = None,
    reading: FolderReading | None = None,
    value_range: tuple[float, float] | None = None,
    stored: bool = False,
) -> Manifest:
    """Turn whatever `path` names into a manifest; images are listed, not read.

    Args:
        path: `phantom` or `phantom:B` for simulated hospitals, a manifest (CSV, or a folder with `manifest.csv`), the
            folder of a known data set or its parent, or a hospital's own folder: a sub-folder a class, or a list of
            labels.
        classes: The classes that are used; images of others are excluded with that reason.
        source: `folder` reads a folder as a hospital's own whatever it looks like; the name of a data set, such as
            `busi`, takes it for that one. By default, and with `auto`, it is found out.
        rule: Makes labels from a column of the manifest, of the list of labels or of the data set's own table.
        reading: What else a person says of a hospital's own folder.
        value_range: Declares what is black and white in images of more than 8 bits; by default `range` of a manifest.
        stored: Whether a manifest may be at a URL, or its images, as `read_manifest` takes it.

    Raises:
        InputError: Nothing is there, the layout is not known, a class has no images, a name is not in UTF-8, or
            `value_range` is no range.
    """
    value_range = declared_range(value_range)
    wanted = AUTOMATIC if source is None else check_source(source)
    reading = with_classes(reading, classes, rule)
    if str(path).split(":")[0] == "phantom" and not Path(path).exists():
        from medsharp.data.phantom import phantom_dataset

        _refuse_source(wanted, str(path), "is simulated")
        _refuse_reading(str(path), "is simulated", reading)
        manifest = _relabelled(phantom_dataset(str(path)), rule)
    elif is_url(path):
        _refuse_source(wanted, str(path), "is a manifest")
        manifest = _open_manifest(str(path), "is a manifest", reading, stored)
    else:
        assert_utf8(path, Path(path).resolve())
        manifest = _open_path(Path(path), wanted, reading, stored)
    manifest = manifest.with_range(value_range)
    return manifest if classes is None else _use_classes(manifest, classes, str(path))


def _open_path(path: Path, wanted: str, reading: FolderReading, stored: bool) -> Manifest:
    if not path.exists():
        raise InputError(f"{path} does not exist")
    if path.is_file():
        if path.suffix.lower() in _ONE_FILE:
            return _open_one_file(path, wanted, reading)
        _refuse_source(wanted, str(path), "is a file")
        if path.suffix.lower() not in SUFFIXES:
            raise InputError(f"{path} is a file; give a manifest (CSV or XLSX) or a folder of images")
        return _open_manifest(path, "is a manifest", reading, stored)
    if manifest_file(path) is not None:
        _refuse_source(wanted, str(path), "holds a manifest, which says what it is")
        return _open_manifest(path, "holds a manifest", reading, stored)
    if wanted == FOLDER:
        return read_folder(path, reading)
    if wanted != AUTOMATIC:
        known = insisted(wanted, path, _SOURCES)
        return _public(known, path, f"taken for {known.name}, as it was said to be", reading)
    found = recognise(path, _SOURCES)
    if found.source is not None:
        return _public(found.source, path, found.sentence, reading)
    below = None if found.sentence else _below(path, reading)
    if below is not None:
        return below
    try:
        manifest = read_folder(path, reading)
    except InputError as error:
        raise InputError(f"{error}. {path} is {found.sentence}" if found.sentence else str(error)) from error
    notes = [found.sentence] if found.sentence else []
    return manifest.replace(notes=(*notes, *manifest.notes))


def _open_manifest(path: str | Path, why: str, reading: FolderReading, stored: bool) -> Manifest:
    if not reading.copied:
        _refuse_reading(str(path), why, reading)
        return _relabelled(read_manifest(path, stored=stored), reading.rule)
    # Of copies that are made of a manifest, the key numbers the patients, and columns may be kept.
    _refuse_reading(str(path), why, dataclasses.replace(reading, keep=()))
    return of_known_columns(_relabelled(read_manifest(path), reading.rule), reading.keep)


def _open_one_file(path: Path, wanted: str, reading: FolderReading) -> Manifest:
    if wanted not in {AUTOMATIC, FOLDER}:
        known = insisted(wanted, path, _SOURCES)
        return _public(known, path, f"taken for {known.name}, as it was said to be", reading)
    found = recognise(path, _SOURCES)
    if found.source is None:
        more = f"; it is {found.sentence}" if found.sentence else ""
        raise InputError(f"{path} is a file; give a manifest (CSV or XLSX) or a folder of images{more}")
    return _public(found.source, path, found.sentence, reading)


def _below(path: Path, reading: FolderReading) -> Manifest | None:
    """Open the data set one folder down, where an archive often unpacks it; None where there is none."""
    children = [child for child in sorted(path.iterdir()) if child.is_dir() and not child.name.startswith(".")]
    found = {child: recognise(child, _SOURCES) for child in children}
    known = {child: about for child, about in found.items() if about.source is not None}
    if len(known) > 1:
        raise InputError(f"{path} holds {', '.join(child.name for child in known)}; give one of them")
    for child, about in known.items():
        assert about.source is not None
        manifest = _public(about.source, child, f"{child.name} is {about.sentence}", reading)
        beside = [other.name for other in children if other != child]
        loose = [file.name for file in sorted(path.iterdir()) if file.is_file() and is_image(file)]
        kinds = (("folders", beside), ("images", loose))
        further = [f"{kind}, which are not read: {shown(names)}" for kind, names in kinds if names]
        notes = [f"{path.resolve().name} holds further {sentence}" for sentence in further]
        return manifest.replace(notes=(*manifest.notes, *notes, *_unread_lists(path)))
    return None


def _public(source: Source, path: Path, sentence: str, reading: FolderReading) -> Manifest:
    """Read a public data set, and say by what it was recognised and which images of the folder are none of it."""
    _refuse_reading(str(path), f"is {sentence}", reading, remedy=f", or say --source {FOLDER}")
    manifest = source.read(path)
    notes = [sentence]
    if abs(len(manifest.table) - source.total) > TOLERANCE * source.total:
        notes.append(f"it has {len(manifest.table):,} images; {source.total:,} were published")
    notes += _unread_lists(path)
    if path.is_dir():
        used: set[str] = set()  # what came out of one file has its images elsewhere
        if manifest.root == path:
            used = {*manifest.table["image"], *(name for cell in manifest.table["mask"] for name in cell.split(";"))}
        listing = list_images(path)
        files = sorted((*listing.images, *listing.drawings))
        further = [name for name in map(listing.inside, files) if name not in used]
        if further:
            notes.append(
                f"{len(further)} images of the folder are not of {source.name}, and not used: {shown(further)}"
            )
    return _relabelled(manifest.replace(notes=(*notes, *manifest.notes)), reading.rule)


def _unread_lists(path: Path) -> list[str]:
    """Say that a list of labels lies there and is not read, as the data set says its labels itself."""
    lists = [file.name for file in sorted(path.iterdir()) if is_list(file)] if path.is_dir() else []
    return [f"{shown(lists)} of {path.resolve().name} is not read; --source {FOLDER} reads it"] if lists else []


def _refuse_source(wanted: str, path: str, why: str) -> None:
    if wanted != AUTOMATIC:
        raise InputError(f"--source {wanted}: {path} {why}; leave it out")


def _refuse_reading(path: str, why: str, reading: FolderReading, *, remedy: str = "") -> None:
    """Refuse what is said of a hospital's own folder where there is none: it would have no effect."""
    given = {
        "--labels": reading.table,
        "--keep": ", ".join(reading.keep),
        "--study-date": reading.study_date,
        "--key": None if reading.copied else reading.key.file,
    }
    for option, value in given.items():
        if value:
            raise InputError(f"{option} {value}: {path} {why}; leave it out{remedy}")


def _relabelled(manifest: Manifest, rule: LabelRule | None) -> Manifest:
    """Make the labels of a manifest anew from one of its columns."""
    if rule is None:
        return manifest
    table = manifest.table.copy()
    column = rule.heading(table.columns)
    if column is None:
        close = nearest(rule.column, table.columns)
        raise InputError(f"{manifest.info.name} has no column '{rule.column}' to make labels from{close}")
    made = [rule.label(value) for value in table[column]]
    table["label"] = [label for label, _ in made]
    free = table["exclude"] == ""
    table.loc[free, "exclude"] = pd.Series([why for _, why in made], index=table.index)[free]
    notes = rule.notes(table[column])
    reasons: pd.Series[int] = table.loc[free, "exclude"].value_counts().sort_index()
    notes += [f"{count} images left out: {reason}" for reason, count in reasons.items() if reason]
    info = dataclasses.replace(manifest.info, classes=tuple(rule.values))
    return dataclasses.replace(manifest, table=table, info=info, notes=(*manifest.notes, *notes))


def _use_classes(manifest: Manifest, classes: Sequence[str], origin: str) -> Manifest:
    table = manifest.table.copy()
    present = set(table["label"]) - {""}
    # What was found out of the folder is the reason, and is read nowhere else where this ends.
    reasons = [note for note in manifest.notes if note.startswith(_OF_LABELS)]
    why = "".join(f". {reason[0].upper()}{reason[1:]}" for reason in reasons)
    if not present:
        raise InputError(
            f"{origin}: {len(table)} images have no label; use `medsharp predict` for images without labels{why}"
        )
    for name in classes:
        if name not in present:
            found = ", ".join(sorted(present))
            close = nearest(name, present)
            close = close if close.startswith("; did") else ""
            raise InputError(f"{origin} has no images of class '{name}'; it has {found}{close}{why}")
    _refuse_misspelt(manifest, classes, origin)
    other = (table["label"] != "") & ~table["label"].isin(list(classes)) & (table["exclude"] == "")
    table.loc[other, "exclude"] = "class not used: " + table.loc[other, "label"].astype(str)
    counts: pd.Series[int] = table.loc[other, "label"].value_counts().sort_index()
    notes = [f"{count} images of class {label} are not used" for label, count in counts.items()]
    return manifest.replace(table=table, notes=(*manifest.notes, *notes))


def _refuse_misspelt(manifest: Manifest, classes: Sequence[str], origin: str) -> None:
    """Refuse a label that is nearly one of the classes; others are those of further classes, and are not used."""
    labels = list(manifest.table["label"])
    for label in sorted(set(labels) - {"", *classes}):
        close = difflib.get_close_matches(label.strip().lower(), classes, n=1, cutoff=0.8)
        if close:
            place = f"{origin}, row {manifest.line(labels.index(label))}"
            raise InputError(f"{place}: label '{label}' is not one of {', '.join(classes)}; did you mean {close[0]}?")
