"""One frame of a DICOM object to samples: by the right decoder, in the colour space that the stream says."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from medsharp.images.apart import DecoderError, decode_apart, decode_frame
from medsharp.images.codestream import Codestream, mark_jpeg_as, read_jpeg2000_header, read_jpeg_header
from medsharp.images.dicom_grey import looks_mislabelled
from medsharp.images.limits import ImageError

_RLE = "1.2.840.10008.1.2.5"
_JPEG = "1.2.840.10008.1.2.4"
_BASELINE = f"{_JPEG}.50"
_JPEG_2000 = frozenset(f"{_JPEG}.{number}" for number in (90, 91, 92, 93, 201, 202, 203))
_DECODERS = {
    # As outside of DICOM, so that a JPEG gives the same pixels inside.
    _BASELINE: "pillow",
    **dict.fromkeys([f"{_JPEG}.{number}" for number in (51, 57, 70, 80, 81)] + sorted(_JPEG_2000), "pylibjpeg"),
}
"""pydicom's plugin for each compression: it would take whichever is installed, and some crash on damaged files."""

_VIDEOS = {
    **dict.fromkeys(("100", "101"), "MPEG-2"),
    **dict.fromkeys(("102", "103", "104", "105", "106"), "MPEG-4"),
    **dict.fromkeys(("107", "108"), "HEVC"),
}
"""Transfer syntaxes, by what follows `1.2.840.10008.1.2.4.`, in which no frame stands by itself."""

_MAY_CRASH = frozenset({"pylibjpeg"})

_MOST_TILES = 4096


class FrameSamples(NamedTuple):
    """A decoded frame.

    Attributes:
        samples: Integers [H, W] or [H, W, 3].
        interpretation: What they are, as PhotometricInterpretation says it; colour is RGB.
        flag: What to say of the label of their colour, or nothing.
    """

    samples: np.ndarray
    interpretation: str
    flag: str


def check_syntax(syntax: Any, name: str) -> None:
    """Check that there is a way to decode frames of a transfer syntax.

    Args:
        syntax: Its UID.
        name: What to call the object in errors.

    Raises:
        ImageError: It is a video, or a compression that nothing here reads.
    """
    from pydicom.pixels import get_decoder

    number = str(syntax).removeprefix(f"{_JPEG}.").partition(".")[0]  # `.1` behind it says that it may be in fragments
    if number in _VIDEOS:
        raise ImageError(
            f"{name} is a video ({_VIDEOS[number]}), which is not read; export it as single images, or as a DICOM clip "
            "whose frames are uncompressed or JPEG"
        )
    try:
        get_decoder(syntax)
    except NotImplementedError:
        how = "in a way that" if syntax.name == syntax else f"as {syntax.name}, which"  # no UID that somebody made up
        raise ImageError(
            f"{name} is stored {how} is not read; export it uncompressed, or as JPEG or JPEG 2000"
        ) from None


def uncompressed_frame(dataset: Any, number: int) -> FrameSamples:
    """Return a frame, counted from 1, of uncompressed pixel data.

    Raises:
        Exception: Whatever pydicom raises at damage.
    """
    from pydicom.pixels import get_decoder

    end, shift = _bits(dataset)
    decoder = get_decoder(dataset.file_meta.TransferSyntaxUID)
    options: dict[str, Any] = {"bits_stored": end}
    samples, about = decoder.as_array(dataset, index=number - 1, raw=True, **options)
    return _as_rgb(samples >> shift, str(about["photometric_interpretation"]), by_label=True)


def compressed_frame(dataset: Any, encoded: bytes, name: str) -> FrameSamples:
    """Decode the bytes of a compressed frame, which is believed before its label.

    Raises:
        ImageError: Its decoder is not installed, refuses it, or crashed.
        Exception: Whatever pydicom raises at damage.
    """
    from pydicom.pixels import get_decoder
    from pydicom.pixels.utils import as_pixel_options

    syntax = dataset.file_meta.TransferSyntaxUID
    decoder = get_decoder(syntax)
    found = _check_codestream(dataset, encoded)
    options = as_pixel_options(dataset, number_of_frames=1)
    options.pop("extended_offsets", None)
    plugin = _DECODERS.get(syntax, "")
    if plugin and plugin not in decoder.available_plugins:
        raise ImageError(
            f"{name} is compressed as {syntax.name}, which needs a further decoder; "
            "install it with: pip install 'medsharp[dicom]'"
        )
    shift, contradicted = 0, False
    if found is None:  # run lengths are of whole words, as they would be uncompressed
        options["bits_stored"], shift = _bits(dataset)
    elif found.samples == 3:
        label = str(dataset.PhotometricInterpretation)
        colour, contradicted = _colour_of_stream(found, label, syntax in _JPEG_2000)
        if syntax == _BASELINE:
            encoded = mark_jpeg_as(encoded, colour)
        options["photometric_interpretation"] = "RGB" if colour == "RGB" else "YBR_FULL"
        options["planar_configuration"] = 0  # the label's is that of uncompressed samples
    decode = decode_apart if plugin in _MAY_CRASH else decode_frame
    try:
        samples, interpretation = decode(encoded, str(syntax), plugin, options)
    except DecoderError as error:
        raise ImageError(f"{name} is a DICOM object that cannot be decoded ({error})") from None
    by_label = found is None or found.colour is None
    frame = _as_rgb(samples >> shift, interpretation, by_label)
    return frame._replace(flag="colour label corrected") if contradicted else frame


def _bits(dataset: Any) -> tuple[int, int]:
    """Return up to which bit samples reach in their words, and by how many they must be shifted down."""
    stored = int(dataset.BitsStored)
    end = int(dataset.get("HighBit", stored - 1)) + 1
    if end < stored:
        raise ValueError("the highest bit is below the stored bits")
    return end, end - stored


def _check_codestream(dataset: Any, frame: bytes) -> Codestream | None:
    """Compare a compressed frame's own header with the data set's: decoders trust the former."""
    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax == _RLE:
        return None
    found = read_jpeg2000_header(frame) if syntax in _JPEG_2000 else read_jpeg_header(frame)
    expected = (int(dataset.Columns), int(dataset.Rows), int(dataset.SamplesPerPixel))
    if (found.width, found.height, found.samples) != expected:
        raise ValueError("the compressed frame has another size than the data set")
    if found.bits > int(dataset.BitsAllocated) or found.tiles > _MOST_TILES:
        raise ValueError("the compressed frame has more bits or tiles than it may")
    return found


def _colour_of_stream(found: Codestream, label: str, jpeg_2000: bool) -> tuple[str, bool]:
    """Return what three decoded components are, `RGB` or `YBR`, and whether the label said otherwise."""
    transformed = label in ("YBR_RCT", "YBR_ICT")  # which the decoder of JPEG 2000 undoes, if it was done
    labelled = "YBR" if label.startswith("YBR") and not (jpeg_2000 and transformed) else "RGB"
    colour = found.colour or labelled
    return colour, colour != labelled or (jpeg_2000 and transformed and found.colour is None)


def _as_rgb(samples: np.ndarray, interpretation: str, by_label: bool) -> FrameSamples:
    """Convert YBR_FULL and say, where only the label tells what samples are, whether it can be right."""
    doubtful = by_label and samples.ndim == 3 and looks_mislabelled(samples, interpretation)
    if interpretation in ("YBR_FULL", "YBR_FULL_422"):
        from pydicom.pixels import convert_color_space

        samples, interpretation = convert_color_space(samples, "YBR_FULL", "RGB"), "RGB"
    return FrameSamples(samples, interpretation, "colour label doubtful" if doubtful else "")
