"""GDPH & SYSUCC: 2,405 images of two hospitals in Guangzhou, with BI-RADS of two readers."""

from __future__ import annotations

import re
from pathlib import Path

from medsharp.data.manifest import DatasetInfo, Manifest, make_table
from medsharp.data.sources.source import Source
from medsharp.data.sources.tables import number, read_table, table_with
from medsharp.errors import InputError

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
_NEEDED = ("ID",)


def matches(folder: Path) -> bool:
    """Whether both hospitals' folders hold `benign(0).png` and its like."""
    return all(
        (folder / site).is_dir() and any(_IMAGE.match(file.name) for file in (folder / site).iterdir())
        for site in SITES
    )


def read(folder: Path) -> Manifest:
    """List the images; BI-RADS and the authors' folds come from the workbook, where it is there.

    Raises:
        InputError: The workbook has no row for an image.
    """
    table = table_with(folder, _NEEDED)
    known = {entry["ID"].removesuffix(".png"): entry for entry in read_table(table, _NEEDED)} if table else {}
    rows = []
    for site, hospital in SITES.items():
        found = [
            (m[1].lower(), int(m[2]), file) for file in (folder / site).iterdir() if (m := _IMAGE.match(file.name))
        ]
        for label, count, file in sorted(found):
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
)
