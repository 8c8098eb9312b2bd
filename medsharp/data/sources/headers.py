"""What a DICOM file says of itself, read without its pixels; identifiers stay in memory and are never shown."""

from __future__ import annotations

import io
import re
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medsharp.images.dicom_start import PREFIX
from medsharp.keys import name_key

TAGS = (
    "SOPClassUID",
    "SOPInstanceUID",
    "SeriesInstanceUID",
    "StudyInstanceUID",
    "AccessionNumber",
    "PatientID",
    "PatientName",
    "StudyDate",
    "Modality",
    "Manufacturer",
    "ManufacturerModelName",
    "ImageLaterality",
    "Laterality",
    "BurnedInAnnotation",
    "PixelSpacing",
    "ImagerPixelSpacing",
    "SequenceOfUltrasoundRegions",
    "DirectoryRecordSequence",
    "Rows",
    "Columns",
)
"""The only attributes that are parsed."""

_SIDES = {
    "L": "l lt left links linke li gauche izquierda izquierdo sinistra sinistro esquerda esquerdo",
    "R": "r rt right rechts rechte re droite droit derecha derecho destra destro direita direito",
    "B": "b both bilateral beide beidseits",
}
_SIDE_OF = {word: side for side, words in _SIDES.items() for word in words.split()}

_CENTIMETRES = 3
_TWO_DIMENSIONAL, _TISSUE = 1, 1
_NOT_IMAGES = (
    ("1.2.840.10008.1.3.10", "DICOMDIR"),
    ("1.2.840.10008.5.1.4.1.1.88.", "structured report"),
    ("1.2.840.10008.5.1.4.1.1.104.", "document (PDF and the like)"),
    ("1.2.840.10008.5.1.4.1.1.11.", "presentation state"),
    ("1.2.840.10008.5.1.4.1.1.66", "segmentation or raw data"),
    ("1.2.840.10008.5.1.4.1.1.9.", "waveform"),
    ("1.2.840.10008.5.1.4.1.1.481.", "radiotherapy object"),
)
_RT_IMAGE = "1.2.840.10008.5.1.4.1.1.481.1"


@dataclass(frozen=True)
class Header:
    """A DICOM file without its pixels.

    Attributes:
        image: Whether it holds an image; `kind` says what it is otherwise.
        kind: Such as `structured report`.
        instance: SOPInstanceUID.
        series: SeriesInstanceUID.
        study: StudyInstanceUID.
        accession: AccessionNumber.
        patient: PatientID.
        name: PatientName.
        date: StudyDate, eight digits.
        modality: As the file says; empty where it does not.
        device: Manufacturer and model.
        laterality: `L`, `R` or `B`.
        spacing: Millimetres a pixel, down and across; one number where both are the same.
        burned_in: BurnedInAnnotation is YES.
    """

    image: bool
    kind: str = ""
    instance: str = field(default="", repr=False)
    series: str = field(default="", repr=False)
    study: str = field(default="", repr=False)
    accession: str = field(default="", repr=False)
    patient: str = field(default="", repr=False)
    name: str = field(default="", repr=False)
    date: str = field(default="", repr=False)
    modality: str = ""
    device: str = ""
    laterality: str = ""
    spacing: str = ""
    burned_in: bool = False


def read_header(file: Path) -> Header | None:
    """Read what a DICOM file says of itself; None where it cannot be read as DICOM."""
    from pydicom import dcmread

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of values that are not quite by the standard; they quote them
            with file.open("rb") as stream:
                bare = stream.read(len(PREFIX)) == PREFIX
            # A prefix without the preamble before it, which pydicom looks for 128 bytes further on.
            source = io.BytesIO(file.read_bytes()[len(PREFIX) :]) if bare else file
            return _header(dcmread(source, stop_before_pixels=True, specific_tags=list(TAGS), force=True))
    # Damaged objects raise whatever the element at hand raises, and their messages quote values.
    except Exception:
        return None


def side_of(text: str) -> str:
    """Return `L`, `R` or `B` of what says it: `l`, `Left breast`, `rechts`; empty where it says none, or several."""
    sides = {_SIDE_OF[word] for word in re.findall(r"[^\W\d_]+", name_key(text)) if word in _SIDE_OF}
    return sides.pop() if len(sides) == 1 else ""


def _header(dataset: Any) -> Header | None:
    meta = getattr(dataset, "file_meta", {})
    uid = _text(dataset.get("SOPClassUID") or meta.get("MediaStorageSOPClassUID"))
    if not uid and "Rows" not in dataset and "DirectoryRecordSequence" not in dataset:
        return None
    kind = next((words for prefix, words in _NOT_IMAGES if uid.startswith(prefix) and uid != _RT_IMAGE), "")
    if not kind and "DirectoryRecordSequence" in dataset:
        kind = "DICOMDIR"
    if not kind and not (dataset.get("Rows") and dataset.get("Columns")):
        kind = "object without an image"
    return Header(
        image=not kind,
        kind=kind,
        instance=_text(dataset.get("SOPInstanceUID") or meta.get("MediaStorageSOPInstanceUID")),
        series=_text(dataset.get("SeriesInstanceUID")),
        study=_text(dataset.get("StudyInstanceUID")),
        accession=_text(dataset.get("AccessionNumber")),
        patient=_text(dataset.get("PatientID")),
        name=_text(dataset.get("PatientName")),
        date=_date(_text(dataset.get("StudyDate"))),
        modality=_text(dataset.get("Modality")).upper(),
        device=" ".join(filter(None, (_text(dataset.get(f"Manufacturer{part}")) for part in ("", "ModelName")))),
        laterality=side_of(_text(dataset.get("ImageLaterality") or dataset.get("Laterality"))),
        spacing=_spacing(dataset),
        burned_in=_text(dataset.get("BurnedInAnnotation")).upper() == "YES",
    )


def _text(value: Any) -> str:
    return "" if value is None else " ".join(str(value).replace("\0", " ").split())


def _date(text: str) -> str:
    digits = text.replace(".", "")  # 2021.03.04 is how files of before 1993 write it
    return digits if re.fullmatch(r"(19|20)\d{6}", digits) else ""


def _spacing(dataset: Any) -> str:
    """Return millimetres a pixel: of the largest region of tissue that is measured in cm, else of PixelSpacing."""
    regions = [
        item
        for item in dataset.get("SequenceOfUltrasoundRegions") or ()
        if (item.get("RegionSpatialFormat"), item.get("RegionDataType")) == (_TWO_DIMENSIONAL, _TISSUE)
        and (item.get("PhysicalUnitsXDirection"), item.get("PhysicalUnitsYDirection")) == (_CENTIMETRES, _CENTIMETRES)
    ]
    if regions:
        region = max(regions, key=_area)
        pair = [abs(10 * float(region.get(f"PhysicalDelta{axis}") or 0)) for axis in "YX"]
    else:
        pair = [abs(float(value)) for value in dataset.get("PixelSpacing") or dataset.get("ImagerPixelSpacing") or ()]
    if len(pair) != 2 or min(pair) <= 0:
        return ""
    down, across = (f"{value:.6g}" for value in pair)
    return down if down == across else f"{down} {across}"


def _area(region: Any) -> int:
    wide, deep = (
        int(region.get(f"RegionLocationMax{axis}1") or 0) - int(region.get(f"RegionLocationMin{axis}0") or 0)
        for axis in "XY"
    )
    return wide * deep
