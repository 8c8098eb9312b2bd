"""PNG, JPEG, TIFF, BMP, WebP and GIF to grey pixels, by Pillow."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image, ImageChops, ImageOps, UnidentifiedImageError

from medsharp.images.decoded import DecodedImage, luminance, strips
from medsharp.images.limits import MOST_PIXELS, ImageError, ImageLimits
from medsharp.images.values import BYTE_PALETTE, UNDECLARED, Samples, ValueRange, is_undeclared, scale_samples

FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "WEBP", "GIF")
"""As Pillow names them; it would open others too, and decode some of them to read their header."""

UPRIGHT = 1
_ORIENTATION = 0x0112
_BITS, _PHOTOMETRIC, _PALETTE, _SAMPLE_FORMAT = 258, 262, 320, 339
_LARGEST, _SMALLEST_SAMPLE, _LARGEST_SAMPLE = 281, 340, 341
_SIGNED = 2
_SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+", b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"RIFF")
_WITH_ALPHA = frozenset({"RGBA", "LA", "PA", "RGBa", "La"})
_LOSSY = ("jpeg", "tiff_jpeg", "webp")
"""Of TIFF."""

_SIXTEEN = ValueRange(0.0, 65535.0)


@dataclass(frozen=True)
class Picture:
    """An opened picture with what its header says of its samples.

    Attributes:
        image: As Pillow decodes it, upright.
        kind: As Pillow names its format.
        bits: Of a sample, as stored.
        signed: Whether its integers are.
        white_is_zero: Whether its smallest value is white, which Pillow leaves so in a deep picture.
        tag: The range that its tags state.
        orientation: In which it was stored, as EXIF numbers it; 1 is upright.
        adobe: Whether a JPEG has Adobe's marker.
        is_lossy: Whether its compression changes values.
        byte_palette: Whether its palette's colours of 16 bits are stored as of 8.
    """

    image: Image.Image
    kind: str
    bits: int
    signed: bool
    white_is_zero: bool
    tag: ValueRange | None
    orientation: int
    adobe: bool
    is_lossy: bool
    byte_palette: bool = False

    @property
    def is_deep(self) -> bool:
        """Whether it holds one channel of values that need a range to become 8 bits."""
        return self.image.mode.startswith("I") or self.image.mode == "F" or (self.signed and self.image.mode == "L")

    def samples(self) -> Samples:
        """Return the values of a deep picture as they are stored."""
        values = np.asarray(self.image)
        if self.image.mode == "L":
            values = values.view(np.int8)
        elif self.image.mode == "I" and not self.signed and self.bits == 32:
            values = values.view(np.uint32)  # Pillow has no such mode
        elif self.image.mode == "I" and not self.signed:
            values = values.astype(np.uint16)
        return Samples(values, self.bits, self.white_is_zero, self.tag)


def read_picture(data: bytes, name: str, limits: ImageLimits, declared: ValueRange | None = None) -> DecodedImage:
    """Decode a picture of one frame.

    Args:
        data: The file.
        name: What to call it in errors.
        limits: What is refused.
        declared: The data set's range of values, for pictures of more than 8 bits.

    Raises:
        ImageError: It is damaged, of another kind, too small or large, has several frames, or its range is not known.
    """
    with open_picture(data, name, limits) as picture:
        return grey_of(picture, name, declared)


def grey_of(picture: Picture, name: str, declared: ValueRange | None = None) -> DecodedImage:
    """Return an opened picture as grey pixels.

    Raises:
        ImageError: Its range is not known, or its colour space is not read.
    """
    flags = [] if picture.orientation == UPRIGHT else ["rotated"]
    flags += [BYTE_PALETTE] if picture.byte_palette else []
    grey = _grey_of_deep if picture.is_deep else _grey
    return replace(grey(picture, declared, name, flags), orientation=picture.orientation)


@contextmanager
def open_picture(data: bytes, name: str, limits: ImageLimits) -> Iterator[Picture]:
    """Decode a picture and turn whatever goes wrong, in the block too, into one sentence.

    Raises:
        ImageError: It is damaged, of another kind, too small or large, or has several frames.
    """
    try:
        with warnings.catch_warnings():
            # Our own limits come right after; Pillow's warnings on odd EXIF blocks do not concern pixels.
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                limits.check_size(image.width, image.height, name)
                kind = image.format or ""
                # Cameras append a preview to a JPEG; the first image is the one that was taken.
                if kind == "MPO":
                    kind = "JPEG"
                elif getattr(image, "is_animated", False):
                    raise ImageError(f"{name} has several frames or pages; give the one that is meant as an image")
                yield _load(image, kind, data)
    except ImageError:
        raise
    except UnidentifiedImageError as error:
        if data.startswith(_SIGNATURES):
            raise ImageError(f"{name} is damaged or cut off, or of a kind that is not read") from error
        raise ImageError(f"{name} is not a PNG, JPEG, TIFF, BMP, WebP, GIF or DICOM image") from error
    except Image.DecompressionBombError as error:
        raise ImageError(f"{name} has too many pixels; the most is {min(limits.max_pixels, MOST_PIXELS)}") from error
    # Pillow's decoders raise whatever they stumble upon in damaged files, struct.error among it.
    except Exception as error:
        raise ImageError(f"{name} is damaged or cut off: {' '.join(str(error).split())}") from error


def _load(image: Image.Image, kind: str, data: bytes) -> Picture:
    # Read before the pixels are: Pillow turns a TIFF while it loads, and forgets the tag.
    orientation = orientation_of(image)
    bits, signed, white_is_zero, tag = 8, False, False, None
    if kind == "PNG":
        bits = data[24]  # of IHDR, which comes first
    elif kind == "TIFF":
        tags = image.tag_v2  # type: ignore[attr-defined]
        bits = int(_first(tags.get(_BITS), 1))
        signed = _first(tags.get(_SAMPLE_FORMAT), 1) == _SIGNED
        white_is_zero = tags.get(_PHOTOMETRIC) == 0
        tag = _tag_range(tags, bits) if bits > 8 or signed else None
    adobe = "adobe" in image.info
    is_lossy = kind == "JPEG" or image.info.get("compression") in _LOSSY
    is_lossy |= kind == "WEBP" and b"VP8L" not in data
    image.load()
    _scale_transparency(image, bits)
    palette = byte_palette_of(image)
    if palette is not None:
        image.putpalette(palette)
    if orientation == UPRIGHT:
        orientation = orientation_of(image)  # a PNG may say it after the pixels
    ImageOps.exif_transpose(image, in_place=True)  # a second one would take its memory again
    return Picture(
        image, kind, bits, signed, white_is_zero, tag, orientation, adobe, is_lossy, byte_palette=palette is not None
    )


def orientation_of(image: Image.Image) -> int:
    """Return the orientation that an image's EXIF block states, `UPRIGHT` where it states none that there is."""
    stated = image.getexif().get(_ORIENTATION, UPRIGHT)
    return stated if stated in range(1, 9) else UPRIGHT


def byte_palette_of(image: Image.Image) -> bytes | None:
    """Return the colours of a TIFF's palette, RGB after RGB, where they are stored as of 8 bits; None where not.

    TIFF 6.0, section 5, has them from 0 to 65535, and Pillow keeps the upper eight bits. Some writers store 0 to 255:
    such a palette, black in all its entries otherwise, is read as libtiff's tools read it.
    """
    stored = getattr(image, "tag_v2", {}).get(_PALETTE) if image.mode in ("P", "PA") else None
    is_palette = isinstance(stored, tuple) and all(isinstance(value, int) for value in stored)
    if not stored or not is_palette or len(stored) % 3 or min(stored) < 0 or not 0 < max(stored) <= 255:
        return None
    return np.array(stored, dtype=np.uint8).reshape(3, -1).T.tobytes()  # stored are all reds before all greens


def _scale_transparency(image: Image.Image, bits: int) -> None:
    """Bring the one transparent value of a PNG to 8 bits where Pillow did so with the pixels only."""
    value = image.info.get("transparency")
    if isinstance(value, int) and image.mode == "L" and bits < 8:
        image.info["transparency"] = value * 255 // (2**bits - 1)
    elif isinstance(value, tuple) and bits == 16:
        image.info["transparency"] = tuple(part >> 8 for part in value)


def _first(value: object, otherwise: float) -> float:
    if isinstance(value, (tuple, bytes)):
        value = value[0] if value else None
    return otherwise if value is None else float(value)  # type: ignore[arg-type]


def _tag_range(tags: object, bits: int) -> ValueRange | None:
    """Return the range that SMinSampleValue and SMaxSampleValue state (TIFF 6.0, section 19), else MaxSampleValue.

    MaxSampleValue may be the largest of this one image; only where it is that of a number of bits, such as 4095, is
    it the type's.
    """
    get = tags.get  # type: ignore[attr-defined]
    if get(_LARGEST_SAMPLE) is not None:
        low, high = _first(get(_SMALLEST_SAMPLE), 0.0), _first(get(_LARGEST_SAMPLE), 0.0)
        if np.isfinite(low) and np.isfinite(high) and low < high:
            return ValueRange(low, high)
    largest = _first(get(_LARGEST), 0.0)
    if bits == 16 and largest in {2.0**used - 1 for used in range(9, 16)}:
        return ValueRange(0.0, largest)
    return None


def _grey_of_deep(picture: Picture, declared: ValueRange | None, name: str, flags: list[str]) -> DecodedImage:
    samples = picture.samples()
    scaled = scale_samples(samples, declared, name)
    pixels, flags = scaled.pixels, [*flags, *scaled.flags]
    transparent = picture.image.info.get("transparency")
    if isinstance(transparent, int):
        clear = samples.values == transparent
        if clear.any():
            pixels[clear] = 0
            flags.append("alpha")
    return DecodedImage(pixels, picture.kind, tuple(flags), range=scaled.range)


def _grey(picture: Picture, declared: ValueRange | None, name: str, flags: list[str]) -> DecodedImage:
    image = picture.image
    over_black = None
    if image.mode in _WITH_ALPHA or "transparency" in image.info:
        over_black, is_opaque = _over_black(image)
        if not is_opaque:
            flags.append("alpha")
    elif image.mode == "CMYK":
        flags.append("cmyk")
        if picture.kind == "JPEG" and not picture.adobe:
            image = ImageChops.invert(image)  # Pillow takes every one for Adobe's, which are stored inverted
    elif image.mode == "LAB":
        raise ImageError(f"{name} is in the colour space L*a*b*, which is not read; save it as grey or RGB")
    colours = None
    if over_black is not None:
        pixels, colours = luminance(over_black)
    elif image.mode in {"1", "L"}:
        pixels = np.asarray(image if image.mode == "L" else image.convert("L"))
    else:
        pixels, colours = luminance(np.asarray(image if image.mode == "RGB" else image.convert("RGB")))
    if colours is not None:
        flags.append("colour")
    used = None
    if picture.bits == 16:
        used = _SIXTEEN
        flags += _of_sixteen_bit_channels(pixels, declared, name)
    return DecodedImage(pixels, picture.kind, tuple(flags), colours=colours, range=used)


def _over_black(image: Image.Image) -> tuple[np.ndarray, bool]:
    """Return a picture with transparency on black, uint8 [H, W, 3], and whether all of it is opaque."""
    rgb = np.empty((image.height, image.width, 3), dtype=np.uint8)
    is_opaque = True
    for rows in strips(image.height):
        strip = image.crop((0, rows.start, image.width, min(rows.stop, image.height))).convert("RGBA")
        is_opaque &= strip.getchannel("A").getextrema()[0] == 255
        black = Image.new("RGBA", strip.size, (0, 0, 0, 255))
        rgb[rows] = np.asarray(Image.alpha_composite(black, strip))[..., :3]
    return rgb, is_opaque


def _of_sixteen_bit_channels(pixels: np.ndarray, declared: ValueRange | None, name: str) -> list[str]:
    """Return the flags of a picture of several channels of 16 bits, of which Pillow keeps the upper eight."""
    if declared is not None and declared != _SIXTEEN:
        raise ImageError(
            f"{name} has several channels of 16 bits, which can only be scaled from 0 to 65535, and the declared range "
            f"is {declared}; save it with one channel"
        )
    return ["16-bit", *([UNDECLARED] if is_undeclared(float(pixels.max()), ValueRange(0.0, 255.0)) else [])]
