"""DICOM objects to grey frames; no attribute of the patient is parsed, and no error quotes a value."""

from __future__ import annotations

import io
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from medsharp.images.apart import NoDecoderError
from medsharp.images.box import Box
from medsharp.images.decoded import DecodedImage
from medsharp.images.dicom_frame import check_syntax, compressed_frame, uncompressed_frame
from medsharp.images.dicom_grey import grey_of_colour, grey_of_monochrome
from medsharp.images.dicom_start import PREFIX
from medsharp.images.limits import ImageError, ImageLimits
from medsharp.images.sharpness import sharpness
from medsharp.images.values import ValueRange

NEEDED = (
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "PlanarConfiguration",
    "NumberOfFrames",
    "Rows",
    "Columns",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "WindowCenter",
    "WindowWidth",
    "VOILUTFunction",
    "VOILUTSequence",
    "RescaleIntercept",
    "RescaleSlope",
    "ModalityLUTSequence",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
    *(
        f"{colour}PaletteColorLookupTable{part}"
        for colour in ("Red", "Green", "Blue")
        for part in ("Descriptor", "Data")
    ),
    *(f"Segmented{colour}PaletteColorLookupTableData" for colour in ("Red", "Green", "Blue")),
    "PixelPaddingValue",
    "PixelPaddingRangeLimit",
    "Modality",
    "BurnedInAnnotation",
    "SequenceOfUltrasoundRegions",
    "ExtendedOffsetTable",
    "ExtendedOffsetTableLengths",
    "PixelData",
)
"""The only attributes that are parsed; of functional groups, those of the values alone are looked at."""

BURNED_IN = "burned-in annotation"
"""The flag of an object that says that text is part of its pixels."""

OTHER_MODALITIES = frozenset(
    {"CR", "CT", "DX", "ECG", "ES", "GM", "IVOCT", "MG", "MR", "NM", "OP", "OPT", "PT", "PX", "RF", "RG"}
    | {"RTIMAGE", "SM", "XA", "XC"}
)
"""What is certainly no ultrasound (PS3.3, C.7.3.1.1.1); secondary captures say OT, SC or nothing at all."""

_DEFLATED = "1.2.840.10008.1.2.1.99"
_TWO_DIMENSIONAL, _TISSUE = 1, 1


@dataclass(frozen=True)
class Clip:
    """A DICOM object whose header is checked and whose frames are decoded when asked for.

    Attributes:
        dataset: The needed attributes only.
        name: What to call it in errors.
        width: In pixels.
        height: In pixels.
        frames: How many it has.
        encapsulated: Whether frames are stored one by one, compressed.
        limits: What is refused.
        box: The part that is kept; None keeps all.
        declared: The data set's range of values, for more than 8 bits.
    """

    dataset: Any
    name: str
    width: int
    height: int
    frames: int
    encapsulated: bool
    limits: ImageLimits
    box: Box | None
    declared: ValueRange | None = None

    def frame(self, number: int) -> DecodedImage:
        """Decode one frame, counted from 1.

        Raises:
            ImageError: There is no such frame, or it is damaged.
        """
        if not 1 <= number <= self.frames:
            have = "one frame" if self.frames == 1 else f"{self.frames} frames"
            raise ImageError(f"{self.name} has {have}; there is no frame {number}")
        with _silence(self.name):
            encoded = self._encoded_frame(number - 1) if self.encapsulated else None
        return self._decode(number, encoded)

    def all_frames(self) -> Iterator[DecodedImage]:
        """Decode one frame after the other.

        Raises:
            ImageError: A frame is damaged, or they are too much together.
        """
        self.limits.check_clip(self.width, self.height, self.frames, self.name)
        if not self.encapsulated:
            return (self.frame(number) for number in range(1, self.frames + 1))
        return self._all_encapsulated()

    def _all_encapsulated(self) -> Iterator[DecodedImage]:
        from pydicom.encaps import generate_frames

        with _silence(self.name):
            encoded = generate_frames(
                self.dataset.PixelData, number_of_frames=self.frames, extended_offsets=self._extended_offsets
            )
        for number in range(1, self.frames + 1):
            with _silence(self.name):
                one = next(encoded)
            yield self._decode(number, one)

    def sharpest(self, wanted: Callable[[], bool] = lambda: True) -> DecodedImage:
        """Decode every frame and return the sharpest, the first among equals.

        Args:
            wanted: Asked before each frame whether anybody still waits.

        Raises:
            ImageError: A frame is damaged, they are too much together, or nobody waits any longer.
        """
        if self.frames == 1:
            return self.frame(1)
        best = max(self._while_wanted(wanted), key=lambda image: sharpness(image.pixels))
        flags = [f"{flag}, the sharpest" if flag.startswith("frame ") else flag for flag in best.flags]
        return replace(best, flags=tuple(flags))

    def _while_wanted(self, wanted: Callable[[], bool]) -> Iterator[DecodedImage]:
        frames = self.all_frames()
        for _ in range(self.frames):
            if not wanted():
                raise ImageError(f"{self.name} is not waited for any longer")
            yield next(frames)

    @property
    def _extended_offsets(self) -> tuple[bytes, bytes] | None:
        if "ExtendedOffsetTable" in self.dataset and "ExtendedOffsetTableLengths" in self.dataset:
            return self.dataset.ExtendedOffsetTable, self.dataset.ExtendedOffsetTableLengths
        return None

    def _encoded_frame(self, index: int) -> bytes:
        from pydicom.encaps import get_frame

        return get_frame(
            self.dataset.PixelData, index, number_of_frames=self.frames, extended_offsets=self._extended_offsets
        )

    def _decode(self, number: int, encoded: bytes | None) -> DecodedImage:
        """Decode a frame; `encoded` holds its compressed bytes, None reads it from uncompressed pixel data."""
        dataset = self.dataset
        with _silence(self.name):
            if encoded is None:
                samples, interpretation, colour = uncompressed_frame(dataset, number)
            else:
                samples, interpretation, colour = compressed_frame(dataset, encoded, self.name)
            flags = ["dicom"]
            if str(dataset.get("BurnedInAnnotation", "")).strip().upper() == "YES":
                flags.append(BURNED_IN)
            modality = str(dataset.get("Modality", "")).strip().upper()
            if modality in OTHER_MODALITIES:
                flags.append(of_other_modality(modality))
            if self.box is not None:
                top, left, bottom, right = self.box
                samples = samples[top:bottom, left:right]
            if int(dataset.BitsAllocated) > 8:
                flags.append("16-bit")
            colours = used = None
            if interpretation in ("MONOCHROME1", "MONOCHROME2") and samples.ndim == 2:
                grey, used, said = grey_of_monochrome(samples, dataset, self.declared, number)
                flags += said
            elif interpretation in ("RGB", "PALETTE COLOR"):
                grey, colours, said = grey_of_colour(samples, interpretation, dataset, self.declared)
                flags += said
            else:
                raise ImageError(f"{self.name} has a photometric interpretation that is not read")
        if colours is not None:
            flags.append("colour")
        if colour:
            flags.append(colour)
        if self.frames > 1:
            flags.append(f"frame {number} of {self.frames}")
        if self.box is not None:
            flags.append("cropped to the ultrasound region")
        return DecodedImage(
            grey,
            "DICOM",
            tuple(flags),
            number if self.frames > 1 else None,
            colours=colours,
            region=self.box,
            range=used,
            size=None if self.box is None else (self.height, self.width),
        )


def open_dicom(data: bytes, name: str, limits: ImageLimits, region: bool, declared: ValueRange | None = None) -> Clip:
    """Read the header of a DICOM object and check it before anything is decoded.

    Args:
        data: The file.
        name: What to call it in errors.
        limits: What is refused.
        region: Find the ultrasound region to crop to.
        declared: The data set's range of values, for more than 8 bits.

    Raises:
        ImageError: It is no image, is damaged, or is too small or large.
    """
    import pydicom

    with _silence(name):
        if data[:4] == PREFIX:
            data = data[4:]
        _check_deflated(data, name, limits)
        dataset = pydicom.dcmread(io.BytesIO(data), force=True, specific_tags=list(NEEDED))
        _complete_syntax(dataset)
        if "PixelData" not in dataset or "Rows" not in dataset:
            raise ImageError(f"{name} is a DICOM object without an image")
        check_syntax(dataset.file_meta.TransferSyntaxUID, name)
        width, height = int(dataset.Columns), int(dataset.Rows)
        frames = int(dataset.get("NumberOfFrames", 1) or 1)
        limits.check_size(width, height, name)
        limits.check_frames(frames, name)
        if int(dataset.BitsAllocated) > 16:
            raise ImageError(f"{name} has more than 16 bits a pixel; ultrasound has 8")
        encapsulated = bool(dataset.file_meta.TransferSyntaxUID.is_encapsulated)
        box = _region(dataset, limits.min_side) if region else None
    return Clip(dataset, name, width, height, frames, encapsulated, limits, box, declared)


def of_other_modality(modality: str) -> str:
    """Return the flag, and the reason to leave out, of what one of `OTHER_MODALITIES` made."""
    return f"modality {modality}, not ultrasound"


@contextmanager
def _silence(name: str) -> Iterator[None]:
    """Turn whatever goes wrong inside into one sentence without a value of the object; warnings quote values too."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (ImageError, NoDecoderError):
        raise
    # Damaged objects raise whatever the element at hand raises.
    except Exception as error:
        raise ImageError(f"{name} is a DICOM object that cannot be decoded ({type(error).__name__})") from None


def _check_deflated(data: bytes, name: str, limits: ImageLimits) -> None:
    """Unpack a deflated data set up to the limit, as pydicom unpacks without one."""
    from pydicom.filereader import read_dataset, read_preamble

    stream = io.BytesIO(data)
    read_preamble(stream, True)
    meta = read_dataset(stream, False, True, stop_when=lambda tag, vr, length: tag.group != 2)
    if meta.get("TransferSyntaxUID") == _DEFLATED:
        unpacked = zlib.decompressobj(-zlib.MAX_WBITS).decompress(stream.read(), limits.max_bytes + 1)
        limits.check_bytes(len(unpacked), f"{name}, unpacked,")


def _complete_syntax(dataset: Any) -> None:
    """Say how a data set without file meta information is encoded, which only pixels in the clear allow.

    Raises:
        ImageError: Its pixels are compressed, and nothing says how.
    """
    from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

    if "TransferSyntaxUID" in dataset.file_meta:
        return
    implicit, little = dataset.original_encoding
    if "PixelData" in dataset and dataset["PixelData"].is_undefined_length:
        raise ValueError("compressed, and nothing says how")
    explicit = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
    dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else explicit


def _region(dataset: Any, least: int) -> Box | None:
    """Return the largest 2-D tissue region (PS3.3, C.8.5.5); None where there is none or it is the whole image."""
    boxes = []
    for item in dataset.get("SequenceOfUltrasoundRegions") or ():
        if (item.get("RegionSpatialFormat"), item.get("RegionDataType")) == (_TWO_DIMENSIONAL, _TISSUE):
            left, top, right, bottom = (
                int(item[f"RegionLocation{corner}"].value) for corner in ("MinX0", "MinY0", "MaxX1", "MaxY1")
            )
            top, left = max(top, 0), max(left, 0)
            bottom, right = min(bottom + 1, int(dataset.Rows)), min(right + 1, int(dataset.Columns))
            if min(bottom - top, right - left) >= least:
                boxes.append(Box(top, left, bottom, right))
    if not boxes:
        return None
    box = max(boxes, key=lambda box: box.height * box.width)
    return None if box == (0, 0, int(dataset.Rows), int(dataset.Columns)) else box
