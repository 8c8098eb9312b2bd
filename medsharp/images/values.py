"""Which stored value is black and which is white: by type, tag or declaration, never by what one image holds."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from medsharp.errors import InputError
from medsharp.images.limits import ImageError

DECLARE = "declare it for the whole data set: `range: [LOW, HIGH]` in manifest.yaml, or --range LOW,HIGH"
"""How a user says what no file says."""

UNDECLARED = "upper bits unused"
"""The flag of values that leave at least three quarters of their type's range above them: a range is missing."""

BYTE_PALETTE = "palette of 8 bits"
"""The flag of a palette whose colours of 16 bits some writer stored as of 8; they are used as they are."""

TWO_GREYS = "two greys only, as a mask has"
"""What is said of an image that is rather a mask, in a data set that has it for an image."""

WORTH_SAYING = (
    UNDECLARED,
    "signed values without a window",
    "values beyond the declared range",
    "undefined pixels",
    "colour label doubtful",
    "colour label corrected",
)
"""Flags that put an image's greys in doubt, so that they are counted over a data set."""

_ROWS = 256
"""Rows that are computed on in floating point at once, so that a large image takes little memory."""

_UNUSED = 0.25
_UNIT, _BYTE = (0.0, 1.0), (0.0, 255.0)
_LEAST_OF_BYTE = 32.0
"""Between 1 and this, a floating-point image may be one of 0 to 1 that overshoots, or a dark one of 0 to 255."""

_BEYOND = 0.01
"""Share of a tag's range by which values may leave it: rounding, not another range."""


class ValueRange(NamedTuple):
    """The stored values that are shown as black and as white.

    Attributes:
        low: Black, and what is below.
        high: White, and what is above.
    """

    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.low:g} to {self.high:g}"


def read_range(given: Any, where: str) -> ValueRange:
    """Read a declared range.

    Args:
        given: Two numbers in a sequence, or as text such as `0,4095`.
        where: What to name in the error, such as `--range`.

    Raises:
        InputError: It is not two finite numbers, the smaller first.
    """
    parts: Sequence[Any] | np.ndarray
    if isinstance(given, str):
        parts = [part for part in re.split(r"[\s,;]+", given.strip(" \t[]()")) if part]
    else:
        parts = given if isinstance(given, (list, tuple, np.ndarray)) else ()
    try:
        low, high = (float(part) for part in parts if not isinstance(part, bool))
    except (TypeError, ValueError):
        low = high = math.nan
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        shown = given if isinstance(given, str) or not len(parts) else list(parts)
        raise InputError(f"{where}: '{shown}' must be two numbers, the values of black and of white, such as 0,4095")
    return ValueRange(low, high)


def declared_range(given: tuple[float, float] | None) -> ValueRange | None:
    """Return a range as a program declares it, in the argument `value_range`: any pair will do; None is none.

    Raises:
        InputError: It is not two finite numbers, the smaller first.
    """
    return None if given is None else read_range(given, "value_range")


@dataclass(frozen=True)
class Samples:
    """Grey values as they are stored.

    Attributes:
        values: [H, W] of integers or floating-point numbers.
        bits: That the type or a tag gives a sample.
        white_is_zero: Whether the smallest value is white.
        tag: The range that a tag of the file states.
    """

    values: np.ndarray
    bits: int
    white_is_zero: bool = False
    tag: ValueRange | None = None


@dataclass(frozen=True)
class Scaled:
    """Grey pixels and how they came about.

    Attributes:
        pixels: uint8 [H, W].
        range: What was black and white.
        flags: What a user should know.
    """

    pixels: np.ndarray
    range: ValueRange
    flags: tuple[str, ...]


def scale_samples(samples: Samples, declared: ValueRange | None, name: str) -> Scaled:
    """Scale stored values to 8 bits.

    A declared range goes first, then a tag's, then the type's: all of an unsigned integer's. Floating-point numbers of
    0 to 1 or 0 to 255 are taken as such, as both are common and told apart; what could be either, signed integers and
    those of 32 bits are refused.

    Args:
        samples: The values. Those that are no number are shown black.
        declared: The data set's range.
        name: Of the file, for errors.

    Raises:
        ImageError: The range cannot be known, or the values contradict a tag.
    """
    values = samples.values
    finite = np.isfinite(values) if values.dtype.kind == "f" else None
    numbers = values if finite is None else values[finite]
    if not numbers.size:
        raise ImageError(f"{name} has no pixel that is a number")
    least, most = float(numbers.min()), float(numbers.max())
    flags = ["16-bit" if finite is None else "floating-point"]
    if declared is not None:
        limits = declared
        if least < limits.low or most > limits.high:
            flags.append("values beyond the declared range")
    elif samples.tag is not None:
        limits = samples.tag
        slack = _BEYOND * (limits.high - limits.low)
        if least < limits.low - slack or most > limits.high + slack:
            raise ImageError(f"{name} holds values of {least:g} to {most:g}, beyond its tag's {limits}; {DECLARE}")
        flags.append(f"range {limits} by its tag")
    elif finite is not None:
        limits = _of_floats(least, most, name)
        flags.append(f"range {limits} assumed")
    elif values.dtype.kind == "u" and samples.bits <= 16:
        limits = ValueRange(0.0, 2.0**samples.bits - 1)
        if samples.bits == 16 and is_undeclared(most, limits):
            flags.append(UNDECLARED)
    else:
        kind = "signed" if values.dtype.kind == "i" else "unsigned"
        raise ImageError(
            f"{name} holds {kind} integers of {samples.bits} bits, {least:g} to {most:g} in this image, and nothing "
            f"says which are black and white; {DECLARE}"
        )
    grey = to_grey(values, limits)
    if samples.white_is_zero:
        grey = 255 - grey
    if finite is not None and not finite.all():
        grey[np.isnan(values)] = 0
        flags.append("undefined pixels")
    return Scaled(grey, limits, tuple(flags))


def is_doubtful(flag: str) -> bool:
    """Whether a flag puts the greys of its image in doubt."""
    return flag in (*WORTH_SAYING, TWO_GREYS) or flag.endswith(" assumed")


def notes_on_values(flags: Sequence[Sequence[str]]) -> list[str]:
    """Say what the flags of a data set's images tell of its greys: doubts, and more than one scale.

    Args:
        flags: Those of each image.

    Returns:
        Sentences for a person, each with its count.
    """
    notes = []
    for flag in (*WORTH_SAYING, TWO_GREYS):
        count = sum(flag in given for given in flags)
        if count:
            notes.append(f"{count} of {len(flags)} images: {flag}" + (f"; {DECLARE}" if flag == UNDECLARED else ""))
    ranges = Counter(flag for given in flags for flag in given if flag.startswith("range "))
    if len(ranges) > 1:
        counted = ", ".join(f"{flag} for {count}" for flag, count in sorted(ranges.items()))
        notes.append(f"images of one data set are scaled in different ways ({counted}); {DECLARE}")
    else:
        notes += [f"{count} of {len(flags)} images: {flag}" for flag, count in ranges.items() if "assumed" in flag]
    return notes


def is_undeclared(most: float, limits: ValueRange) -> bool:
    """Whether an image whose largest value is `most` leaves so much of its type's range unused that one is missing."""
    return 0 < most - limits.low < _UNUSED * (limits.high - limits.low)


def to_grey(values: np.ndarray, limits: ValueRange) -> np.ndarray:
    """Return uint8 of values [H, W, ...], black at `limits.low` and white at `limits.high`."""
    factor = 255.0 / (limits.high - limits.low)
    grey = np.empty(values.shape, dtype=np.uint8)
    for start in range(0, len(values), _ROWS):
        rows = values[start : start + _ROWS].astype(np.float64) - limits.low
        rows = np.nan_to_num(rows * factor, nan=0.0, posinf=255.0, neginf=0.0)
        grey[start : start + _ROWS] = np.clip(np.rint(rows), 0, 255)
    return grey


def _of_floats(least: float, most: float, name: str) -> ValueRange:
    if least >= 0:
        if most <= _UNIT[1]:
            return ValueRange(*_UNIT)
        if _LEAST_OF_BYTE <= most <= _BYTE[1]:
            return ValueRange(*_BYTE)
    raise ImageError(
        f"{name} holds floating-point numbers of {least:g} to {most:g}, neither 0 to 1 nor 0 to 255, and nothing says "
        f"which are black and white; {DECLARE}"
    )
