"""DICOM objects to grey frames; no attribute of the patient is parsed, and no error quotes a value."""

from __future__ import annotations

import io
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from medsharp.images.box import Box
from medsharp.images.codestream import read_jpeg2000_header, read_jpeg_header
from medsharp.images.decoded import DecodedImage
from medsharp.images.dicom_grey import grey_of_colour, grey_of_monochrome
from medsharp.images.limits import ImageError, ImageLimits
from medsharp.images.sharpness import sharpness

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
    *(
        f"{colour}PaletteColorLookupTable{part}"
        for colour in ("Red", "Green", "Blue")
        for part in ("Descriptor", "Data")
    ),
    *(f"Segmented{colour}PaletteColorLookupTableData" for colour in ("Red", "Green", "Blue")),
    "SequenceOfUltrasoundRegions",
    "ExtendedOffsetTable",
    "ExtendedOffsetTableLengths",
    "PixelData",
)
"""The only attributes that are parsed."""

_RLE, _DEFLATED = "1.2.840.10008.1.2.5", "1.2.840.10008.1.2.1.99"
_JPEG = "1.2.840.10008.1.2.4"
_JPEG_2000 = frozenset(f"{_JPEG}.{number}" for number in (90, 91, 92, 93, 201, 202, 203))
_DECODERS = {
    # As outside of DICOM, so that a JPEG gives the same pixels inside.
    f"{_JPEG}.50": "pillow",
    **dict.fromkeys([f"{_JPEG}.{number}" for number in (51, 57, 70, 80, 81)] + sorted(_JPEG_2000), "pylibjpeg"),
}
"""pydicom's plugin for each compression: it would take whichever is installed, and some crash on damaged files."""

_MOST_TILES = 4096
_TWO_DIMENSIONAL, _TISSUE = 1, 1


def is_dicom(data: bytes) -> bool:
    """Whether bytes begin as a DICOM file does."""
    return data[128:132] == b"DICM"


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
    """

    dataset: Any
    name: str
    width: int
    height: int
    frames: int
    encapsulated: bool
    limits: ImageLimits
    box: Box | None

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

    def sharpest(self) -> DecodedImage:
        """Decode every frame and return the sharpest, the first among equals.

        Raises:
            ImageError: A frame is damaged, or they are too much together.
        """
        if self.frames == 1:
            return self.frame(1)
        best = max(self.all_frames(), key=lambda image: sharpness(image.pixels))
        flags = [f"{flag}, the sharpest" if flag.startswith("frame ") else flag for flag in best.flags]
        return replace(best, flags=tuple(flags))

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
        from pydicom.encaps import encapsulate
        from pydicom.pixels import get_decoder
        from pydicom.pixels.utils import as_pixel_options

        dataset = self.dataset
        with _silence(self.name):
            decoder = get_decoder(dataset.file_meta.TransferSyntaxUID)
            if encoded is None:
                samples, about = decoder.as_array(dataset, index=number - 1)
            else:
                _check_codestream(dataset, encoded)
                options = as_pixel_options(dataset, number_of_frames=1)
                options.pop("extended_offsets", None)
                syntax = dataset.file_meta.TransferSyntaxUID
                plugin = _DECODERS.get(syntax, "")
                if plugin and plugin not in decoder.available_plugins:
                    raise ImageError(
                        f"{self.name} is compressed as {syntax.name}, which needs a further decoder; "
                        "install it with: pip install 'medsharp[dicom]'"
                    )
                samples, about = decoder.as_array(encapsulate([encoded]), index=0, decoding_plugin=plugin, **options)
            flags = ["dicom"]
            if self.box is not None:
                top, left, bottom, right = self.box
                samples = samples[top:bottom, left:right]
            if int(dataset.BitsAllocated) > 8:
                flags.append("16-bit")
            interpretation = str(about["photometric_interpretation"])
            coloured = None
            if interpretation in ("MONOCHROME1", "MONOCHROME2"):
                grey = grey_of_monochrome(samples, dataset)
            else:
                grey, coloured = grey_of_colour(samples, interpretation, dataset)
        if coloured is not None:
            flags.append("colour")
        if self.frames > 1:
            flags.append(f"frame {number} of {self.frames}")
        if self.box is not None:
            flags.append("cropped to the ultrasound region")
        return DecodedImage(
            grey, "DICOM", tuple(flags), number if self.frames > 1 else None, coloured=coloured, region=self.box
        )


def open_dicom(data: bytes, name: str, limits: ImageLimits, region: bool) -> Clip:
    """Read the header of a DICOM object and check it before anything is decoded.

    Args:
        data: The file.
        name: What to call it in errors.
        limits: What is refused.
        region: Find the ultrasound region to crop to.

    Raises:
        ImageError: It is no image, is damaged, or is too small or large.
    """
    import pydicom

    with _silence(name):
        _check_deflated(data, name, limits)
        dataset = pydicom.dcmread(io.BytesIO(data), specific_tags=list(NEEDED))
        if "PixelData" not in dataset or "Rows" not in dataset:
            raise ImageError(f"{name} is a DICOM object without an image")
        width, height = int(dataset.Columns), int(dataset.Rows)
        frames = int(dataset.get("NumberOfFrames", 1) or 1)
        limits.check_size(width, height, name)
        limits.check_frames(frames, name)
        if int(dataset.BitsAllocated) > 16:
            raise ImageError(f"{name} has more than 16 bits a pixel; ultrasound has 8")
        encapsulated = bool(dataset.file_meta.TransferSyntaxUID.is_encapsulated)
        box = _region(dataset, limits.min_side) if region else None
    return Clip(dataset, name, width, height, frames, encapsulated, limits, box)


@contextmanager
def _silence(name: str) -> Iterator[None]:
    """Turn whatever goes wrong inside into one sentence without a value of the object; warnings quote values too."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except ImageError:
        raise
    # Damaged objects raise whatever the element at hand raises.
    except Exception as error:
        raise ImageError(f"{name} is a DICOM object that cannot be decoded ({type(error).__name__})") from None


def _check_deflated(data: bytes, name: str, limits: ImageLimits) -> None:
    """Unpack a deflated data set up to the limit, as pydicom unpacks without one."""
    from pydicom.filereader import read_dataset, read_preamble

    stream = io.BytesIO(data)
    read_preamble(stream, False)
    meta = read_dataset(stream, False, True, stop_when=lambda tag, vr, length: tag.group != 2)
    if meta.get("TransferSyntaxUID") == _DEFLATED:
        unpacked = zlib.decompressobj(-zlib.MAX_WBITS).decompress(stream.read(), limits.max_bytes + 1)
        limits.check_bytes(len(unpacked), f"{name}, unpacked,")


def _check_codestream(dataset: Any, frame: bytes) -> None:
    """Compare a compressed frame's own header with the data set's: decoders trust the former."""
    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax == _RLE:
        return
    found = read_jpeg2000_header(frame) if syntax in _JPEG_2000 else read_jpeg_header(frame)
    expected = (int(dataset.Columns), int(dataset.Rows), int(dataset.SamplesPerPixel))
    if (found.width, found.height, found.samples) != expected:
        raise ValueError("the compressed frame has another size than the data set")
    if found.bits > int(dataset.BitsAllocated) or found.tiles > _MOST_TILES:
        raise ValueError("the compressed frame has more bits or tiles than it may")


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
