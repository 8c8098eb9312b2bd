"""The one reader of tables that people bring: CSV in whatever dialect a spreadsheet writes, and Excel workbooks."""

from medsharp.tables.table import SUFFIXES, Table, clean, has_columns, number, read_table, reason, table_with

__all__ = ["SUFFIXES", "Table", "clean", "has_columns", "number", "read_table", "reason", "table_with"]
