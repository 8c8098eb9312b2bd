"""The door for every image: a file or bytes in, checked grey pixels out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Union

import numpy as np
from PIL import Image

from medsharp.images.decoded import DecodedImage
from medsharp.images.dicom_start import is_dicom
from medsharp.images.in_memory import dicom_bytes, is_dataset, read_array, read_pillow
from medsharp.images.limits import ImageError, ImageLimits
from medsharp.images.pictures import read_picture
from medsharp.images.values import ValueRange, declared_range

if TYPE_CHECKING:
    from pydicom import Dataset

    from medsharp.images.dicom import Clip

Source = Union[Path, str, bytes, np.ndarray, Image.Image, "Dataset"]
"""A file, its bytes, or an image that is in memory: an array, a Pillow image or a pydicom data set."""

Frame = int | Literal["sharpest"]
"""Which frame of a clip is used: its number, counted from 1 as DICOM does, or the sharpest."""


def read_image(
    source: Source,
    *,
    name: str | None = None,
    limits: ImageLimits = ImageLimits(),
    frame: Frame = "sharpest",
    region: bool = True,
    value_range: tuple[float, float] | None = None,
    wanted: Callable[[], bool] = lambda: True,
) -> DecodedImage:
    """Decode an image to grey.

    More than 8 bits are scaled to 8 by the declared range, a tag or the type, never by what the image holds;
    transparency is laid on black, CMYK and palettes become RGB, EXIF rotation is applied, and colour becomes luminance
    (ITU-R 601); colour profiles are ignored. Of a DICOM object only the pixels leave: windowed as it says, one frame of
    a clip, and cropped to the ultrasound region that it names. Each is said in `flags`.

    Args:
        source: A file, its bytes, or an image in memory: an array as `read_array` takes it, a Pillow image, or a
            pydicom data set.
        name: What to call it in errors; the path by default.
        limits: Checked before decoding.
        frame: Of a DICOM clip; a number decodes that frame only.
        region: Crop to the largest two-dimensional tissue region that a DICOM object names, which leaves out the
            vendor's banners and text.
        value_range: What the data set declares to be black and white, for values of more than 8 bits; in DICOM after
            the modality transformation and instead of a window. A `ValueRange`, or any pair.
        wanted: Asked before each frame of a clip whether anybody still waits for the image.

    Returns:
        uint8 pixels [H, W], their format and flags.

    Raises:
        ImageError: The file is missing, empty, truncated, of another kind, too small or large, a picture of several
            frames, without the frame asked for, of values whose range nothing tells, or not waited for any longer.
        InputError: `value_range` is not two numbers, the smaller first.
        NoDecoderError: The system has no process left for a decoder.
    """
    declared = declared_range(value_range)
    content, name = _content(source, name, limits)
    if isinstance(content, bytes) and is_dicom(content):
        clip = _clip(content, name, limits, region, declared)
        return clip.sharpest(wanted) if frame == "sharpest" else clip.frame(frame)
    if frame not in ("sharpest", 1):
        raise ImageError(f"{name} has one frame; there is no frame {frame}")
    return _still(content, name, limits, declared)


def read_frames(
    source: Source,
    *,
    name: str | None = None,
    limits: ImageLimits = ImageLimits(),
    region: bool = True,
    value_range: tuple[float, float] | None = None,
) -> Iterator[DecodedImage]:
    """Decode every frame of a DICOM clip, one at a time; another file gives its one image.

    Args:
        source: As for `read_image`.
        name: What to call it in errors; the path by default.
        limits: Checked before decoding.
        region: As for `read_image`.
        value_range: As for `read_image`.

    Raises:
        ImageError: As for `read_image`, when the frame concerned is reached.
        InputError: `value_range` is not two numbers, the smaller first.
    """
    declared = declared_range(value_range)
    content, name = _content(source, name, limits)
    if isinstance(content, bytes) and is_dicom(content):
        yield from _clip(content, name, limits, region, declared).all_frames()
    else:
        yield _still(content, name, limits, declared)


def _content(source: Source, name: str | None, limits: ImageLimits) -> tuple[bytes | np.ndarray | Image.Image, str]:
    """Return bytes, or what is decoded already, and what to call it."""
    if isinstance(source, (np.ndarray, Image.Image)):
        return source, name or "image"
    if isinstance(source, (bytes, str, Path)):
        return read_bytes(source, name, limits)
    if is_dataset(source):
        return dicom_bytes(source, name or "image"), name or "image"
    raise ImageError(
        f"{name or 'image'} is of type {type(source).__name__}; give a path, bytes, an array, a Pillow image or a "
        "pydicom data set"
    )


def _clip(content: bytes, name: str, limits: ImageLimits, region: bool, value_range: ValueRange | None) -> Clip:
    from medsharp.images.dicom import open_dicom  # imported for who reads DICOM

    return open_dicom(content, name, limits, region, value_range)


def _still(
    content: bytes | np.ndarray | Image.Image, name: str, limits: ImageLimits, value_range: ValueRange | None
) -> DecodedImage:
    if isinstance(content, bytes):
        return read_picture(content, name, limits, value_range)
    if isinstance(content, np.ndarray):
        return read_array(content, name, limits, value_range)
    return read_pillow(content, name, limits, value_range)


def read_bytes(source: Path | str | bytes, name: str | None, limits: ImageLimits) -> tuple[bytes, str]:
    """Return the bytes of a file or those given, and what to call it.

    Raises:
        ImageError: It is missing, empty, too large or a folder.
    """
    if isinstance(source, bytes):
        name = name or "image"
        limits.check_bytes(len(source), name)
        return source, name
    name, path = name or str(source), Path(source)
    try:
        if path.is_dir():
            raise ImageError(f"{name} is a folder, not an image")
        limits.check_bytes(path.stat().st_size, name)
        return path.read_bytes(), name
    except FileNotFoundError as error:
        raise ImageError(f"{name} does not exist") from error
    except OSError as error:
        raise ImageError(f"cannot read {name}: {error.strerror}") from error
