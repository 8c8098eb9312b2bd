"""Look-up tables of DICOM objects: their entries, however they are stored, and values looked up in them.

pydicom keeps the place in a table in the type of its entries: there, a table of more than 256 entries of 8 bits wraps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

_MOST_BITS = 16
_ALL = 2**16
"""Entries of a table whose descriptor says 0."""


@dataclass(frozen=True)
class LookUpTable:
    """A table of a modality or VOI transformation, or of one colour of a palette.

    Attributes:
        entries: uint16 [N].
        first: The value that has the first entry.
        bits: Of an entry.
    """

    entries: np.ndarray
    first: int
    bits: int

    def look_up(self, values: np.ndarray) -> np.ndarray:
        """Return uint16 of the shape of `values`; what lies beyond an end of the table has its entry."""
        # In floating point, which a slope gives anyway, no difference can wrap.
        places = np.clip(np.rint(np.asarray(values, dtype=np.float64)) - self.first, 0, len(self.entries) - 1)
        return np.asarray(self.entries[places.astype(np.intp)])


def read_table(
    descriptor: Sequence[int], data: bytes | int | Sequence[int], *, little_endian: bool, lowest: float
) -> LookUpTable:
    """Read a table (PS3.3, C.7.6.3.1.5, C.11.1.1 and C.11.2.1.1).

    Entries of 8 bits may lie two in a word or one; which, only the length tells.

    Args:
        descriptor: The number of entries, the first value and the bits of an entry.
        data: The entries, as words in bytes or as numbers.
        little_endian: How the bytes of a word are ordered.
        lowest: The least value that is looked up: below 0, the first value is signed whatever its element says.

    Raises:
        ValueError: There are fewer entries than the descriptor says, or they have more bits than there can be.
    """
    count, first, bits = (int(value) for value in descriptor)
    count = count % _ALL or _ALL
    if not 1 <= bits <= _MOST_BITS:
        raise ValueError("a look-up table of more bits than there can be")
    if lowest < 0 and first >= _ALL // 2:
        first -= _ALL
    if isinstance(data, bytes):
        words = np.frombuffer(data[: len(data) // 2 * 2], dtype="<u2" if little_endian else ">u2")
    else:
        words = np.atleast_1d(np.asarray(data, dtype=np.int64)) % _ALL
    words = words.astype("<u2")  # [N], or [N / 2] of two entries each, the first in the lower byte
    if len(words) == (count + 1) // 2 < count:
        words, bits = words.view(np.uint8).astype("<u2"), 8
    if len(words) < count:
        raise ValueError("a look-up table of fewer entries than its descriptor says")
    return LookUpTable(words[:count].astype(np.uint16), first, bits)


def palette_of(dataset: Any, lowest: int) -> list[LookUpTable]:
    """Return the tables of red, green and blue.

    Args:
        dataset: Holds them, in segments or not.
        lowest: The least stored value that there can be.

    Raises:
        Exception: Whatever pydicom raises at damage; a ValueError where the tables are too short.
    """
    little_endian = bool(dataset.file_meta.TransferSyntaxUID.is_little_endian)
    # All three are the same.
    descriptor = dataset.RedPaletteColorLookupTableDescriptor
    if "RedPaletteColorLookupTableData" not in dataset:
        return _expanded(dataset, descriptor, lowest)
    return [
        read_table(
            descriptor,
            dataset[f"{colour}PaletteColorLookupTableData"].value,
            little_endian=little_endian,
            lowest=lowest,
        )
        for colour in ("Red", "Green", "Blue")
    ]


def _expanded(dataset: Any, descriptor: Sequence[int], lowest: int) -> list[LookUpTable]:
    """Expand the segments of a palette (PS3.3, C.7.9.2)."""
    from pydicom.pixels.processing import apply_color_lut

    count, first, bits = (int(value) for value in descriptor)
    count = count % _ALL or _ALL
    if bits == 8 and count > 256:
        raise ValueError("segments of 8 bits for more entries than pydicom can expand")
    entries = apply_color_lut(np.arange(first, first + count, dtype=np.int32), dataset).astype("<u2")  # [N, 3]
    return [
        read_table(descriptor, entries[:, colour].tolist(), little_endian=True, lowest=lowest) for colour in range(3)
    ]
