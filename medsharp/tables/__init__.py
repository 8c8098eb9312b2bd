"""The one reader of tables that people bring: CSV of whatever dialect, Excel workbooks, Parquet."""

from medsharp.files import TABLE_SUFFIXES as SUFFIXES
from medsharp.tables.pieces import TablePieces, open_pieces
from medsharp.tables.table import (
    Table,
    clean,
    has_columns,
    is_workbook,
    number,
    parse_table,
    read_table,
    reason,
    table_with,
)

__all__ = [
    "SUFFIXES",
    "Table",
    "TablePieces",
    "clean",
    "has_columns",
    "is_workbook",
    "number",
    "open_pieces",
    "parse_table",
    "read_table",
    "reason",
    "table_with",
]
