"""BUS-BRA: 1,875 images of 1,064 patients, INCA, Rio de Janeiro; four scanners, biopsy-proven."""

from __future__ import annotations

import csv
from pathlib import Path

from medsharp.data.manifest import DatasetInfo, Manifest, make_table
from medsharp.data.sources.source import Source
from medsharp.errors import InputError

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
_NEEDED = ("ID", "Case", "Histology", "Pathology", "BIRADS", "Device", "Side")


def matches(folder: Path) -> bool:
    """Whether `folder` holds `bus_data.csv` and `Images`."""
    return (folder / _TABLE).is_file() and (folder / "Images").is_dir()


def read(folder: Path) -> Manifest:
    """Read the data set's own table; `Case` is the patient."""
    with (folder / _TABLE).open(encoding="utf-8-sig", newline="") as stream:
        table = list(csv.DictReader(stream))
    missing = [name for name in _NEEDED if not table or name not in table[0]]
    if missing:
        raise InputError(f"{folder / _TABLE} has no column {', '.join(missing)}")
    rows = []
    for number, entry in enumerate(table, start=2):
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
            }
        )
    return Manifest(make_table(rows), INFO, folder)


BUSBRA = Source(
    name="BUS-BRA",
    description="INCA, Rio de Janeiro; four scanners; benign 1,268, malignant 607; 1,064 patients, biopsy-proven",
    licence=INFO.licence,
    doi=INFO.doi,
    matches=matches,
    read=read,
)
