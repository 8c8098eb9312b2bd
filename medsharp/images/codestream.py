"""What a compressed frame says of itself before it is decoded: JPEG, JPEG-LS and JPEG 2000 headers."""

from __future__ import annotations

import math
from dataclasses import dataclass

_J2K_START = b"\xff\x4f\xff\x51"
_JP2_SIGNATURE = b"\x00\x00\x00\x0cjP  "
_WITHOUT_LENGTH = frozenset({0x01, *range(0xD0, 0xD9)})
_FRAME_HEADERS = frozenset({*range(0xC0, 0xD0), 0xF7}) - {0xC4, 0xC8, 0xCC}
"""SOF0 to SOF15 without DHT, JPG and DAC, and SOF55 of JPEG-LS."""


@dataclass(frozen=True)
class Codestream:
    """Size of a compressed frame.

    Attributes:
        width: In pixels.
        height: In pixels.
        samples: Channels.
        bits: Of a sample.
        tiles: Parts that are coded apart; 1 but in JPEG 2000.
    """

    width: int
    height: int
    samples: int
    bits: int
    tiles: int = 1


def read_jpeg_header(frame: bytes) -> Codestream:
    """Read the frame header of JPEG (ITU-T T.81, B.2.2) or JPEG-LS (T.87, C.2.2).

    Raises:
        ValueError: There is none.
    """
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
        elif marker in _FRAME_HEADERS:
            header = frame[place + 4 : place + 10]
            if len(header) < 6:
                break
            height, width = int.from_bytes(header[1:3], "big"), int.from_bytes(header[3:5], "big")
            return Codestream(width, height, header[5], header[0])
        elif marker in (0xD9, 0xDA):  # the image's data, or its end, before any frame header
            break
        else:
            place += 2 + max(2, int.from_bytes(frame[place + 2 : place + 4], "big"))
    raise ValueError("no JPEG frame header")


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
    return Codestream(right - left, bottom - top, samples, (segment[42] & 0x7F) + 1, tiles)


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
