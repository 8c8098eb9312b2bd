"""Sorting more rows than fit into memory: sorted runs in one file on disk, read back by ranges of the key.

The file has no name: nobody else can open it, and it goes with its process, however that ends.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np

from medsharp.errors import InputError

ROWS = 2**20
"""Rows that are sorted in memory at once: a run."""

_SAMPLES = 1024
"""Of a run, evenly spaced, whose keys stay in memory."""


@dataclass(frozen=True)
class KeyRange:
    """Rows whose keys lie in a range; no key is in two ranges.

    Attributes:
        start: How many rows have lower keys.
        rows: How many there are.
        single: They all have the same key, and may be more than are held at once.
    """

    start: int
    rows: int
    single: bool
    _runs: SortedRuns
    _first: np.ndarray
    _end: np.ndarray

    def pieces(self) -> Iterator[np.ndarray]:
        """Give the rows, sorted by key: all at once, or so many as are held at once where they have one key."""
        if not self.single:
            yield self._runs.read(self._first, self._end)
            return
        first = self._first.copy()
        for run, end in enumerate(self._end):
            while first[run] < end:
                last = first.copy()
                last[run] = min(end, first[run] + self._runs.range_rows)
                yield self._runs.read(first, last)
                first[run] = last[run]


class SortedRuns:
    """Rows sorted by their field `key`, as many as the disk holds.

    Memory: at most `rows` rows and what is added at once while runs are made; `rows`, and one row in 1,024 of each
    run's, while they are read back.

    Args:
        folder: On whose disk the file is.
        fields: Name and kind of each field, `key` among them.
        rows: Of a run.
    """

    def __init__(self, folder: Path, fields: list[tuple[str, str]], rows: int = ROWS) -> None:
        self.kind = np.dtype(fields)
        self.held = rows
        self._folder = folder
        self._step = max(1, rows // _SAMPLES)
        self._waiting: list[np.ndarray] = []
        self._lengths: list[int] = []
        self._samples: list[np.ndarray] = []
        try:
            self._file = tempfile.TemporaryFile(dir=folder, prefix=".medsharp-")  # noqa: SIM115, closed by `close`
        except OSError as error:
            raise self._unwritable(error) from error

    def __enter__(self) -> SortedRuns:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __len__(self) -> int:
        return sum(self._lengths) + sum(map(len, self._waiting))

    @property
    def range_rows(self) -> int:
        """Rows of a range: a quarter of a run, as what is computed of a row takes more than the row."""
        return max(1, self.held // 4)

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return sum(self._lengths) * self.kind.itemsize

    def close(self) -> None:
        """Give the disk back."""
        self._waiting.clear()
        self._samples.clear()
        try:
            self._file.close()
        except OSError as error:  # of what was still to be written
            raise self._unwritable(error) from error

    def add(self, rows: np.ndarray) -> None:
        """Add rows in any order.

        Raises:
            InputError: The disk is full.
        """
        if len(rows):
            self._waiting.append(rows)
        if sum(map(len, self._waiting)) >= self.held:
            self._write()

    def _write(self) -> None:
        rows = np.concatenate(self._waiting)
        self._waiting.clear()
        rows = rows[np.argsort(rows["key"], kind="stable")]
        try:
            self._file.seek(self.size)
            self._file.write(rows.view(np.uint8).data)
            self._file.flush()
        except OSError as error:
            raise self._unwritable(error) from error
        self._samples.append(rows["key"][:: self._step].copy())
        self._lengths.append(len(rows))

    def _unwritable(self, error: OSError) -> InputError:
        return InputError(f"cannot write a temporary file in {self._folder}: {error.strerror or error}")

    def ranges(self, rows: int | None = None) -> Iterator[KeyRange]:
        """Give all rows in ascending order of their keys, in ranges; nothing can be added then.

        Args:
            rows: Of a range, of which it has no more beside a 1,024th of all, unless it has a single key; a quarter of
                a run by default.
        """
        if self._waiting:
            self._write()
        if not self._lengths:
            return
        before = np.zeros(len(self._lengths), dtype=np.int64)
        for end, single in self._borders(self.range_rows if rows is None else rows):
            count = int((end - before).sum())
            if count:
                yield KeyRange(int(before.sum()), count, single, self, before, end)
            before = end

    def pieces(self) -> Iterator[np.ndarray]:
        """Give all rows in any order, an eighth of a run at once; nothing can be added then."""
        if self._waiting:
            self._write()
        size = max(1, self.held // 8)
        for run, length in enumerate(self._lengths):
            for first in range(0, length, size):
                yield self._read(run, first, min(length, first + size))

    def sample(self) -> np.ndarray:
        """Return some of the rows, all keys alike likely: an eighth of a run; nothing can be added then."""
        if self._waiting:
            self._write()
        wanted = max(1, self.held // 8)
        every = -(-self._lengths[0] // wanted)
        return self._read(0, 0, self._lengths[0])[::every]

    def _borders(self, rows: int) -> Iterator[tuple[np.ndarray, bool]]:
        """Give how many rows of each run are before each border [runs], and whether one key reaches to it."""
        samples = np.sort(np.concatenate(self._samples))
        apart = max(1, rows // 2 // self._step)
        chosen, times = np.unique(samples[apart::apart], return_counts=True)
        for key, times_chosen in zip(chosen, times, strict=True):
            yield self._places(key, "left"), False
            # Chosen twice, it fills half a range or more: it gets a range of its own, which is not held at once.
            if times_chosen > 1:
                yield self._places(key, "right"), True
        yield np.array(self._lengths), False

    def _places(self, key: np.generic, side: str) -> np.ndarray:
        """Return where a key would stand in each run [runs]."""
        places = np.empty(len(self._lengths), dtype=np.int64)
        for run, (samples, length) in enumerate(zip(self._samples, self._lengths, strict=True)):
            sample = int(np.searchsorted(samples, key, side="left" if side == "left" else "right"))
            first = max(0, (sample - 1) * self._step)  # this sample is before the key, the next one is not
            keys = self._read(run, first, min(length, first + self._step + 1))["key"]
            places[run] = first + int(np.searchsorted(keys, key, side="left" if side == "left" else "right"))
        return places

    def _read(self, run: int, first: int, end: int) -> np.ndarray:
        rows = np.empty(end - first, dtype=self.kind)
        try:
            self._file.seek((sum(self._lengths[:run]) + first) * self.kind.itemsize)
            read = self._file.readinto(rows.view(np.uint8).data)
        except OSError as error:
            raise InputError(f"cannot read a temporary file in {self._folder}: {error.strerror or error}") from error
        if read != rows.nbytes:
            raise InputError(f"a temporary file in {self._folder} was cut off while it was read")
        return rows

    def read(self, first: np.ndarray, end: np.ndarray) -> np.ndarray:
        """Return rows `first` to `end` of each run, sorted by key."""
        parts = [self._read(run, a, b) for run, (a, b) in enumerate(zip(first, end, strict=True)) if b > a]
        rows = np.concatenate(parts)
        return rows if len(parts) == 1 else rows[np.argsort(rows["key"], kind="stable")]
