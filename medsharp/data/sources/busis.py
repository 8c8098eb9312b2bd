"""BUSIS: 562 images of Chinese hospitals, for comparing segmentations; on request."""

from __future__ import annotations

import re
from pathlib import Path

from medsharp.data.manifest import DatasetInfo, Manifest, make_table
from medsharp.data.sources.source import Source
from medsharp.errors import InputError
from medsharp.tables import read_table, table_with

INFO = DatasetInfo(
    name="BUSIS",
    classes=("benign", "malignant"),
    licence="by agreement with its authors",
    citation="Zhang et al., BUSIS: A benchmark for breast ultrasound image segmentation, Healthcare 10 (2022) 729",
    source="hospitals of Harbin, Qingdao and Hebei",
    doi="10.3390/healthcare10040729",
)
_PARTICULAR = "Ground Truth Name"
_NEEDED = ("img name", "tumor type")
_LABELS = {"b": "benign", "m": "malignant"}
_NAME = re.compile(r"^(.*?)0*(\d+)$")


def matches(folder: Path) -> bool:
    """Whether its table, `Original` and `GT` are there."""
    return (
        (folder / "GT").is_dir() and (folder / "Original").is_dir() and table_with(folder, _NEEDED, "*.csv") is not None
    )


def evidence(folder: Path) -> str:
    """Return its table, where that has the particular columns."""
    table = table_with(folder, (*_NEEDED, _PARTICULAR), "*.csv")
    return f"the columns of {table.name}" if table is not None else ""


def read(folder: Path) -> Manifest:
    """Read the table; it writes `case001` where the file is called `case1.bmp`.

    Raises:
        InputError: An image is missing, or its type is not known.
    """
    table = table_with(folder, _NEEDED, "*.csv")
    assert table is not None
    files = {_key(file.stem): file for file in sorted((folder / "Original").iterdir()) if file.is_file()}
    rows = []
    for line, entry in read_table(table, _NEEDED).records():
        if not entry["img name"]:
            continue
        file = files.get(_key(entry["img name"]))
        if file is None:
            raise InputError(f"{table}, row {line}: the image of {entry['img name']} is missing in Original")
        label = _LABELS.get(entry["tumor type"].strip().lower()[:1])
        if label is None:
            raise InputError(f"{table}, row {line}: tumor type '{entry['tumor type']}' is not known")
        mask = folder / "GT" / f"{file.stem}_GT.bmp"
        rows.append(
            {
                "image": file.relative_to(folder).as_posix(),
                "label": label,
                "site": INFO.source,
                "mask": mask.relative_to(folder).as_posix() if mask.is_file() else "",
            }
        )
    return Manifest(make_table(rows), INFO, folder)


def _key(name: str) -> str:
    match = _NAME.match(name.strip().lower())
    return f"{match[1]}{match[2]}" if match else name.strip().lower()


BUSIS = Source(
    info=INFO,
    country="China",
    device="GE VIVID 7, GE LOGIQ E9, Hitachi EUB-6500, Philips iU22, Siemens ACUSON S2000",
    images={"benign": 306, "malignant": 256},
    patients=None,
    masks=True,
    request="http://cvprip.cs.usu.edu/busbench (agreement by e-mail)",
    flaws=("no patient identifiers",),
    verified=False,
    matches=matches,
    read=read,
    evidence=evidence,
)
