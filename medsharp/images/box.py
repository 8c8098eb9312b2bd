"""A box of pixels: the one order of its sides."""

from __future__ import annotations

from typing import NamedTuple


class Box(NamedTuple):
    """A part of an image, in pixels; bottom and right are exclusive."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def height(self) -> int:
        """Rows."""
        return self.bottom - self.top

    @property
    def width(self) -> int:
        """Columns."""
        return self.right - self.left
