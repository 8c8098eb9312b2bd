"""A table in pieces of so many rows, for those that do not fit into memory: Parquet and CSV, read as whole ones are."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from medsharp.errors import InputError
from medsharp.keys import name_key
from medsharp.tables.parquet import INDEX, assert_flat, is_parquet_folder, parquet_dataset, reading_parquet, texts_of
from medsharp.tables.table import OLD_WORKBOOK, PARQUET, WORKBOOK, clean, header_row, table_of_cells, unread
from medsharp.tables.text import HEAD_BYTES, HEAD_ROWS, separator_of

if TYPE_CHECKING:
    import pyarrow

IsNumber = Callable[[str], bool]
"""Whether a column of this name may stay the floating numbers that it is, in place of text."""

Rows = Callable[[], Iterator[pd.DataFrame]]

_MARKS = {b"\xef\xbb\xbf": "utf-8-sig", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}


@dataclass(frozen=True)
class TablePieces:
    """A table that is read from its beginning to its end, as often as it is asked for.

    Attributes:
        path: The file or the folder of Parquet files.
        columns: Names as `medsharp.tables.read_table` gives them.
        read: Gives the pieces in order: cleaned text by column, the empty string where nothing stands, or floats, NaN
            where nothing stands, in columns of such that were asked for as numbers. The index is the row in the file,
            as a spreadsheet numbers it; rows of blanks are not there.
        rows: How many there are, blank ones too; None where that is not known before they are read.
        notes: Sentences on what is not read.
    """

    path: Path
    columns: tuple[str, ...]
    read: Rows
    rows: int | None = None
    notes: tuple[str, ...] = ()


def open_pieces(
    path: str | Path,
    needed: Sequence[str],
    *,
    rows: int,
    wanted: Callable[[str], bool],
    numbers: IsNumber = lambda name: False,
) -> TablePieces:
    """Open a table that is read in pieces of at most `rows` rows.

    Of Parquet no more is in memory than a piece, and what Arrow must hold of a group of rows to decode it.

    Args:
        path: Parquet, a folder of such files, or CSV in UTF-8 (or UTF-16 with its byte order mark).
        needed: Columns that must be there, in whatever case; they get the names given here.
        rows: Of a piece.
        wanted: Whether a column is read at all; of CSV all are.
        numbers: See `TablePieces.read`.

    Raises:
        InputError: As `medsharp.tables.read_table`, or it is a workbook.
    """
    path = Path(path)
    if is_parquet_folder(path):
        return _parquet(path, needed, rows, wanted, numbers)
    try:
        with path.open("rb") as stream:
            start = stream.read(8)
    except OSError as error:
        raise InputError(unread(path, error)) from error
    if start.startswith((WORKBOOK, OLD_WORKBOOK)):
        raise InputError(f"{path} is a workbook, which cannot be read in pieces; save it as CSV or Parquet")
    if start.startswith(PARQUET):
        return _parquet(path, needed, rows, wanted, numbers)
    return _csv(path, start, needed, rows)


def _parquet(
    path: Path, needed: Sequence[str], rows: int, wanted: Callable[[str], bool], numbers: IsNumber
) -> TablePieces:
    found = parquet_dataset(path)
    given = [name for name in found.schema.names if not name.startswith(INDEX)]
    assert_flat(path, [found.schema.field(name) for name in given])
    # The header alone is a table, whose names are checked and spelled as those of a whole one.
    header = pd.DataFrame([given], dtype=str, index=pd.RangeIndex(1, 2))
    named = table_of_cells(path, header, None, needed, [])
    spelled = dict(zip((name for name in given if clean(name)), map(str, named.frame.columns), strict=True))
    read = {name: title for name, title in spelled.items() if title in needed or wanted(title)}

    def pieces() -> Iterator[pd.DataFrame]:
        from pyarrow import dataset, types

        first = 2
        options = dataset.ParquetFragmentScanOptions(use_buffered_stream=True, pre_buffer=False)
        with reading_parquet(path):
            batches = found.to_batches(
                columns=list(read), batch_size=rows, batch_readahead=0, fragment_readahead=0, use_threads=False,
                fragment_scan_options=options,
            )  # fmt: skip
        while True:
            with reading_parquet(path):
                batch = next(batches, None)
            if batch is None:
                return
            columns: dict[str, np.ndarray] = {}
            filled = np.zeros(batch.num_rows, dtype=bool)
            for name, title in read.items():
                column = batch.column(name)
                if types.is_floating(column.type) and numbers(title):
                    columns[title] = column.to_numpy(zero_copy_only=False).astype(np.float64)
                    filled |= ~np.isnan(columns[title])
                else:
                    columns[title] = _cleaned(column)
                    filled |= columns[title] != ""
            frame = pd.DataFrame(columns, index=pd.RangeIndex(first, first + batch.num_rows), copy=False)
            first += batch.num_rows
            # What is blank in the columns that are read may not be in the others; then its lack is told.
            kept = filled if len(read) == len(given) else np.ones_like(filled)
            if kept.any():
                yield frame if kept.all() else frame[kept]

    with reading_parquet(path):
        count = found.count_rows()
    return TablePieces(path, tuple(map(str, named.frame.columns)), pieces, count)


def _cleaned(column: pyarrow.Array) -> np.ndarray:
    """Return a column as cleaned text, object [n]; a text that repeats is cleaned once."""
    from pyarrow import types

    if not types.is_dictionary(column.type):
        column = column.dictionary_encode()
    texts = np.array([*(clean(text) for text in texts_of(column.dictionary)), ""], dtype=object)
    places = column.indices.fill_null(len(texts) - 1).to_numpy(zero_copy_only=False)
    return np.asarray(texts[places])


def _csv(path: Path, start: bytes, needed: Sequence[str], rows: int) -> TablePieces:
    encoding = next((name for mark, name in _MARKS.items() if start.startswith(mark)), "utf-8")
    first = next(_csv_tables(path, encoding, needed, rows), None)
    if first is None:
        raise InputError(f"{path} is empty; it needs a header, and a row each")

    def pieces() -> Iterator[pd.DataFrame]:
        for table in _csv_tables(path, encoding, needed, rows):
            if len(table.frame):
                yield table.frame.astype(object)

    return TablePieces(path, tuple(map(str, first.frame.columns)), pieces, notes=first.notes)


def _csv_tables(path: Path, encoding: str, needed: Sequence[str], rows: int) -> Iterator[Any]:
    """Give the tables of the pieces, each with the header on top."""
    number = 0
    header: tuple[int, list[str]] | None = None
    try:
        with path.open(encoding=encoding, newline="") as stream:
            separator = separator_of(stream.read(HEAD_BYTES), needed)
            stream.seek(0)
            lines = csv.reader(stream, delimiter=separator, strict=True)
            while True:
                numbered: list[tuple[int, list[str]]] = []
                # The header is looked for in the first piece.
                for line in itertools.islice(lines, rows if header is not None else max(rows, HEAD_ROWS)):
                    number += 1
                    numbered.append((number, line))
                if not numbered or (header is None and not any(line for _, line in numbered)):
                    return
                if header is not None:
                    numbered.insert(0, header)
                cells, lengths = _cells(numbered)
                if header is None:
                    place = header_row(cells, {name_key(name) for name in needed})
                    header = numbered[place] if place is not None else None
                yield table_of_cells(path, cells, lengths, needed, [])
    except csv.Error as error:
        raise InputError(
            f"{path}, row {number + 1} is not a row of a CSV table ({error}); check its quotation marks"
        ) from error
    except UnicodeError as error:
        raise InputError(
            f"{path} is not text in UTF-8 after row {number}, and no other encoding is read in pieces; save it as "
            "'CSV UTF-8'"
        ) from error
    except OSError as error:
        raise InputError(unread(path, error)) from error


def _cells(numbered: Sequence[tuple[int, list[str]]]) -> tuple[pd.DataFrame, np.ndarray]:
    """Return the cells of rows, index their numbers, and how many each has."""
    lengths = np.array([len(line) for _, line in numbered])
    width = int(lengths.max())
    columns = itertools.zip_longest(*(line for _, line in numbered), fillvalue="")
    frame = pd.DataFrame(dict(zip(range(width), columns, strict=True)), dtype=str)
    frame.index = pd.Index([number for number, _ in numbered])
    return frame, lengths
