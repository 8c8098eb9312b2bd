"""BUS-UCLM: 683 images of 38 patients, Ciudad Real; masks are coloured, the patient stands in the file name."""

from __future__ import annotations

from pathlib import Path

from medsharp.data.manifest import DatasetInfo, Manifest, make_table
from medsharp.data.sources.source import Source
from medsharp.errors import InputError
from medsharp.tables import has_columns, read_table

INFO = DatasetInfo(
    name="BUS-UCLM",
    classes=("benign", "malignant", "normal"),
    licence="CC BY 4.0; earlier versions CC BY-NC 4.0",
    citation="Vallez et al., BUS-UCLM: Breast ultrasound lesion segmentation dataset, Scientific Data 12 (2025) 242",
    source="University of Castilla-La Mancha",
    doi="10.17632/7fvgj4jsp7",
)
_TABLE = "INFO.csv"
_PARTICULAR = ("Doppler", "Marks", "Combined")
_NEEDED = ("Image", "Label")
SAME_PATIENT = {"CHCO": "CHVI"}
"""Images of the first are repeated under the second."""


def matches(folder: Path) -> bool:
    """Whether `INFO.csv` with its columns, `images` and `masks` are there."""
    return (
        (folder / "images").is_dir()
        and (folder / "masks").is_dir()
        and (folder / _TABLE).is_file()
        and has_columns(folder / _TABLE, _NEEDED)
    )


def evidence(folder: Path) -> str:
    """Return its table, where that has the particular columns."""
    return f"the columns of {_TABLE}" if has_columns(folder / _TABLE, (*_NEEDED, *_PARTICULAR)) else ""


def read(folder: Path) -> Manifest:
    """Read `INFO.csv`; the letters before the underscore are the patient.

    Raises:
        InputError: An image is missing, or its label is not known.
    """
    rows = []
    for line, entry in read_table(folder / _TABLE, _NEEDED).records():
        name, label = entry["Image"], entry["Label"].lower()
        if not (folder / "images" / name).is_file():
            raise InputError(f"{folder / _TABLE}, row {line}: images/{name} is missing")
        if label not in INFO.classes:
            raise InputError(f"{folder / _TABLE}, row {line}: Label '{entry['Label']}' is not known")
        patient = name.split("_")[0]
        mask = f"masks/{name}" if label != "normal" and (folder / "masks" / name).is_file() else ""
        rows.append(
            {
                "image": f"images/{name}",
                "label": label,
                "patient": SAME_PATIENT.get(patient, patient),
                "site": INFO.source,
                "device": "Siemens ACUSON S2000",
                "mask": mask,
                **{
                    column.lower(): entry[column].lower()
                    for column in entry
                    if column.lower() in ("doppler", "marks", "combined")
                },
            }
        )
    return Manifest(make_table(rows), INFO, folder)


BUSUCLM = Source(
    info=INFO,
    country="Spain",
    device="Siemens ACUSON S2000",
    images={"benign": 174, "malignant": 90, "normal": 419},
    patients=38,
    masks=True,
    request="https://data.mendeley.com/datasets/7fvgj4jsp7",
    flaws=(
        "38 patients: intervals over images mean nothing",
        "patient CHCO repeats images of CHVI; both are read as one patient",
        "colour Doppler and dual views among the images; the columns doppler and combined tell",
    ),
    verified=False,
    matches=matches,
    read=read,
    evidence=evidence,
)
