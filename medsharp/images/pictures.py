"""PNG, JPEG, TIFF, BMP, WebP and GIF to grey pixels, by Pillow."""

from __future__ import annotations

import io
import warnings

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from medsharp.images.decoded import DecodedImage, luminance
from medsharp.images.limits import ImageError, ImageLimits

_FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "WEBP", "GIF")
_ORIENTATION = 0x0112
_ROWS = 256
"""Rows that are computed on in floating point at once, so that a large image takes little memory."""


def read_picture(data: bytes, name: str, limits: ImageLimits) -> DecodedImage:
    """Decode a picture of one frame.

    Raises:
        ImageError: It is damaged, of another kind, too small or large, or has several frames.
    """
    try:
        with warnings.catch_warnings():
            # Our own limits come right after; Pillow's warnings on odd EXIF blocks do not concern pixels.
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data), formats=_FORMATS) as picture:
                limits.check_size(picture.width, picture.height, name)
                kind = picture.format or ""
                # Cameras append a preview to a JPEG; the first image is the one that was taken.
                if kind == "MPO":
                    kind = "JPEG"
                elif getattr(picture, "is_animated", False):
                    raise ImageError(f"{name} has several frames or pages; give the one that is meant as an image")
                picture.load()
                return _grey(picture, kind)
    except ImageError:
        raise
    except UnidentifiedImageError as error:
        raise ImageError(f"{name} is not a PNG, JPEG, TIFF, BMP or DICOM image") from error
    except Image.DecompressionBombError as error:
        raise ImageError(f"{name} has too many pixels; the most is {limits.max_pixels}") from error
    # Pillow's decoders raise whatever they stumble upon in damaged files, struct.error among it.
    except Exception as error:
        raise ImageError(f"{name} is damaged or cut off: {' '.join(str(error).split())}") from error


def _grey(picture: Image.Image, kind: str) -> DecodedImage:
    flags = []
    turned = ImageOps.exif_transpose(picture)
    if turned.size != picture.size or picture.getexif().get(_ORIENTATION, 1) != 1:
        flags.append("rotated")
    picture = turned
    if picture.mode.startswith("I") or picture.mode == "F":
        return DecodedImage(_to_eight_bits(np.asarray(picture)), kind, (*flags, "16-bit"))
    if picture.mode in {"RGBA", "LA", "PA"} or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        if picture.getchannel("A").getextrema()[0] != 255:
            flags.append("alpha")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, (0, 0, 0, 255)), picture)
    if picture.mode == "CMYK":
        flags.append("cmyk")
    if picture.mode in {"1", "L"}:
        return DecodedImage(np.asarray(picture.convert("L")), kind, tuple(flags))
    pixels, coloured = luminance(np.asarray(picture.convert("RGB")))
    if coloured is not None:
        flags.append("colour")
    return DecodedImage(pixels, kind, tuple(flags), coloured=coloured)


def _to_eight_bits(values: np.ndarray) -> np.ndarray:
    """Scale by the full range of 16 bits, or of 12 or 8 where no value goes beyond."""
    highest = float(np.max(values, initial=0.0, where=np.isfinite(values)))
    top = next((top for top in (255.0, 4095.0, 65535.0) if highest <= top), highest)
    grey = np.empty(values.shape, dtype=np.uint8)
    for start in range(0, len(values), _ROWS):
        rows = np.nan_to_num(values[start : start + _ROWS].astype(np.float64), nan=0.0, posinf=top, neginf=0.0)
        grey[start : start + _ROWS] = np.clip(np.rint(rows * (255.0 / top)), 0, 255)
    return grey
