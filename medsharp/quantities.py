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


def number(value: float, digits: int = 3, scale: float = 1.0) -> str:
    """Write a number with a true minus sign, and without one before zero."""
    text = f"{value * scale:.{digits}f}"
    if float(text) == 0:
        text = text.lstrip("-")
    return text.replace("-", "\N{MINUS SIGN}")


def signed(value: float, digits: int = 3, scale: float = 1.0) -> str:
    """Write a difference with its sign; zero has none."""
    text = number(value, digits, scale)
    return f"+{text}" if value > 0 and float(text) > 0 else text


def p_value(p: float | None) -> str:
    """Write a p value in a cell: `0.123`, `< 0.001`, or a dash where there is none."""
    return "-" if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}"


def p_equals(p: float) -> str:
    """Write a p value after its name: `p = 0.123`, or `p < 0.001`."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"
