"""BUSI: 780 images of 600 women, Baheya Hospital, Cairo; patients are not identified."""

from __future__ import annotations

import re
from pathlib import Path

from medsharp.data.manifest import DatasetInfo, Manifest, make_table
from medsharp.data.sources.source import Source

CLASSES = ("benign", "malignant", "normal")
INFO = DatasetInfo(
    name="BUSI",
    classes=CLASSES,
    licence="CC BY 4.0 or CC0 on mirrors; check at the source",
    citation="Al-Dhabyani, Gomaa, Khaled, Fahmy, Dataset of breast ultrasound images, Data in Brief 28 (2020) 104863",
    source="Baheya Hospital, Cairo",
    doi="10.1016/j.dib.2019.104863",
)
_IMAGE = re.compile(r"^(benign|malignant|normal) \((\d+)\)\.png$")
_MASK = re.compile(r"^(.+)_mask(?:_\d+)?\.png$")


def matches(folder: Path) -> bool:
    """Whether `folder` holds `benign/benign (1).png` and its like."""
    return all(
        (folder / name).is_dir() and any(_IMAGE.match(file.name) for file in (folder / name).iterdir())
        for name in ("benign", "malignant")
    )


def read(folder: Path) -> Manifest:
    """List the images with their masks; some have two or three."""
    rows = []
    for label in CLASSES:
        inside = folder / label
        names = sorted(file.name for file in inside.iterdir()) if inside.is_dir() else []
        images = [(int(match[2]), name) for name in names if (match := _IMAGE.match(name))]
        masks: dict[str, list[str]] = {}
        for name in names:
            if match := _MASK.match(name):
                masks.setdefault(match[1], []).append(f"{label}/{name}")
        rows += [
            {
                "image": f"{label}/{name}",
                "label": label,
                "site": INFO.source,
                "device": "LOGIQ E9",
                "mask": ";".join(masks.get(name.removesuffix(".png"), [])),
            }
            for _, name in sorted(images)
        ]
    return Manifest(make_table(rows), INFO, folder)


BUSI = Source(
    info=INFO,
    country="Egypt",
    device="GE LOGIQ E9, LOGIQ E9 Agile",
    images={"benign": 437, "malignant": 210, "normal": 133},
    patients=None,
    masks=True,
    request="https://scholar.cu.edu.eg/?q=afahmy/pages/dataset",
    flaws=(
        "600 women, not identified: images of one woman cannot be told from others",
        "Pawłowska et al., Data in Brief 48 (2023) 109247, are quoted with 235 images that repeat others, 8 lesions "
        "under both labels, about 70 images of the axilla and 295 with calipers, text, needles or colour Doppler; "
        "`medsharp data audit` shows what it finds of them",
        "17 images have two or three masks",
    ),
    verified=True,
    matches=matches,
    read=read,
    hashes={
        "benign/benign (1).png": "6941fb64feb59a1654e5d4406d38154f1c894aaa4b8060062ab16ee0e2d9d4cb",
        "malignant/malignant (1).png": "278fe7481bf190da2ffcfb27d52120b376f63cd660e33fe2b088900b1852e346",
        "normal/normal (1).png": "c8cc6e01c9eb68d928de15270b4de4d9523268cfc1feed9d241689d36e1cc5d9",
    },
)
