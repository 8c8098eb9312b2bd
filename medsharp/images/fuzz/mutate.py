"""Damage done to a sound file: by accident, as in transfer, or by someone who knows the format."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence

import numpy as np

_NUMBERS = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
_PNG = b"\x89PNG\r\n\x1a\n"


def mutate(files: Sequence[bytes], rng: np.random.Generator) -> bytes:
    """Return one of the files with one to five mutations.

    Args:
        files: Sound files of one format.
        rng: Source of chance.
    """
    data = bytearray(files[int(rng.integers(len(files)))])
    for _ in range(int(rng.integers(1, 6))):
        if data:
            _MUTATIONS[rng.integers(len(_MUTATIONS))](data, files, rng)
    # A PNG with wrong check sums is refused at the door; most shall come further.
    if data.startswith(_PNG) and rng.random() < 0.75:
        _repair_png(data)
    return bytes(data)


def _flip(data: bytearray, files: Sequence[bytes], rng: np.random.Generator) -> None:
    data[_place(data, rng)] ^= 1 << int(rng.integers(8))


def _byte(data: bytearray, files: Sequence[bytes], rng: np.random.Generator) -> None:
    data[_place(data, rng)] = int(rng.integers(256))


def _number(data: bytearray, files: Sequence[bytes], rng: np.random.Generator) -> None:
    width = int(rng.choice([1, 2, 4]))
    place = _place(data, rng)
    value = _NUMBERS[rng.integers(len(_NUMBERS))] & (256**width - 1)
    data[place : place + width] = value.to_bytes(width, "little" if rng.random() < 0.5 else "big")


def _cut(data: bytearray, files: Sequence[bytes], rng: np.random.Generator) -> None:
    start = _place(data, rng)
    del data[start : start + int(rng.integers(1, 65))]


def _end(data: bytearray, files: Sequence[bytes], rng: np.random.Generator) -> None:
    del data[max(1, int(len(data) * rng.random() ** 0.25)) :]


def _repeat(data: bytearray, files: Sequence[bytes], rng: np.random.Generator) -> None:
    start, place = _place(data, rng), _place(data, rng)
    data[place:place] = data[start : start + int(rng.integers(1, 129))]


def _splice(data: bytearray, files: Sequence[bytes], rng: np.random.Generator) -> None:
    other = files[int(rng.integers(len(files)))]
    start, length = int(rng.integers(len(other))), int(rng.integers(1, 129))
    place = _place(data, rng)
    data[place : place + length] = other[start : start + length]


_MUTATIONS: tuple[Callable[[bytearray, Sequence[bytes], np.random.Generator], None], ...] = (
    _flip,
    _flip,
    _byte,
    _byte,
    _number,
    _number,
    _cut,
    _end,
    _repeat,
    _splice,
)


def _place(data: bytearray, rng: np.random.Generator) -> int:
    """Half of the damage goes where headers are."""
    reach = len(data) if rng.random() < 0.5 else min(len(data), 1024)
    return int(rng.integers(reach))


def _repair_png(data: bytearray) -> None:
    place = len(_PNG)
    while place + 12 <= len(data):
        end = place + 8 + int.from_bytes(data[place : place + 4], "big")
        if end + 4 > len(data):
            return
        data[end : end + 4] = zlib.crc32(data[place + 4 : end]).to_bytes(4, "big")
        place = end + 4
