"""Data sets become manifests: opened, audited, split; `medsharp.data.pipeline` feeds them to training."""

from medsharp.data.duplicates import tie_duplicates
from medsharp.data.leaks import assert_no_leak
from medsharp.data.manifest import COLUMNS, DatasetInfo, Manifest, read_manifest, write_manifest
from medsharp.data.sources import list_sources, open_dataset
from medsharp.data.split import split_manifest

__all__ = [
    "COLUMNS",
    "DatasetInfo",
    "Manifest",
    "assert_no_leak",
    "list_sources",
    "open_dataset",
    "read_manifest",
    "split_manifest",
    "tie_duplicates",
    "write_manifest",
]
