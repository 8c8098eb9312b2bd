"""Images that a program holds already, as arrays, Pillow images or pydicom data sets, to the same grey pixels."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageOps

from medsharp.images.decoded import DecodedImage
from medsharp.images.limits import ImageError, ImageLimits
from medsharp.images.pictures import UPRIGHT, Picture, byte_palette_of, grey_of, orientation_of
from medsharp.images.values import ValueRange

if TYPE_CHECKING:
    from pydicom import Dataset

_BITS = {"1": 1, "I;16": 16, "I;16B": 16, "I;16L": 16, "I": 32, "F": 32}


def read_array(array: np.ndarray, name: str, limits: ImageLimits, declared: ValueRange | None = None) -> DecodedImage:
    """Bring an array to grey pixels, by the rules for a picture file of its type.

    Args:
        array: [H, W] grey or [H, W, 1 | 3 | 4] RGB(A), of uint8; or [H, W] of bool, integers of up to 32 bits, or
            floating-point numbers, which need a range as those of a file do.
        name: What to call it in errors.
        limits: What is refused.
        declared: What is black and white in values of more than 8 bits.

    Raises:
        ImageError: It has another shape or type, is too small or large, or its range is not known.
    """
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    colours = array.ndim == 3 and array.shape[2] in (3, 4) and array.dtype == np.uint8
    if not (colours or (array.ndim == 2 and array.dtype.kind in "buif")):
        raise ImageError(
            f"{name} is an array of {array.dtype} {list(array.shape)}; give uint8 [H, W] or [H, W, 3], or other "
            "numbers [H, W]"
        )
    limits.check_size(array.shape[1], array.shape[0], name)
    if array.dtype == np.uint8 and not colours:
        return DecodedImage(np.ascontiguousarray(array), "array")
    signed, bits = array.dtype.kind == "i", min(32, 8 * array.dtype.itemsize)
    if array.dtype.kind == "f":
        array = array.astype(np.float32)
    elif array.dtype.itemsize > 4:
        raise ImageError(f"{name} is an array of {array.dtype}; give integers of at most 32 bits")
    elif array.dtype not in (np.bool_, np.uint8, np.uint16):
        # Pillow has one type for whole numbers of more than 16 bits; `Picture.samples` reads unsigned ones back.
        array = array.view(np.int32) if array.dtype == np.uint32 else array.astype(np.int32)
    picture = Picture(Image.fromarray(array), "array", bits, signed, False, None, UPRIGHT, False, False)
    return grey_of(picture, name, declared)


def read_pillow(image: Image.Image, name: str, limits: ImageLimits, declared: ValueRange | None = None) -> DecodedImage:
    """Bring a Pillow image to grey pixels, by the rules for a file of its mode; it is left as it is.

    What Pillow does not keep of a file, such as tags of its range, is not known here: give a path for these.

    Raises:
        ImageError: It is too small or large, has several frames, cannot be decoded, or its range is not known.
    """
    limits.check_size(image.width, image.height, name)
    if getattr(image, "is_animated", False):
        raise ImageError(f"{name} has several frames or pages; give the one that is meant as an image")
    try:
        orientation = orientation_of(image)
        turned = ImageOps.exif_transpose(image)
        turned.load()
        palette = byte_palette_of(image)
        if palette is not None:
            turned.putpalette(palette)
    # Pillow decodes when the pixels are first asked for, and raises whatever it stumbles upon in damaged files.
    except Exception as error:
        raise ImageError(f"{name} is damaged or cut off: {' '.join(str(error).split())}") from error
    bits = _BITS.get(image.mode, 8)
    # Adobe's marker: Pillow inverts CMYK of every JPEG, as Adobe's are stored.
    adobe = "adobe" in image.info or image.format != "JPEG"
    kind = image.format or "Pillow"
    signed = image.mode == "I"
    picture = Picture(
        turned, kind, bits, signed, False, None, orientation, adobe, False, byte_palette=palette is not None
    )
    return grey_of(picture, name, declared)


def dicom_bytes(dataset: Dataset, name: str) -> bytes:
    """Return a pydicom data set as a file, for the one reader of DICOM.

    Raises:
        ImageError: It cannot be written, as one without a transfer syntax.
    """
    buffer = io.BytesIO()
    try:
        dataset.save_as(buffer, enforce_file_format=True)
    # pydicom raises whatever it stumbles upon in elements that contradict each other.
    except Exception as error:
        raise ImageError(
            f"{name} is a data set that cannot be stored as DICOM: {' '.join(str(error).split())}"
        ) from error
    return buffer.getvalue()


def is_dataset(source: Any) -> bool:
    """Whether this is a pydicom data set; does not import pydicom."""
    return any(kind.__module__.startswith("pydicom.") and kind.__name__ == "Dataset" for kind in type(source).__mro__)
