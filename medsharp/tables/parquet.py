"""Parquet files to cells: numbers as people write them."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from medsharp.errors import InputError
from medsharp.tables.workbook import cell

_INDEX = "__index_level_"
"""How pandas calls the index of a frame that it writes; it is no column of the table."""


def parquet_cells(path: Path, data: bytes) -> pd.DataFrame:
    """Return the header and the cells of each row, index 1, 2, ..., as of a spreadsheet.

    Args:
        path: To name in errors.
        data: Of a Parquet file.

    Raises:
        InputError: It cannot be read, a column holds lists or records, or fastparquet is not installed.
    """
    try:
        # Not pyarrow: pandas takes it for all text once it is there, and it cannot hold names of files not in UTF-8.
        import fastparquet
    except ImportError as error:
        raise InputError(
            f"{path} is Parquet, which needs fastparquet: pip install 'medsharp[parquet]', or save the table as CSV"
        ) from error
    try:
        table = fastparquet.ParquetFile(io.BytesIO(data)).to_pandas(index=False)
    # Bytes of a damaged file are taken for whatever they look like: fastparquet raises TypeError, KeyError, SystemError
    # and more, and what its decompressor and its JSON parser call their errors.
    except Exception as error:
        raise InputError(f"{path} is not a Parquet file that can be read") from error
    columns = {}
    for place, name in enumerate(map(str, table.columns)):
        if name.startswith(_INDEX):
            continue
        values = table.iloc[:, place].tolist()
        if any(isinstance(value, (list, dict, np.ndarray)) for value in values):
            raise InputError(f"{path}: column '{name}' holds lists or records; a cell holds one value")
        columns[place] = [name, *(_text(value) for value in values)]
    return pd.DataFrame(columns, index=pd.RangeIndex(1, len(table) + 2), dtype=str)


def _text(value: Any) -> str:
    return value.decode("utf-8", errors="replace") if isinstance(value, bytes) else cell(value)
