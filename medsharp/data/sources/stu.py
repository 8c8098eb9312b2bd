"""STU-Hospital: 42 images with masks and without labels; for prediction only."""

from __future__ import annotations

import re
from pathlib import Path

from medsharp.data.manifest import DatasetInfo, Manifest, make_table
from medsharp.data.sources.source import Source

INFO = DatasetInfo(
    name="STU-Hospital",
    classes=(),
    licence="none stated",
    citation="Zhuang et al., An RDAU-NET model for lesion segmentation in breast ultrasound images, PLOS ONE 14 (2019) "
    "e0221535",
    source="First Affiliated Hospital of Shantou University",
    doi="10.1371/journal.pone.0221535",
)
_IMAGE = re.compile(r"^Test_Image_(\d+)\.(png|jpg|bmp)$", re.IGNORECASE)


def matches(folder: Path) -> bool:
    """Whether `Test_Image_1.png` and its like are there."""
    return folder.is_dir() and any(_IMAGE.match(file.name) for file in folder.iterdir())


def read(folder: Path) -> Manifest:
    """List the images with their masks; there are no labels."""
    found = [(int(match[1]), file) for file in folder.iterdir() if (match := _IMAGE.match(file.name))]
    rows = []
    for number, file in sorted(found):
        mask = next((name for name in (f"mask_{number}{file.suffix}",) if (folder / name).is_file()), "")
        device = "GE Voluson E10"
        rows.append({"image": file.name, "label": "", "site": INFO.source, "device": device, "mask": mask})
    return Manifest(make_table(rows), INFO, folder)


STU = Source(
    info=INFO,
    country="China",
    device="GE Voluson E10",
    images={},
    patients=None,
    masks=True,
    request="https://github.com/xbhlk/STU-Hospital",
    flaws=("no labels: prediction only", "images of 128 x 128 pixels"),
    verified=False,
    matches=matches,
    read=read,
    unlabelled=42,
)
