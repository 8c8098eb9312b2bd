"""GDPH & SYSUCC: 2,405 images of two hospitals in Guangzhou, with BI-RADS of two readers."""

from __future__ import annotations

import re
from pathlib import Path

from medsharp.data.manifest import DatasetInfo, Manifest, make_table
from medsharp.data.sources.source import Source
from medsharp.errors import InputError
from medsharp.tables import has_columns, number, read_table, table_with

SITES = {
    "GDPH": "Guangdong Provincial People's Hospital",
    "SYSUCC": "Sun Yat-sen University Cancer Center",
}
INFO = DatasetInfo(
    name="GDPH&SYSUCC",
    classes=("benign", "malignant"),
    licence="none stated; research use",
    citation="Mo et al., HoVer-Trans: Anatomy-aware HoVer-Transformer for ROI-free breast cancer diagnosis in "
    "ultrasound images, IEEE Transactions on Medical Imaging 42 (2023) 1696",
    source="two hospitals in Guangzhou",
    doi="10.1109/TMI.2023.3236011",
)
_IMAGE = re.compile(r"^(benign|malignant)\((\d+)\)\.png$", re.IGNORECASE)
_PARTICULAR = ("BIRADS-reader1", "BIRADS-reader2", "fold")
_NEEDED = ("ID",)
_IMAGES, _TABLE = "img", "label.csv"
_LISTED = ("name", "label")


def matches(folder: Path) -> bool:
    """Whether `benign(0).png` and its like lie in both hospitals' folders, or in `img` beside `label.csv`."""
    if (folder / _IMAGES).is_dir() and (folder / _TABLE).is_file():
        return bool(_images(folder / _IMAGES)) and has_columns(folder / _TABLE, _LISTED)
    return all(_images(folder / site) for site in SITES)


def evidence(folder: Path) -> str:
    """Return the readers' workbook, where that has the particular columns."""
    table = table_with(folder, (*_NEEDED, *_PARTICULAR))
    return f"the columns of {table.name}" if table is not None else ""


def read(folder: Path) -> Manifest:
    """List the images; BI-RADS and the authors' folds come from the workbook, where it is there.

    Where all images lie in `img`, it is not known which hospital one comes from.

    Raises:
        InputError: The workbook has no row for an image, or `label.csv` contradicts a file's name.
    """
    table = table_with(folder, _NEEDED)
    listed = read_table(table, _NEEDED).records() if table else ()
    known = {entry["ID"].removesuffix(".png"): entry for _, entry in listed}
    places = {site: hospital for site, hospital in SITES.items() if (folder / site).is_dir()}
    if not places:
        _check_labels(folder)
        places = {_IMAGES: ""}
    rows = []
    for site, hospital in places.items():
        for label, count, file in _images(folder / site):
            entry = known.get(f"{label}({count})", {})
            if known and not entry:
                raise InputError(f"{table} has no row with ID {label}({count})")
            rows.append(
                {
                    "image": f"{site}/{file.name}",
                    "label": label,
                    "site": hospital,
                    "birads": number(entry.get("BIRADS-reader1", "")),
                    "birads_reader2": number(entry.get("BIRADS-reader2", "")),
                    "authors_fold": number(entry.get("fold", "")),
                }
            )
    return Manifest(make_table(rows), INFO, folder)


def _images(folder: Path) -> list[tuple[str, int, Path]]:
    """Return label, number and file of the images in a folder, ordered; none where there is no folder."""
    if not folder.is_dir():
        return []
    found = ((file, _IMAGE.match(file.name)) for file in folder.iterdir())
    return sorted((match[1].lower(), int(match[2]), file) for file, match in found if match)


def _check_labels(folder: Path) -> None:
    for line, entry in read_table(folder / _TABLE, _LISTED).records():
        label = {"0": "benign", "1": "malignant"}.get(number(entry["label"]))
        if label is None or not entry["name"].lower().startswith(label):
            raise InputError(
                f"{folder / _TABLE}, row {line}: label '{entry['label']}' does not belong to {entry['name']}; 0 is "
                "benign, 1 malignant"
            )


GDPH = Source(
    info=INFO,
    country="China",
    device="several scanners",
    images={"benign": 886, "malignant": 1519},
    patients=None,
    masks=False,
    request="https://github.com/yuhaomo/HoVerTrans",
    flaws=("many near-duplicates and no patient identifiers: split by near-duplicate groups",),
    verified=False,
    matches=matches,
    read=read,
    evidence=evidence,
)
