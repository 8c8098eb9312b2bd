"""OASBUD: raw radio-frequency echoes of 100 lesions in two planes, Warsaw; made into images here."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from medsharp.data.manifest import DatasetInfo, Manifest, make_table
from medsharp.data.sources.extraction import extracted
from medsharp.data.sources.source import TOLERANCE, Source
from medsharp.errors import InputError
from medsharp.tables import number

INFO = DatasetInfo(
    name="OASBUD",
    classes=("benign", "malignant"),
    licence="CC BY-NC 4.0",
    citation="Piotrzkowska-Wróblewska et al., Open access database of raw ultrasonic signals acquired from malignant "
    "and benign breast lesions, Medical Physics 44 (2017) 6105",
    source="Institute of Oncology, Warsaw",
    doi="10.5281/zenodo.545928",
)
SAMPLING_HZ = 40e6
SPEED_OF_SOUND = 1540.0
APERTURE_M = 38e-3
DYNAMIC_RANGE_DB = 50.0
_FIELDS = ("id", "rf1", "rf2", "roi1", "roi2", "birads", "class")
_RECIPE = 1
_LESIONS = 100


def matches(path: Path) -> bool:
    """Whether a MATLAB file with the struct array `data` is there."""
    return _file_of(path) is not None


def evidence(path: Path) -> str:
    """Return how many lesions its array holds, where they are as many as were published, more or less."""
    from scipy.io import whosmat

    file = _file_of(path)
    assert file is not None
    lesions = next(int(np.prod(shape)) for name, shape, _ in whosmat(file) if name == "data")
    return f"its array of {lesions} lesions" if abs(lesions - _LESIONS) <= TOLERANCE * _LESIONS else ""


def read(path: Path) -> Manifest:
    """Turn both planes of every lesion into a B-mode image and a mask in the cache, once.

    Raises:
        InputError: The file is cut off or lacks a field.
    """
    file = _file_of(path)
    assert file is not None
    return extracted(file, "oasbud", _RECIPE, lambda folder: _write(file, folder))


def b_mode(echoes: np.ndarray) -> np.ndarray:
    """Turn radio-frequency lines into an image.

    Envelope by the analytic signal, logarithm over 50 dB below the maximum, and square pixels: a sample is
    `c / (2 f) = 19 um` deep, a line `38 mm / lines` wide.

    Args:
        echoes: float [samples, lines].

    Returns:
        uint8 [rows, lines], black where nothing comes back.
    """
    from scipy.signal import hilbert

    envelope = np.abs(hilbert(echoes.astype(np.float64), axis=0))
    decibels = 20 * np.log10(np.maximum(envelope / max(float(envelope.max()), 1e-12), 1e-12))
    grey = np.clip(1 + decibels / DYNAMIC_RANGE_DB, 0, 1) * 255
    image = _square(Image.fromarray(grey.astype(np.float32)), echoes.shape, Image.Resampling.BOX)
    return np.asarray(image).astype(np.uint8)


def _square(image: Image.Image, shape: tuple[int, ...], how: Image.Resampling) -> Image.Image:
    deep = SPEED_OF_SOUND / (2 * SAMPLING_HZ)
    wide = APERTURE_M / shape[1]
    return image.resize((shape[1], max(1, round(shape[0] * deep / wide))), how)


def _write(file: Path, folder: Path) -> Manifest:
    rows = []
    for count, lesion in enumerate(_lesions(file)):
        given = lesion.dtype.names or ()
        missing = [name for name in _FIELDS if name not in given or not np.asarray(lesion[name]).size]
        if missing:
            raise InputError(f"{file}: lesion {count + 1} has no {missing[0]}")
        label = "malignant" if int(np.asarray(lesion["class"]).reshape(-1)[0]) == 1 else "benign"
        for plane in (1, 2):
            echoes, region = np.asarray(lesion[f"rf{plane}"]), np.asarray(lesion[f"roi{plane}"])
            if echoes.ndim != 2 or echoes.shape != region.shape:
                raise InputError(f"{file}: lesion {count + 1}, plane {plane}: rf and roi must be of one shape")
            name, mask = f"{count + 1:03d}-{plane}.png", f"{count + 1:03d}-{plane}_mask.png"
            Image.fromarray(b_mode(echoes)).save(folder / name)
            area = Image.fromarray((region > 0).astype(np.uint8) * 255)
            _square(area, echoes.shape, Image.Resampling.NEAREST).save(folder / mask)
            rows.append(
                {
                    "image": name,
                    "label": label,
                    "patient": number(_text(lesion["id"])),
                    "site": INFO.source,
                    "device": "Ultrasonix SonixTouch",
                    "view": str(plane),
                    "birads": number(_text(lesion["birads"])),
                    "mask": mask,
                }
            )
    return Manifest(make_table(rows), INFO, folder)


def _text(value: Any) -> str:
    return str(np.asarray(value).reshape(-1)[0]).strip()


def _lesions(file: Path) -> list[Any]:
    from scipy.io import loadmat

    try:
        data = loadmat(file, variable_names=["data"])["data"]
    except _damages() as error:
        raise InputError(f"{file} is cut off or does not hold the struct array 'data'") from error
    return list(data.reshape(-1))


def _file_of(path: Path) -> Path | None:
    from scipy.io import whosmat

    files = [path] if path.is_file() else sorted(path.glob("*.mat")) if path.is_dir() else []
    for file in files:
        if file.suffix.lower() == ".mat":
            try:
                if any(name == "data" and kind == "struct" for name, _, kind in whosmat(file)):
                    return file
            except _damages():
                continue
    return None


def _damages() -> tuple[type[Exception], ...]:
    """Return what SciPy raises of a file that is empty, cut off, damaged or no MATLAB file."""
    from scipy.io.matlab import MatReadError

    # SciPy reads on with a variable that nothing was assigned to.
    of_values = (LookupError, ValueError, TypeError, UnboundLocalError, NotImplementedError, MemoryError)
    return (*of_values, OSError, EOFError, MatReadError, zlib.error)


OASBUD = Source(
    info=INFO,
    country="Poland",
    device="Ultrasonix SonixTouch, L14-5/38",
    images={"benign": 96, "malignant": 104},
    patients=78,
    masks=True,
    request="https://zenodo.org/records/545928",
    flaws=("raw echoes: the image depends on how they are turned into one",),
    verified=False,
    matches=matches,
    read=read,
    evidence=evidence,
)
