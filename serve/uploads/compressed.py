"""Bodies that a client has compressed: unpacked in pieces, and no further than an uncompressed one may be long."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence

from starlette.exceptions import HTTPException

from serve.security.gate import megabytes

ENCODINGS = {"gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}
"""What a body's `Content-Encoding` may be, each with what zlib calls it (RFC 9110, 8.4.1)."""

_PIECE = 2**20
"""Bytes that are unpacked in one go."""


def unpack(parts: Sequence[bytes], encoding: str, most: int, reserve: Callable[[int], None]) -> list[bytes]:
    """Unpack a compressed body; takes as long as that takes: call it in a thread.

    Args:
        parts: Of the body, whole.
        encoding: One of `ENCODINGS`.
        most: Bytes that it may unpack to.
        reserve: Counts its bytes.

    Returns:
        What it unpacks to, in pieces.

    Raises:
        HTTPException: 413, it unpacks to more; 400, it is damaged or ends too early.
        BusyError: From `reserve`.
    """
    pieces: list[bytes] = []
    size = 0
    try:
        for piece in _unpacked(parts, encoding):
            size += len(piece)
            if size > most:
                raise HTTPException(413, f"the request unpacks to more than {megabytes(most)}; send fewer at once")
            reserve(len(piece))
            pieces.append(piece)
    except zlib.error as error:
        raise HTTPException(400, f"the body cannot be unpacked as {encoding}; send it again") from error
    return pieces


def _unpacked(parts: Sequence[bytes], encoding: str) -> Iterator[bytes]:
    stream = zlib.decompressobj(ENCODINGS[encoding])
    for part in parts:
        rest = part
        while rest:
            if stream.eof:
                if encoding != "gzip":
                    raise zlib.error("bytes behind the end")
                stream = zlib.decompressobj(ENCODINGS[encoding])  # gzip's members may follow one another
            yield stream.decompress(rest, _PIECE)
            rest = stream.unconsumed_tail or stream.unused_data
    # What is left inside comes in as many pieces as it takes, so that no small body unpacks to a large one at once.
    while not stream.eof:
        piece = stream.decompress(b"", _PIECE)
        if not piece:
            raise zlib.error("it ends too early")
        yield piece
