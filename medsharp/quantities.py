"""Numbers in sentences."""

from __future__ import annotations


def whole(count: int | None) -> str:
    """Write a count with narrow no-break spaces between thousands."""
    return "unknown" if count is None else f"{count:,}".replace(",", "\u202f")


def counted(count: int, thing: str, things: str = "") -> str:
    """Write how many there are of something: `1 image`, `2 images`, `1 BI-RADS category`.

    Args:
        count: How many.
        thing: What, in the singular.
        things: In the plural, where that is not the singular with an s.
    """
    return f"{whole(count)} {thing if count == 1 else things or thing + 's'}"
