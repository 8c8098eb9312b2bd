"""How a DICOM file begins, with its preamble or without."""

from __future__ import annotations

from typing import Literal

PREFIX = b"DICM"
_VALUE_REPRESENTATIONS = frozenset({b"UL", b"UI", b"OB", b"SH", b"LO", b"CS", b"DA", b"TM", b"PN", b"US"})
_GROUPS = (2, 8)
"""Of the first element: file meta information, or what begins every data set of an image."""

_LONGEST_FIRST = 256


def is_dicom(data: bytes) -> bool:
    """Whether bytes begin as a DICOM file does: by its prefix, or as its data set does where the preamble is missing.

    Args:
        data: The file, or its first 132 bytes or more.
    """
    return data[128:132] == PREFIX or _lacks_preamble(data)


def _lacks_preamble(data: bytes) -> bool:
    """Whether a data set begins at once, or after the prefix alone."""
    start = data[4:12] if data[:4] == PREFIX else data[:8]
    if len(start) < 8:
        return False
    orders: tuple[Literal["little", "big"], ...] = ("little", "big")
    for order in orders:
        group, element = (int.from_bytes(start[at : at + 2], order) for at in (0, 2))
        if group not in _GROUPS or element > 0xFF:
            continue
        if start[4:6] in _VALUE_REPRESENTATIONS:
            return True
        # Implicit value representation has four bytes of length instead.
        if order == "little" and 0 < int.from_bytes(start[4:8], order) <= _LONGEST_FIRST and group == 8:
            return True
    return False
