"""BreastMNIST: BUSI once more, small and in one file; malignant is 0 there."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

from medsharp.data.manifest import DatasetInfo, Manifest, make_table
from medsharp.data.sources.extraction import extracted
from medsharp.data.sources.source import Source
from medsharp.errors import InputError

INFO = DatasetInfo(
    name="BreastMNIST",
    classes=("benign", "malignant"),
    licence="CC BY 4.0",
    citation="Yang et al., MedMNIST v2, Scientific Data 10 (2023) 41; from Al-Dhabyani et al., Data in Brief 28 (2020) "
    "104863",
    source="Baheya Hospital, Cairo",
    doi="10.5281/zenodo.10519652",
)
LABELS = {0: "malignant", 1: "benign"}
"""As the data set has them; its benign are normal ones too, which cannot be told apart."""

_PARTS = {"train": 546, "val": 78, "test": 156}
"""And how many images each has, whatever their size."""
_RECIPE = 1


def matches(path: Path) -> bool:
    """Whether the file, or the only such file of a folder, is a BreastMNIST of any size."""
    return _file_of(path) is not None


def read(path: Path) -> Manifest:
    """Write the images as PNG into the cache, once.

    The authors' split is kept in the column `official_split`, not used: it was drawn by image, and near-copies of one
    lesion are on both of its sides.

    Raises:
        InputError: The file is cut off, or does not hold images and labels of the same number.
    """
    file = _file_of(path)
    assert file is not None
    return extracted(file, "breastmnist", _RECIPE, lambda folder: _write(file, folder))


def _write(file: Path, folder: Path) -> Manifest:
    rows = []
    try:
        with np.load(file, allow_pickle=False) as arrays:
            for part in _PARTS:
                images, labels = arrays[f"{part}_images"], arrays[f"{part}_labels"].reshape(-1)
                if images.ndim != 3 or images.dtype != np.uint8 or len(images) != len(labels):
                    raise InputError(f"{file}: {part} must hold uint8 images [N, S, S] and a label for each")
                for number, (image, label) in enumerate(zip(images, labels.tolist(), strict=True)):
                    if label not in LABELS:
                        raise InputError(f"{file}: label {label} of {part} {number} is neither 0 nor 1")
                    name = f"{part}-{number:04d}.png"
                    Image.fromarray(image).save(folder / name)
                    rows.append(
                        {"image": name, "label": LABELS[label], "site": INFO.source, "device": "LOGIQ E9"}
                        | {"official_split": part}
                    )
    except InputError:
        raise
    except (KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{file} is cut off or is no BreastMNIST file") from error
    return Manifest(make_table(rows), INFO, folder)


def _file_of(path: Path) -> Path | None:
    files = [path] if path.is_file() else sorted(path.glob("*.npz")) if path.is_dir() else []
    files = [file for file in files if file.suffix.lower() == ".npz" and _is_breastmnist(file)]
    # Of several sizes in a folder, the largest.
    return max(files, key=lambda file: file.stat().st_size) if files else None


def _is_breastmnist(file: Path) -> bool:
    # Every MedMNIST file has the same arrays; this one is told by how many images each part has.
    try:
        with zipfile.ZipFile(file) as archive:
            return all(_length(archive, f"{part}_images.npy") == count for part, count in _PARTS.items())
    except (OSError, KeyError, ValueError, zipfile.BadZipFile):
        return False


def _length(archive: zipfile.ZipFile, name: str) -> int:
    """Return the first dimension of an array in an archive, of which only the header is read."""
    with archive.open(name) as stream:
        read = {1: np.lib.format.read_array_header_1_0, 2: np.lib.format.read_array_header_2_0}
        shape, _, _ = read[np.lib.format.read_magic(stream)[0]](stream)
        return int(shape[0]) if shape else 0


BREASTMNIST = Source(
    info=INFO,
    country="Egypt",
    device="LOGIQ E9",
    images={"benign": 570, "malignant": 210},
    patients=None,
    masks=False,
    request="https://zenodo.org/records/10519652",
    flaws=(
        "benign includes normal",
        "the official split was drawn by image: near-copies of one lesion are on both sides",
        "the same images as BUSI",
    ),
    verified=False,
    matches=matches,
    read=read,
    evidence=lambda path: f"its parts of {', '.join(map(str, _PARTS.values()))} images",
)
