"""Where data comes from: each known layout is one file here and one line in the registry."""

from __future__ import annotations

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
from medsharp.data.sources.dicom import DICOM
from medsharp.data.sources.folder import read_folder
from medsharp.data.sources.gdph import GDPH
from medsharp.data.sources.oasbud import OASBUD
from medsharp.data.sources.source import Source
from medsharp.data.sources.stu import STU
from medsharp.data.sources.udiat import UDIAT
from medsharp.errors import InputError, nearest
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
    DICOM,
)

_ONE_FILE = frozenset({".npz", ".mat"})

__all__ = ["Source", "list_sources", "open_dataset"]


def list_sources() -> tuple[Source, ...]:
    """Return the data sets whose folders are recognised by their layout."""
    return _SOURCES


def open_dataset(path: str | Path, *, classes: Sequence[str] | None = None) -> Manifest:
    """Turn whatever `path` names into a manifest; images are listed, not read.

    Args:
        path: `phantom` or `phantom:B` for simulated hospitals, a manifest (CSV, or a folder with `manifest.csv`), the
            folder of a known data set or its parent, or a folder with one sub-folder a class.
        classes: The classes that are used; images of others are excluded with that reason.

    Raises:
        InputError: Nothing is there, the layout is not known, or a class has no images.
    """
    if str(path).split(":")[0] == "phantom" and not Path(path).exists():
        from medsharp.data.phantom import phantom_dataset

        manifest = phantom_dataset(str(path))
    else:
        manifest = _open_path(Path(path))
    return manifest if classes is None else _use_classes(manifest, classes, str(path))


def _open_path(path: Path) -> Manifest:
    if not path.exists():
        raise InputError(f"{path} does not exist")
    if path.is_file():
        source = _source_of(path) if path.suffix.lower() in _ONE_FILE else None
        if source is not None:
            return source.read(path)
        if path.suffix.lower() not in SUFFIXES:
            raise InputError(f"{path} is a file; give a manifest (CSV or XLSX) or a folder of images")
        return read_manifest(path)
    if manifest_file(path) is not None:
        return read_manifest(path)
    source = _source_of(path)
    if source is not None:
        return source.read(path)
    # What an archive unpacks to is often one folder down.
    inside = {child: _source_of(child) for child in sorted(path.iterdir()) if child.is_dir()}
    known = {child: source for child, source in inside.items() if source is not None}
    if len(known) > 1:
        raise InputError(f"{path} holds {', '.join(child.name for child in known)}; give one of them")
    for child, source in known.items():
        return source.read(child)
    return read_folder(path)


def _source_of(path: Path) -> Source | None:
    return next((source for source in _SOURCES if source.matches(path)), None)


def _use_classes(manifest: Manifest, classes: Sequence[str], origin: str) -> Manifest:
    table = manifest.table.copy()
    present = set(table["label"]) - {""}
    for name in classes:
        if present and name not in present:
            found = ", ".join(sorted(present))
            close = nearest(name, present)
            close = close if close.startswith("; did") else ""
            raise InputError(f"{origin} has no images of class '{name}'; it has {found}{close}")
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
