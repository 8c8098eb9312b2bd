"""The manifest: a table with a row an image, and `manifest.yaml` beside it that says what the data set is."""

from medsharp.data.manifest.cells import EMPTY_CELLS, UNKNOWN, read_rows, says_all
from medsharp.data.manifest.files import ABOUT, manifest_file, read_manifest, write_manifest
from medsharp.data.manifest.table import (
    AUDITED,
    CARRIED,
    COLUMNS,
    DESCRIBED,
    SPLITS,
    DatasetInfo,
    Manifest,
    check_files,
    check_unchanged,
    complete,
    frame_of,
    make_table,
    name_of,
)

__all__ = [
    "ABOUT",
    "AUDITED",
    "CARRIED",
    "COLUMNS",
    "DESCRIBED",
    "EMPTY_CELLS",
    "SPLITS",
    "UNKNOWN",
    "DatasetInfo",
    "Manifest",
    "check_files",
    "check_unchanged",
    "complete",
    "frame_of",
    "make_table",
    "manifest_file",
    "name_of",
    "read_manifest",
    "read_rows",
    "says_all",
    "write_manifest",
]
