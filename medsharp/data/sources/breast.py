"""BrEaST: 256 images of 256 patients, Poland; the clinical table is an Excel workbook."""

from __future__ import annotations

import re
from pathlib import Path

from medsharp.data.manifest import DatasetInfo, Manifest, make_table
from medsharp.data.sources.source import Source
from medsharp.errors import InputError
from medsharp.tables import number, read_table, table_with

INFO = DatasetInfo(
    name="BrEaST",
    classes=("benign", "malignant", "normal"),
    licence="CC BY 4.0",
    citation="Pawłowska et al., Curated benchmark dataset for ultrasound based breast lesion analysis, Scientific Data "
    "11 (2024) 148",
    source="medical centres",
    doi="10.7937/9WKK-Q141",
)
_SEVERAL = re.compile(r"[&;,]")
_PARTICULAR = ("Mask_other_filename", "Pixel_size", "Tissue_composition", "BIRADS", "Verification")
_NEEDED = ("CaseID", "Image_filename", "Mask_tumor_filename", "Classification")


def matches(folder: Path) -> bool:
    """Whether the clinical table is there."""
    return table_with(folder, _NEEDED) is not None


def evidence(folder: Path) -> str:
    """Return its table, where that has the particular columns."""
    table = table_with(folder, (*_NEEDED, *_PARTICULAR))
    return f"the columns of {table.name}" if table is not None else ""


def read(folder: Path) -> Manifest:
    """Read the clinical table; images may lie beside it or one folder down.

    Raises:
        InputError: An image or mask that the table names is missing, or its class is not known.
    """
    table = table_with(folder, _NEEDED)
    assert table is not None
    places = {file.name: file.relative_to(folder).as_posix() for file in sorted(folder.glob("**/*.png"))}
    rows = []
    for line, entry in read_table(table, _NEEDED).records():
        name, label = entry["Image_filename"], entry["Classification"].lower()
        if name not in places:
            raise InputError(f"{table}, row {line}: image {name} is missing")
        if label not in INFO.classes:
            raise InputError(f"{table}, row {line}: Classification '{entry['Classification']}' is not known")
        masks = [part.strip() for part in _SEVERAL.split(_known(entry["Mask_tumor_filename"])) if part.strip()]
        missing = [mask for mask in masks if mask not in places]
        if missing:
            raise InputError(f"{table}, row {line}: mask {missing[0]} is missing")
        rows.append(
            {
                "image": places[name],
                "label": label,
                "patient": number(entry["CaseID"]),
                "site": INFO.source,
                "birads": number(entry.get("BIRADS", "")),
                "histology": _known(entry.get("Diagnosis", "")),
                "mask": ";".join(places[mask] for mask in masks),
                "age": _known(number(entry.get("Age", ""))),
                "verification": _known(entry.get("Verification", "")),
                "pixel_size_cm": entry.get("Pixel_size", ""),
                "tissue": _known(entry.get("Tissue_composition", "")),
            }
        )
    return Manifest(make_table(rows), INFO, folder)


def _known(text: str) -> str:
    return "" if text.lower() in {"not available", "not applicable", "n/a", "na"} else text


BREAST = Source(
    info=INFO,
    country="Poland",
    device="several scanners",
    images={"benign": 154, "malignant": 98, "normal": 4},
    patients=256,
    masks=True,
    request="https://www.cancerimagingarchive.net/collection/breast-lesions-usg",
    flaws=("small, one image a patient",),
    verified=False,
    matches=matches,
    read=read,
    evidence=evidence,
)
