"""Parquet to cells: numbers as people write them. A table is a file, or a folder of files."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from medsharp.errors import InputError
from medsharp.tables.workbook import cell

if TYPE_CHECKING:
    import pyarrow
    import pyarrow.dataset

INDEX = "__index_level_"
"""How pandas calls the index of a frame that it writes; it is no column of the table."""


def is_parquet_folder(path: Path) -> bool:
    """Whether a folder holds a table in parts, as Ray, Spark and Dask write it, and `medsharp predict`."""
    return path.is_dir() and (path.suffix.lower() == ".parquet" or next(path.glob("*.parquet"), None) is not None)


def parquet_cells(path: Path, data: bytes | None = None) -> pd.DataFrame:
    """Return the header and the cells of each row, index 1, 2, ..., as of a spreadsheet.

    Args:
        path: A folder of files, read in the order of their names; or what to name in errors, with `data`.
        data: Of a file.

    Raises:
        InputError: It cannot be read, a column holds lists or records, or pyarrow is not installed.
    """
    table = _read(path, data)
    columns = {}
    assert_flat(path, [field for field in table.schema if not field.name.startswith(INDEX)])
    for place, (name, column) in enumerate(zip(table.column_names, table.columns, strict=True)):
        if not name.startswith(INDEX):
            columns[place] = [name, *texts_of(column)]
    return pd.DataFrame(columns, index=pd.RangeIndex(1, table.num_rows + 2), dtype=str)


def parquet_dataset(path: Path) -> pyarrow.dataset.Dataset:
    """Open a file, or a folder of files of one table; nothing but their schemas is read.

    A column that some of the files have is one of the table, and empty in the others.

    Raises:
        InputError: As `parquet_cells`, or files have a column of one name that is text in one and numbers in another.
    """
    with reading_parquet(path):
        import pyarrow
        from pyarrow import dataset

        # A column that the folders' names tell, such as site=A, is one too.
        found = dataset.dataset(path, format="parquet", partitioning="hive")
        # By itself, Arrow takes the first file's columns, and leaves out in silence what only others have.
        schemas = [found.schema, *(fragment.physical_schema for fragment in found.get_fragments())]
        return found.replace_schema(pyarrow.unify_schemas(schemas, promote_options="permissive"))


@contextmanager
def reading_parquet(path: Path, what: str = "a folder of Parquet files of one table") -> Iterator[None]:
    """Turn what pyarrow raises into a sentence.

    Args:
        path: To name.
        what: That it should have been.

    Raises:
        InputError: pyarrow is not installed, or cannot read it.
    """
    try:
        import pyarrow
        from pyarrow import dataset, parquet  # noqa: F401
    except ImportError as error:
        raise InputError(
            f"{path} is Parquet, which needs pyarrow: pip install 'medsharp[parquet]', or save the table as CSV"
        ) from error
    try:
        yield
    except (pyarrow.ArrowException, OSError) as error:
        raise InputError(f"{path} is not {what} that can be read: {' '.join(str(error).split())[:200]}") from error


def assert_flat(path: Path, fields: Iterable[pyarrow.Field]) -> None:
    """Refuse columns that hold lists or records.

    Raises:
        InputError: One does.
    """
    for field in fields:
        if _is_nested(field.type):
            raise InputError(f"{path}: column '{field.name}' holds lists or records; a cell holds one value")


def _read(path: Path, data: bytes | None) -> pyarrow.Table:
    if data is None:
        dataset = parquet_dataset(path)
        with reading_parquet(path):
            return dataset.to_table()
    with reading_parquet(path, "a Parquet file"):
        from pyarrow import parquet

        return parquet.read_table(io.BytesIO(data))


def _is_nested(kind: pyarrow.DataType) -> bool:
    from pyarrow import types

    return types.is_nested(kind) or (types.is_dictionary(kind) and types.is_nested(kind.value_type))


def texts_of(column: pyarrow.ChunkedArray | pyarrow.Array) -> list[str]:
    """Return values as a person would have written them into a CSV."""
    from pyarrow import types

    if types.is_string(column.type) or types.is_large_string(column.type):
        return [value or "" for value in column.to_pylist()]
    return [_text(value) for value in column.to_pylist()]


def _text(value: Any) -> str:
    return value.decode("utf-8", errors="replace") if isinstance(value, bytes) else cell(value)
