"""Image files and bytes (PNG, JPEG, TIFF, BMP, WebP, GIF, DICOM) to checked 8-bit grey pixels."""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from medsharp.errors import InputError


class ImageError(InputError):
    """A file that is not an image that can be used; the sentence names it and says why."""


@dataclass(frozen=True)
class ImageLimits:
    """What is refused before anything is decoded.

    Attributes:
        max_bytes: Of the file.
        max_pixels: Width times height.
        max_side: Longest side in pixels.
        min_side: Shortest side in pixels.
    """

    max_bytes: int = 64 * 2**20
    max_pixels: int = 40_000_000
    max_side: int = 16_384
    min_side: int = 16


@dataclass(frozen=True)
class DecodedImage:
    """Pixels and what was done to get them.

    Attributes:
        pixels: uint8 [H, W], grey.
        format: As Pillow names it, or `"DICOM"`.
        flags: Such as `colour`, `16-bit`, `alpha`, `cmyk`, `rotated`, `dicom`.
    """

    pixels: np.ndarray
    format: str
    flags: tuple[str, ...] = ()


_FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "WEBP", "GIF")
_COLOUR_DIFFERENCE = 16
"""Grey levels between channels from which on a pixel counts as coloured; JPEG alone stays below."""


def read_image(
    source: Path | str | bytes, *, name: str | None = None, limits: ImageLimits = ImageLimits()
) -> DecodedImage:
    """Decode an image to grey.

    16-bit images are scaled to 8, transparency is laid on black, CMYK and palettes become RGB, EXIF rotation is
    applied, and colour becomes luminance (ITU-R 601); each is said in `flags`. Of a DICOM object only the pixels leave.

    Args:
        source: A file, or its bytes.
        name: What to call it in errors; the path by default.
        limits: Checked before decoding.

    Returns:
        uint8 pixels [H, W], their format and flags.

    Raises:
        ImageError: The file is missing, empty, truncated, of another kind, too small or large, or has several frames.
    """
    if isinstance(source, bytes):
        data, name = source, name or "image"
        _check_bytes(len(data), name, limits)
    else:
        name = name or str(source)
        data = _read_bytes(Path(source), name, limits)
    if data[128:132] == b"DICM":
        return _read_dicom(data, name, limits)
    return _read_picture(data, name, limits)


def _check_size(width: int, height: int, name: str, limits: ImageLimits) -> None:
    if min(width, height) < limits.min_side:
        raise ImageError(f"{name} is {width} x {height} pixels; the least is {limits.min_side} x {limits.min_side}")
    if max(width, height) > limits.max_side or width * height > limits.max_pixels:
        raise ImageError(
            f"{name} is {width} x {height} pixels; the most is {limits.max_side} a side and {limits.max_pixels} in all"
        )


def _luminance(rgb: np.ndarray) -> tuple[np.ndarray, bool]:
    """Return grey uint8 [H, W] of uint8 [H, W, 3] and whether any visible part is really coloured."""
    low, high = rgb.min(axis=-1), rgb.max(axis=-1)
    # One coloured pixel in 10,000 is a calliper or a Doppler box; fewer is compression.
    coloured = bool(((high - low) > _COLOUR_DIFFERENCE).mean() > 1e-4)
    return np.asarray(Image.fromarray(rgb).convert("L")), coloured


def _read_bytes(path: Path, name: str, limits: ImageLimits) -> bytes:
    try:
        if path.is_dir():
            raise ImageError(f"{name} is a folder, not an image")
        _check_bytes(path.stat().st_size, name, limits)
        return path.read_bytes()
    except FileNotFoundError as error:
        raise ImageError(f"{name} does not exist") from error
    except OSError as error:
        raise ImageError(f"cannot read {name}: {error.strerror}") from error


def _check_bytes(size: int, name: str, limits: ImageLimits) -> None:
    if size == 0:
        raise ImageError(f"{name} is empty")
    if size > limits.max_bytes:
        raise ImageError(f"{name} has {size / 2**20:.0f} MiB; the most is {limits.max_bytes / 2**20:.0f} MiB")


def _read_picture(data: bytes, name: str, limits: ImageLimits) -> DecodedImage:
    try:
        with warnings.catch_warnings():
            # Our own limits come right after; Pillow's warnings on odd EXIF blocks do not concern pixels.
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data), formats=_FORMATS) as picture:
                _check_size(picture.width, picture.height, name, limits)
                frames = getattr(picture, "n_frames", 1)
                if frames > 1:
                    raise ImageError(f"{name} has {frames} frames; give one frame as an image")
                kind = picture.format or ""
                picture.load()
                return _grey(picture, kind)
    except ImageError:
        raise
    except UnidentifiedImageError as error:
        raise ImageError(f"{name} is not a PNG, JPEG, TIFF, BMP or DICOM image") from error
    except Image.DecompressionBombError as error:
        raise ImageError(f"{name} has too many pixels; the most is {limits.max_pixels}") from error
    # Pillow's decoders raise these and more of the kind on damaged files.
    except (
        OSError,
        SyntaxError,
        ValueError,
        EOFError,
        MemoryError,
        IndexError,
        KeyError,
        TypeError,
        OverflowError,
    ) as error:
        raise ImageError(f"{name} is damaged or cut off: {error}") from error


def _grey(picture: Image.Image, kind: str) -> DecodedImage:
    flags = []
    turned = ImageOps.exif_transpose(picture)
    if turned.size != picture.size or picture.getexif().get(0x0112, 1) != 1:
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
    pixels, coloured = _luminance(np.asarray(picture.convert("RGB")))
    return DecodedImage(pixels, kind, (*flags, "colour") if coloured else tuple(flags))


def _to_eight_bits(values: np.ndarray) -> np.ndarray:
    """Scale by the full range of 16 bits, or of 12 or 8 where no value goes beyond."""
    values = np.nan_to_num(values.astype(np.float64), nan=0.0, posinf=65535.0, neginf=0.0)
    top = next((top for top in (255.0, 4095.0, 65535.0) if values.max() <= top), float(values.max()))
    return np.clip(np.rint(values * (255.0 / top)), 0, 255).astype(np.uint8)


def _read_dicom(data: bytes, name: str, limits: ImageLimits) -> DecodedImage:
    """Decode one frame; no attribute's value leaves, not even in an error."""
    import pydicom

    try:
        # pydicom warns of values that break the standard and quotes them; they may be a patient's.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset = pydicom.dcmread(io.BytesIO(data))
            if "PixelData" not in dataset or "Rows" not in dataset:
                raise ImageError(f"{name} is a DICOM object without an image")
            _check_size(int(dataset.Columns), int(dataset.Rows), name, limits)
            frames = int(dataset.get("NumberOfFrames", 1) or 1)
            if frames > 1:
                raise ImageError(f"{name} has {frames} frames; give one frame as an image")
            return _grey_of_dicom(dataset)
    except ImageError:
        raise
    # Damaged DICOM raises whatever the element at hand raises; its text may quote attributes, so it is not passed on.
    except Exception as error:
        raise ImageError(f"{name} is a DICOM object that cannot be decoded ({type(error).__name__})") from None


def _grey_of_dicom(dataset: Any) -> DecodedImage:
    """Apply modality and VOI tables and the photometric interpretation; colour becomes luminance."""
    from pydicom.pixels import apply_modality_lut, apply_voi_lut, convert_color_space, pixel_array
    from pydicom.pixels.processing import apply_color_lut

    interpretation = str(dataset.PhotometricInterpretation)
    pixels = pixel_array(dataset, raw=True)
    if interpretation == "PALETTE COLOR":
        pixels = apply_color_lut(pixels, dataset)
        if pixels.dtype == np.uint16:
            pixels = (pixels >> 8).astype(np.uint8)
        interpretation = "RGB"
    if pixels.ndim == 3:
        if interpretation.startswith("YBR"):
            pixels = convert_color_space(pixels, interpretation, "RGB")
        grey, coloured = _luminance(np.ascontiguousarray(pixels.astype(np.uint8)))
        return DecodedImage(grey, "DICOM", ("dicom", "colour") if coloured else ("dicom",))
    windowed = "WindowWidth" in dataset or "VOILUTSequence" in dataset
    values = apply_voi_lut(apply_modality_lut(pixels, dataset), dataset).astype(np.float64)
    if pixels.dtype == np.uint8 and not windowed and "RescaleSlope" not in dataset:
        grey = pixels
    elif windowed:
        grey = _scale(values, float(values.min()), float(values.max()))
    else:
        low = -(2.0 ** (int(dataset.BitsStored) - 1)) if int(dataset.PixelRepresentation) else 0.0
        grey = _scale(values, min(low, values.min()), max(low + 2.0 ** int(dataset.BitsStored) - 1, values.max()))
    if interpretation == "MONOCHROME1":
        grey = 255 - grey
    deep = int(dataset.BitsAllocated) > 8
    return DecodedImage(np.ascontiguousarray(grey), "DICOM", ("dicom", "16-bit") if deep else ("dicom",))


def _scale(values: np.ndarray, low: float, high: float) -> np.ndarray:
    return np.rint((values - low) * (255.0 / max(high - low, 1e-12))).clip(0, 255).astype(np.uint8)
