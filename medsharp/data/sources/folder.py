"""A folder with one sub-folder a class: the layout for any hospital's own images."""

from __future__ import annotations

import re
from pathlib import Path

from medsharp.data.manifest import DatasetInfo, Manifest, make_table
from medsharp.errors import InputError

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".dcm"})
_MASK = re.compile(r"_mask(_\d+)?$", re.IGNORECASE)


def read_folder(folder: Path) -> Manifest:
    """List the images of every sub-folder; its name is the label. Files named `*_mask` are masks.

    Raises:
        InputError: There are no images, or of one class only.
    """
    rows = []
    classes = []
    for inside in sorted(child for child in folder.iterdir() if child.is_dir() and not child.name.startswith(".")):
        files = sorted(file for file in inside.rglob("*") if file.suffix.lower() in SUFFIXES and file.is_file())
        masks: dict[str, list[str]] = {}
        for file in files:
            if _MASK.search(file.stem):
                masks.setdefault(_key(file), []).append(file.relative_to(folder).as_posix())
        images = [file for file in files if not _MASK.search(file.stem)]
        if images:
            classes.append(inside.name)
        rows += [
            {
                "image": file.relative_to(folder).as_posix(),
                "label": inside.name,
                "mask": ";".join(masks.get(_key(file), [])),
            }
            for file in images
        ]
    if not rows:
        raise InputError(
            f"{folder} holds no images that are known: expected a manifest.csv, BUSI, BUS-BRA, or a sub-folder a class "
            f"with {', '.join(sorted(SUFFIXES))} files"
        )
    if len(classes) < 2:
        raise InputError(f"{folder} holds images of one class only ({classes[0]}); two are needed")
    return Manifest(make_table(rows), DatasetInfo(name=folder.resolve().name, classes=tuple(classes)), folder)


def _key(file: Path) -> str:
    return str(file.with_name(_MASK.sub("", file.stem)))
