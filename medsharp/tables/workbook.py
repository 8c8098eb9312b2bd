"""Excel workbooks to cells: numbers as people write them, merged cells filled."""

from __future__ import annotations

import io
import re
import warnings
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, time
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile

import pandas as pd

from medsharp.errors import InputError

_MOST_BYTES = 2**30
_DAMAGE = (
    BadZipFile,
    zlib.error,
    KeyError,
    IndexError,
    ValueError,
    TypeError,
    AttributeError,
    ArithmeticError,
    EOFError,
    OSError,
    RuntimeError,
    SyntaxError,
    AssertionError,
)
"""What openpyxl raises on a file that is cut off, damaged, or no workbook."""


@dataclass(frozen=True)
class Sheet:
    """A sheet of a workbook.

    Attributes:
        title: Its name.
        cells: All text, blank rows too, index 1, 2, ...; merged cells hold their value each.
        is_hidden: Whether a spreadsheet does not show it.
    """

    title: str
    cells: pd.DataFrame
    is_hidden: bool


def sheets(path: Path, data: bytes) -> Iterator[Sheet]:
    """Yield each sheet of a workbook, in their order.

    Args:
        path: To name in errors.
        data: Of an `.xlsx` file.

    Raises:
        InputError: It cannot be read, or a formula of a sheet that is shown has no value.
    """
    import openpyxl

    try:
        with ZipFile(io.BytesIO(data)) as archive:
            size = sum(part.file_size for part in archive.infolist())
        if size > _MOST_BYTES:
            raise InputError(f"{path} unpacks to {size / 2**30:.1f} GiB; save the sheet as 'CSV UTF-8'")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of styles that openpyxl does not know
            # Not read_only, which does not tell merged cells.
            book = openpyxl.load_workbook(io.BytesIO(data), data_only=True)
            formulas = _formulas(data)
            for sheet in book.worksheets:
                rows = [[cell(value) for value in row] for row in sheet.iter_rows(values_only=True)]
                is_hidden = sheet.sheet_state != "visible"
                for place in () if is_hidden else formulas.get(sheet.title, ()):
                    if sheet[place].value is None:
                        raise InputError(
                            f"{path}, sheet '{sheet.title}': cell {place} is a formula without its value; open and "
                            "save the workbook in a spreadsheet, or paste the values"
                        )
                for merged in sheet.merged_cells.ranges:
                    first = rows[merged.min_row - 1][merged.min_col - 1]
                    for row in rows[merged.min_row - 1 : merged.max_row]:
                        if any(row):  # merged on below the last row, it makes none
                            row[merged.min_col - 1] = first
                cells = pd.DataFrame(rows, index=pd.RangeIndex(1, len(rows) + 1), dtype=str)
                yield Sheet(sheet.title, cells, is_hidden)
    except _DAMAGE as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} is not an Excel workbook that can be read") from error


def _formulas(data: bytes) -> dict[str, list[str]]:
    """Return the places of formulas by sheet; their values are what the spreadsheet saved last, if it did."""
    import openpyxl

    with ZipFile(io.BytesIO(data)) as archive:
        parts = [name for name in archive.namelist() if name.startswith("xl/worksheets/") and name.endswith(".xml")]
        if not any(re.search(rb"<f[ >/]", archive.read(name)) for name in parts):
            return {}
    book = openpyxl.load_workbook(io.BytesIO(data))
    return {
        sheet.title: [cell.coordinate for row in sheet.iter_rows() for cell in row if cell.data_type == "f"]
        for sheet in book.worksheets
    }


def cell(value: Any) -> str:
    """Return a typed value as a person would have written it into a CSV."""
    if value is None or value != value:  # a number that is none, as Parquet may hold
        return ""
    if isinstance(value, bool):
        return str(value).upper()  # as a spreadsheet writes it into a CSV
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, datetime):
        return (value.date() if value.time() == time() else value).isoformat()
    return value.isoformat() if isinstance(value, (date, time)) else str(value)
