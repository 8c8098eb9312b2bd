"""Reading the tables that data sets bring along: CSV with any of the usual separators, and Excel workbooks."""

from __future__ import annotations

import csv
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from zipfile import BadZipFile

from medsharp.errors import InputError, nearest

Rows = list[dict[str, str]]


def read_table(path: Path, needed: Sequence[str] = ()) -> Rows:
    """Return the rows of a CSV or XLSX file, all values text, empty where nothing stands.

    Args:
        path: With its header in the first row; of a workbook, the first sheet that has the needed columns is read.
        needed: Columns that must be there.

    Raises:
        InputError: The file cannot be read, or a column is missing.
    """
    sheets = list(_sheets(path))
    found = next((rows for rows in sheets if rows and all(name in rows[0] for name in needed)), None)
    if found is not None:
        return found
    header = next((list(rows[0]) for rows in sheets if rows), None)
    if header is None:
        raise InputError(f"{path} has no rows")
    missing = [name for name in needed if name not in header]
    raise InputError(f"{path} has no column '{missing[0]}'{nearest(missing[0], header)}")


def has_columns(path: Path, needed: Sequence[str]) -> bool:
    """Whether a file is a table with these columns; nothing is raised where it is none."""
    try:
        read_table(path, needed)
    except InputError:
        return False
    return True


def table_with(folder: Path, needed: Sequence[str], pattern: str = "*.xlsx") -> Path | None:
    """Return the first file of a folder that is a table with these columns."""
    if not folder.is_dir():
        return None
    files = sorted(file for file in folder.glob(pattern) if file.is_file() and not file.name.startswith(("~$", ".")))
    return next((file for file in files if has_columns(file, needed)), None)


def number(text: str) -> str:
    """Return a number as people write it, `5.0` as `5`; other text as it is."""
    return text.removesuffix(".0") if text.endswith(".0") and text[:-2].isdigit() else text


def _sheets(path: Path) -> Iterator[Rows]:
    if path.suffix.lower() == ".xlsx":
        yield from _workbook(path)
    else:
        yield _csv(path)


def _csv(path: Path) -> Rows:
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            text = stream.read()
        first = text.split("\n", 1)[0]
        separator = max(",;\t", key=first.count)
        reader = csv.reader(text.splitlines(), delimiter=separator, strict=True)
        return _rows(list(reader))
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not text in UTF-8") from error
    except csv.Error as error:
        raise InputError(f"{path} is not a CSV table: {error}") from error


def _workbook(path: Path) -> Iterator[Rows]:
    import openpyxl

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of styles that openpyxl does not know
            book = openpyxl.load_workbook(path, read_only=True, data_only=True)
            try:
                for sheet in book.worksheets:
                    values = [["" if cell is None else str(cell) for cell in row] for row in sheet.values]
                    yield _rows(values)
            finally:
                book.close()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    except (BadZipFile, KeyError, ValueError, TypeError, AttributeError, EOFError, SyntaxError) as error:
        # What openpyxl raises on a file that is cut off or is no workbook.
        raise InputError(f"{path} is not an Excel workbook that can be read") from error


def _rows(values: list[list[str]]) -> Rows:
    if not values:
        return []
    header = [name.strip() for name in values[0]]
    rows = []
    for line in values[1:]:
        if any(cell.strip() for cell in line):
            padded = [*line, *[""] * (len(header) - len(line))]
            rows.append({name: cell.strip() for name, cell in zip(header, padded, strict=False) if name})
    return rows
