"""A table of predictions in Parquet: a folder of files, in the order of their names."""

from __future__ import annotations

import csv as text_csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medsharp.errors import InputError
from medsharp.files import atomic_folder, to_disk

if TYPE_CHECKING:
    import pyarrow

PARQUET = ".parquet"
"""How the name of such a folder ends."""

_ROWS = 2**20
"""Of a file: large enough for a store of objects, small enough to be read at once."""

_GROUP = 2**17
"""Rows that are compressed together."""


def check_parts(out: Path) -> None:
    """Check before anything is predicted that the table can be written.

    Raises:
        InputError: pyarrow is not installed, or something else lies there.
    """
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError as error:
        raise InputError(f"{out} is Parquet, which needs pyarrow: pip install 'medsharp[parquet]'") from error
    if out.exists() and (not out.is_dir() or any(not _is_part(path) for path in out.iterdir())):
        raise InputError(f"{out} exists already and is no table of predictions; choose another --out")


def write_parts(out: Path, files: Sequence[Path], numbers: Sequence[str]) -> None:
    """Write the rows of CSV files.

    Args:
        out: The folder; a table that is there already is replaced in one step.
        files: With the same columns, in order.
        numbers: Columns of numbers; all others are text.

    Raises:
        InputError: It cannot be written, or a file is damaged.
    """
    import pyarrow
    from pyarrow import parquet

    with atomic_folder(out, overwrite=True) as folder:
        for number, tables in enumerate(_parts(files, numbers)):
            part = folder / f"part-{number:05d}.parquet"
            with parquet.ParquetWriter(part, tables[0].schema) as writer:
                writer.write_table(pyarrow.concat_tables(tables), row_group_size=_GROUP)
            to_disk(part)  # the files that it was made of are removed next


def read_parts(folder: Path) -> Iterator[dict[str, Any]]:
    """Give the rows of such a table, one by one, with the empty string where nothing stands, as a CSV has them."""
    from pyarrow import parquet

    for path in sorted(folder.glob(f"*{PARQUET}")):
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches():
                for row in batch.to_pylist():
                    yield {name: "" if value is None else value for name, value in row.items()}


def _parts(files: Sequence[Path], numbers: Sequence[str]) -> Iterator[list[pyarrow.Table]]:
    """Give the tables of each part."""
    tables: list[pyarrow.Table] = []
    for path in files:
        tables.append(_typed(path, numbers))
        if sum(table.num_rows for table in tables) >= _ROWS:
            yield tables
            tables = []
    if tables:
        yield tables


def _typed(path: Path, numbers: Sequence[str]) -> pyarrow.Table:
    import pyarrow
    from pyarrow import csv

    with path.open(encoding="utf-8", newline="") as stream:
        names = next(text_csv.reader(stream))
    kinds = {name: pyarrow.float64() if name in numbers else pyarrow.string() for name in names}
    try:
        return csv.read_csv(
            path,
            parse_options=csv.ParseOptions(newlines_in_values=True),
            # An empty cell is no number, and a text without letters.
            convert_options=csv.ConvertOptions(column_types=kinds, null_values=[""], strings_can_be_null=False),
        )
    except pyarrow.ArrowInvalid as error:
        told = " ".join(str(error).split())[:200]
        raise InputError(f"{path} is damaged ({told}); remove it, and the same command makes it anew") from error


def _is_part(path: Path) -> bool:
    return path.name.startswith("part-") and path.suffix == PARQUET
