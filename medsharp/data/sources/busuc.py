"""BUS-UC: 811 images collected from a teaching site; a folder a class with images and masks."""

from __future__ import annotations

from pathlib import Path

from medsharp.data.manifest import DatasetInfo, Manifest, make_table
from medsharp.data.sources.listing import SUFFIXES
from medsharp.data.sources.source import Source
from medsharp.errors import InputError

INFO = DatasetInfo(
    name="BUS-UC",
    classes=("benign", "malignant"),
    licence="CC BY 4.0",
    citation="Iqbal, Sharif, Memory-efficient transformer network with feature fusion for breast tumor segmentation "
    "and classification task, Engineering Applications of Artificial Intelligence 127 (2024) 107292",
    source="ultrasoundcases.info",
    doi="10.17632/3ksd7w7jkx",
)


def matches(folder: Path) -> bool:
    """Whether both classes have a folder with `images` and `masks`."""
    found = _folders(folder)
    return len(found) == 2 and all(
        (inside / "images").is_dir() and (inside / "masks").is_dir() for inside in found.values()
    )


def read(folder: Path) -> Manifest:
    """List the images; the mask of the same name belongs to each.

    Raises:
        InputError: A class has no images.
    """
    rows = []
    for label, inside in _folders(folder).items():
        images = sorted(file for file in (inside / "images").iterdir() if file.suffix.lower() in SUFFIXES)
        if not images:
            raise InputError(f"{inside / 'images'} holds no images")
        for file in images:
            mask = inside / "masks" / file.name
            rows.append(
                {
                    "image": file.relative_to(folder).as_posix(),
                    "label": label,
                    "site": INFO.source,
                    "mask": mask.relative_to(folder).as_posix() if mask.is_file() else "",
                }
            )
    return Manifest(make_table(rows), INFO, folder)


def _folders(folder: Path) -> dict[str, Path]:
    children = [child for child in sorted(folder.iterdir()) if child.is_dir()] if folder.is_dir() else []
    return {child.name.lower(): child for child in children if child.name.lower() in INFO.classes}


BUSUC = Source(
    info=INFO,
    country="several",
    device="several, not given",
    images={"benign": 358, "malignant": 453},
    patients=None,
    masks=True,
    request="https://data.mendeley.com/datasets/3ksd7w7jkx",
    flaws=("collected from a web site: several images of a lesion, no patient identifiers",),
    verified=False,
    matches=matches,
    read=read,
)
