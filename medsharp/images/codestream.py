"""What a compressed frame says of itself before it is decoded: JPEG, JPEG-LS and JPEG 2000 headers."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

_J2K_START = b"\xff\x4f\xff\x51"
_JP2_SIGNATURE = b"\x00\x00\x00\x0cjP  "
_WITHOUT_LENGTH = frozenset({0x01, *range(0xD0, 0xD9)})
_FRAME_HEADERS = frozenset({*range(0xC0, 0xD0), 0xF7}) - {0xC4, 0xC8, 0xCC}
"""SOF0 to SOF15 without DHT, JPG and DAC, and SOF55 of JPEG-LS."""

_RGB_IDS = (b"RGB", b"rgb")
_ADOBE_RGB = b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00\x00"
"""Adobe's marker of untransformed colour (APP14, transform 0)."""


@dataclass(frozen=True)
class Codestream:
    """Size and colour space of a compressed frame.

    Attributes:
        width: In pixels.
        height: In pixels.
        samples: Channels.
        bits: Of a sample.
        tiles: Parts that are coded apart; 1 but in JPEG 2000.
        colour: `RGB` or `YBR` where the frame says what its three components decode to, else None.
    """

    width: int
    height: int
    samples: int
    bits: int
    tiles: int = 1
    colour: str | None = None


def read_jpeg_header(frame: bytes) -> Codestream:
    """Read the frame header of JPEG (ITU-T T.81, B.2.2) or JPEG-LS (T.87, C.2.2).

    Raises:
        ValueError: There is none.
    """
    jfif, adobe = False, None
    for marker, start, end in _segments(frame):
        body = frame[start + 4 : end]
        if marker == 0xE0 and body.startswith(b"JFIF\0"):
            jfif = True
        elif marker == 0xEE and body.startswith(b"Adobe") and len(body) >= 12:
            adobe = body[11]
        elif marker in _FRAME_HEADERS:
            if len(body) < 6:
                break
            height, width = int.from_bytes(body[1:3], "big"), int.from_bytes(body[3:5], "big")
            colour = _colour_of_jpeg(body[6:], jfif, adobe) if body[5] == 3 else None
            return Codestream(width, height, body[5], body[0], colour=colour)
    raise ValueError("no JPEG frame header")


def _segments(frame: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield marker, start and end of each segment, up to the image's data."""
    if frame[:2] != b"\xff\xd8":
        raise ValueError("no JPEG start")
    place = 2
    while place + 4 <= len(frame):
        if frame[place] != 0xFF:
            raise ValueError("no JPEG marker")
        marker = frame[place + 1]
        if marker == 0xFF:  # fill byte
            place += 1
        elif marker in _WITHOUT_LENGTH:
            place += 2
        elif marker in (0xD9, 0xDA):  # the image's data, or its end
            return
        else:
            end = place + 2 + max(2, int.from_bytes(frame[place + 2 : place + 4], "big"))
            yield marker, place, end
            place = end


def _colour_of_jpeg(components: bytes, jfif: bool, adobe: int | None) -> str | None:
    """Return what a frame says of its three components, each of an identifier, sampling factors and a table.

    As decoders outside of DICOM do it (libjpeg's `jdapimin.c`); without any marker a frame still tells, by treating
    the components differently, that they are brightness and colour differences.
    """
    identifiers, sampling, tables = components[0::3], components[1::3], components[2::3]
    if identifiers[:3] in _RGB_IDS:
        return "RGB"
    if jfif:
        return "YBR"
    if adobe is not None:
        return "YBR" if adobe else "RGB"
    return "YBR" if len(set(sampling[:3])) > 1 or len(set(tables[:3])) > 1 else None


def mark_jpeg_as(frame: bytes, colour: str) -> bytes:
    """Return a JPEG whose markers say `RGB` or, by saying nothing else, `YBR`, as decoders go by them."""
    kept, place = [b"\xff\xd8"], 2
    if colour == "RGB":
        kept.append(_ADOBE_RGB)
    for marker, start, end in _segments(frame):
        contradicts = marker == 0xEE or (marker == 0xE0 and colour == "RGB")
        kept.append(frame[place : start if contradicts else end])
        place = end
    return b"".join([*kept, frame[place:]])


def read_jpeg2000_header(frame: bytes) -> Codestream:
    """Read the SIZ segment of JPEG 2000 (ITU-T T.800, A.5.1), bare or in a JP2 file.

    Raises:
        ValueError: There is none, or it contradicts itself.
    """
    start = _skip_boxes(frame) if frame.startswith(_JP2_SIGNATURE) else 0
    segment = frame[start : start + 43]
    if segment[:4] != _J2K_START or len(segment) < 43:
        raise ValueError("no JPEG 2000 start")
    right, bottom, left, top, tile_width, tile_height, tile_left, tile_top = (
        int.from_bytes(segment[8 + 4 * n : 12 + 4 * n], "big") for n in range(8)
    )
    if min(tile_width, tile_height, right - left, bottom - top) < 1:
        raise ValueError("empty JPEG 2000 image")
    tiles = math.ceil((right - tile_left) / tile_width) * math.ceil((bottom - tile_top) / tile_height)
    samples = int.from_bytes(segment[40:42], "big")
    # Decoders undo a transformation of the components; what it was made of is then RGB.
    colour = "RGB" if samples == 3 and _is_transformed(frame, start) else None
    return Codestream(right - left, bottom - top, samples, (segment[42] & 0x7F) + 1, tiles, colour)


def _is_transformed(frame: bytes, start: int) -> bool:
    """Whether the coding style (COD, ITU-T T.800, A.6.1) tells of a multiple component transformation."""
    place = start + 2
    while place + 4 <= len(frame) and frame[place] == 0xFF and frame[place + 1] not in (0x90, 0xD9):
        if frame[place + 1] == 0x52:
            return frame[place + 8 : place + 9] == b"\1"
        place += 2 + max(2, int.from_bytes(frame[place + 2 : place + 4], "big"))
    return False


def _skip_boxes(frame: bytes) -> int:
    place = 12
    while place + 8 <= len(frame):
        length = int.from_bytes(frame[place : place + 4], "big")
        if frame[place + 4 : place + 8] == b"jp2c":
            return place + 8
        if length < 8:  # 0 means up to the end, 1 a 64-bit length: neither stands before a frame in DICOM
            break
        place += length
    raise ValueError("no JPEG 2000 codestream in its box")
