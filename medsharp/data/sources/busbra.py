"""BUS-BRA: 1,875 images of 1,064 patients, INCA, Rio de Janeiro; four scanners, biopsy-proven."""

from __future__ import annotations

import re
from pathlib import Path

from medsharp.data.manifest import DatasetInfo, Manifest, make_table
from medsharp.data.sources.source import Source
from medsharp.errors import InputError
from medsharp.tables import has_columns, read_table

INFO = DatasetInfo(
    name="BUS-BRA",
    classes=("benign", "malignant"),
    licence="permissive; citation required (LICENSE.txt of the data set)",
    citation="Gómez-Flores, Gregorio-Calas, Pereira, BUS-BRA: A breast ultrasound dataset for assessing computer-aided "
    "diagnosis systems, Medical Physics 51 (2024) 3110",
    source="INCA, Rio de Janeiro",
    doi="10.5281/zenodo.7730709",
)
_TABLE = "bus_data.csv"
SAME_PATIENT = {"44": "65", "56": "91", "341": "356"}
"""Cases with images of one scan at two magnifications; found by `medsharp data audit` and seen by eye."""

_NEEDED = ("ID", "Case", "Histology", "Pathology", "BIRADS", "Device", "Side")

_PARTICULAR = ("Width", "Height", "BBOX")
_ID = re.compile(r"^bus_\d{4}-[a-z]$")


def matches(folder: Path) -> bool:
    """Whether `folder` holds `bus_data.csv` and `Images`."""
    return (folder / _TABLE).is_file() and (folder / "Images").is_dir()


def evidence(folder: Path) -> str:
    """Return its table, where that has the particular columns and names images as BUS-BRA does."""
    table = folder / _TABLE
    if not has_columns(table, (*_NEEDED, *_PARTICULAR)):
        return ""
    return f"the columns of {_TABLE}" if all(_ID.match(row["ID"]) for _, row in read_table(table).records()) else ""


def read(folder: Path) -> Manifest:
    """Read the data set's own table; `Case` is the patient, and cases that are one patient share a group."""
    table = read_table(folder / _TABLE, _NEEDED)
    folds = _folds(folder)
    groups = {case: f"patients {one} and {other}" for one, other in SAME_PATIENT.items() for case in (one, other)}
    rows = []
    for number, entry in table.records():
        image, mask = f"Images/{entry['ID']}.png", f"Masks/{entry['ID'].replace('bus', 'mask', 1)}.png"
        if not (folder / image).is_file():
            raise InputError(f"{folder / _TABLE}, row {number}: {image} is missing")
        if entry["Pathology"] not in INFO.classes:
            raise InputError(f"{folder / _TABLE}, row {number}: Pathology '{entry['Pathology']}' is not known")
        rows.append(
            {
                "image": image,
                "label": entry["Pathology"],
                "patient": entry["Case"],
                "site": INFO.source,
                "device": entry["Device"],
                "view": entry["Side"],
                "birads": entry["BIRADS"],
                "histology": entry["Histology"],
                "mask": mask if (folder / mask).is_file() else "",
                "stated_width": entry.get("Width", ""),
                "stated_height": entry.get("Height", ""),
                "group": groups.get(entry["Case"], ""),
                **folds.get(entry["ID"], {}),
            }
        )
    return Manifest(make_table(rows), INFO, folder)


BUSBRA = Source(
    info=INFO,
    country="Brazil",
    device="four scanners, named for each image",
    images={"benign": 1268, "malignant": 607},
    patients=1064,
    masks=True,
    request="https://zenodo.org/records/8231412",
    flaws=(
        "often two views of a lesion: split by patient",
        "text and calipers are burned in, in most images",
        "patients 44 and 65, 56 and 91, 341 and 356 have images of one scan at two magnifications: each pair is tied "
        "into one group; the official folds divide some of them",
        "bus_0856-l, bus_0857-r, bus_0912-l and bus_0990-l are not of the size that its table gives",
    ),
    verified=True,
    matches=matches,
    read=read,
    evidence=evidence,
    hashes={"Images/bus_0001-l.png": "c24c260b5f4a41864846924d4749195fc5830a22564997798437d640d46ebac7"},
)


def _folds(folder: Path) -> dict[str, dict[str, str]]:
    """Return the authors' folds of each image, under `fold5` and `fold10`, counted from 1; where they are there."""
    folds: dict[str, dict[str, str]] = {}
    for count in (5, 10):
        table = folder / f"{count}-fold-cv.csv"
        if table.is_file():
            for _, entry in read_table(table, ("ID", "kFold")).records():
                folds.setdefault(entry["ID"], {})[f"fold{count}"] = entry["kFold"]
    return folds
