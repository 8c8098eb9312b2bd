"""Manifests as files: `manifest.csv` with `manifest.yaml`, here or in an object store."""

from __future__ import annotations

import dataclasses
import posixpath
from collections.abc import Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import pandas as pd
import yaml

from medsharp.data.manifest.cells import (
    EMPTY_CELLS,
    UNKNOWN,
    check_duplicates,
    check_labels,
    labels_once,
    read_digests,
    read_frames,
    read_rows,
    read_splits,
)
from medsharp.data.manifest.table import AUDITED, DatasetInfo, Manifest
from medsharp.data.parts import PartFolders, read_parts, written_parts
from medsharp.data.paths import DataFolder
from medsharp.data.stores import Store, copied, is_url
from medsharp.errors import InputError
from medsharp.files import assert_utf8, atomic_path, write_text
from medsharp.images import read_range
from medsharp.tables import SUFFIXES, read_table
from medsharp.yaml_text import load_yaml

ABOUT = "manifest.yaml"

_READ_URLS = "predict, evaluate and robustness"
"""Commands that read images in object stores."""


def manifest_file(folder: Path) -> Path | None:
    """Return the manifest in a folder: `manifest.csv`, or the same as a workbook or with tabs."""
    files = (folder / f"manifest{suffix}" for suffix in SUFFIXES)
    return next((file for file in files if file.is_file()), None)


def read_manifest(path: str | Path, *, classes: Sequence[str] | None = None, stored: bool = False) -> Manifest:
    """Read a manifest and check it.

    Every cell is cleaned (see `medsharp.tables`), paths become those of the files on disk (`medsharp.data.paths`), a
    site has one spelling, what merged cells leave empty is filled (but where `write_manifest` wrote it, whose empty
    cells say that nothing is known), and `exclude` of 0 or FALSE is none; the notes say each of these.

    Args:
        path: A CSV file or workbook, Parquet, or a folder that holds `manifest.csv` or `manifest.xlsx`; or the URL of a
            file.
        classes: The labels that are right; by default those of `manifest.yaml`, else those that occur.
        stored: Whether its images may lie in an object store: it is a URL, or `root` in `manifest.yaml` is one.

    Raises:
        InputError: The file is missing, is no table, lacks a column, repeats an image, or holds an unknown label or a
            path that leaves the data folder; the sentence names file and row as a spreadsheet numbers it. Or the name
            of a folder is not in UTF-8.
    """
    if isinstance(path, str) and is_url(path):
        if not stored:
            raise InputError(f"{path}: a URL is read by medsharp {_READ_URLS} only; copy the data set")
        return _read_stored(path, classes)
    path = Path(path)
    assert_utf8(path, path.resolve())
    if path.is_dir() and path.suffix.lower() != ".parquet":
        path = manifest_file(path) or path / "manifest.csv"
    manifest = _read(path, classes, "")
    if manifest.store and not stored:
        only = f"are read by medsharp {_READ_URLS} only; copy them"
        raise InputError(f"{path}: images at a URL, {manifest.store}, {only}")
    return manifest


def _read_stored(url: str, classes: Sequence[str] | None) -> Manifest:
    if PurePosixPath(url).suffix.lower() not in SUFFIXES:
        raise InputError(f"{url}: at a URL give the manifest itself, such as {url.rstrip('/')}/manifest.csv")
    store, _, name = url.rpartition("/")
    with copied(store, (name, ABOUT)) as folder:
        if not (folder / name).is_file():
            raise InputError(f"cannot read {url}: there is no such file")
        try:
            return _read(folder / name, classes, store)
        except InputError as error:
            raise InputError(str(error).replace(str(folder), store)) from error


def _read(path: Path, classes: Sequence[str] | None, store: str) -> Manifest:
    read = read_table(path, ("image", "label"))
    if read.frame.empty:
        raise InputError(f"{path} lists no images")
    lines = tuple(int(line) for line in read.frame.index)
    about = _read_about(path.with_name(ABOUT))
    table, told = read_rows(path, read.frame, about)
    root, url = _place_of_images(path, str(about.get("root") or ""), store)
    parts = read_parts(about.get("parts"), path.with_name(ABOUT))
    known = _classes(about, path.with_name(ABOUT))
    if known:
        check_labels(path, table, known, lines)
    elif classes is not None:
        check_labels(path, table, classes, lines)
    else:
        check_labels(path, table, labels_once(table["label"]), lines)
    folder = store.rpartition("/")[2] or path.resolve().parent.name
    info = DatasetInfo(
        name=str(about.get("name") or (path.stem if path.stem != "manifest" else folder)),
        classes=known or (tuple(classes) if classes is not None else tuple(sorted(set(table["label"]) - {""}))),
        range=None if about.get("range") is None else read_range(about["range"], f"{path.with_name(ABOUT)}: range"),
        **{key: str(about.get(key) or "") for key in ("licence", "citation", "source", "doi")},
    )
    notes = [*read.notes, *told]
    read_splits(path, table, lines)
    read_digests(path, table, lines)
    read_frames(path, table, lines)
    written = table["image"].copy()
    files = PartFolders(parts) if parts else Store(url) if url else DataFolder(root)
    notes += _find_files(path, table, files, lines)
    check_duplicates(path, table, written, lines)
    kept = (note for note in _notes(about) if note.startswith(AUDITED))
    return Manifest(table, info, root, (*kept, *notes), lines, parts, "" if parts else url)


def _place_of_images(path: Path, root: str, store: str) -> tuple[Path, str]:
    """Return the folder of the images, and its URL where that is none of this machine.

    Args:
        path: The manifest.
        root: What its `manifest.yaml` says.
        store: The URL of the folder that it was read from, or nothing.

    Raises:
        InputError: A manifest in a store names a folder of this machine, or one above the store.
    """
    ours = root.partition("://")[0] in ("file", "local")
    if is_url(root) and not (store and ours):
        return path.parent, root.rstrip("/")
    if not store:
        return path.parent / root, ""  # an absolute root stands by itself
    if not root:
        return path.parent, store
    scheme, _, folder = store.partition("://")
    place = posixpath.normpath(posixpath.join(folder, root))
    bucket = folder.partition("/")[0]  # or the host
    if ours or root.startswith("/") or PureWindowsPath(root).is_absolute() or place.partition("/")[0] != bucket:
        raise InputError(f"{store}/{ABOUT}: root '{root}' is not in the store; give a folder there, or a URL")
    return path.parent, f"{scheme}://{place}"


def _classes(about: dict[str, Any], path: Path) -> tuple[str, ...]:
    classes = about.get("classes") or []
    if not isinstance(classes, list):
        raise InputError(f"{path}: classes must be a list, such as [benign, malignant], and is '{classes}'")
    return tuple(map(str, classes))


def _notes(about: dict[str, Any]) -> list[str]:
    notes = about.get("notes") or []
    return [str(note) for note in notes] if isinstance(notes, list) else [str(notes)]


def write_manifest(manifest: Manifest, folder: str | Path) -> None:
    """Write `manifest.csv` and `manifest.yaml`; the root is recorded only when the images lie elsewhere."""
    folder = Path(folder)
    about: dict[str, Any] = dataclasses.asdict(manifest.info)
    about["classes"] = list(manifest.info.classes)
    if manifest.info.range is None:
        del about["range"]
    else:
        about["range"] = list(manifest.info.range)
    if manifest.parts:
        about["parts"] = written_parts(manifest.parts)
    elif manifest.root.resolve() != folder.resolve():
        about["root"] = str(manifest.root.resolve())
    about[EMPTY_CELLS] = UNKNOWN
    if manifest.notes:
        about["notes"] = list(manifest.notes)
    with atomic_path(folder / "manifest.csv") as temporary:
        manifest.table.to_csv(temporary, index=False, lineterminator="\n")
    write_text(folder / "manifest.yaml", yaml.safe_dump(about, sort_keys=False, allow_unicode=True))


def _read_about(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        about = load_yaml(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(about, dict):
        raise InputError(f"{path} must hold keys such as name and classes")
    return about


def _find_files(
    path: Path, table: pd.DataFrame, folder: DataFolder | PartFolders | Store, lines: Sequence[int]
) -> list[str]:
    """Write the paths of the files on disk into `image` and `mask`."""
    missing = []
    images, masks = [], []
    for line, image, mask in zip(lines, table["image"], table["mask"], strict=True):
        try:
            if not image:
                raise InputError("no image is named")
            found = folder.find(image)
            # A mask that is missing is told by the audit and by what needs it.
            masks.append(";".join(folder.find(name) or name for name in mask.split(";") if name) if mask else "")
        except InputError as error:
            raise InputError(f"{path.name}, row {line}: {error}") from error
        images.append(found or image)
        if found is None:
            missing.append((line, image))
    if missing:
        line, name = missing[0]
        more = f" ({len(missing)} images are missing in all)" if len(missing) > 1 else ""
        raise InputError(f"{path.name}, row {line}: image '{name}' is not in {folder.root}{more}")
    table["image"], table["mask"] = images, masks
    return folder.notes(path.name)
