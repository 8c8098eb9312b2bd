"""Which of its files a browser has to send again for an answer to be asked anew."""

from __future__ import annotations

import zlib
from dataclasses import dataclass


@dataclass(frozen=True)
class Sent:
    """Where the browser finds the file that an answer is of.

    The server keeps no image. A file is known by its length and its CRC-32, which any page can compute, where SHA-256
    needs an encrypted connection; hospitals call all their files alike.

    Attributes:
        length: Bytes of the file as it was sent.
        crc: Its CRC-32.
        image: CRC-32 of the image; another where the file is an archive.
        example: Number of a simulated example, from 1, which the page gets from the server; 0 for a file.
    """

    length: int
    crc: int
    image: int
    example: int = 0

    def attributes(self) -> str:
        """Write them for the page's scripts; numbers only."""
        example = f' data-example="{self.example}"' if self.example else ""
        return f'data-sent-bytes="{self.length}" data-sent-crc="{self.crc}" data-image="{self.image}"{example}'


def crc32(content: bytes) -> int:
    """Return the CRC-32 of bytes."""
    return zlib.crc32(content)
