"""Parquet becomes the cells that the same table as CSV has, or is refused with the remedy."""

from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from medsharp.errors import InputError
from medsharp.tables import read_table

NEEDED = ("image", "label")


def test_typed_columns_become_the_text_that_a_person_would_write(tmp_path: Path) -> None:
    fastparquet = pytest.importorskip("fastparquet")
    table = pd.DataFrame(
        {
            "Image": ["a.png", "b.png"],
            "label": pd.Categorical(["benign", "malignant"]),
            "birads": [4.0, float("nan")],
            "p": [0.125, 1e-07],
            "read": [True, False],
            "day": [pd.Timestamp(2024, 5, 1), pd.NaT],
        }
    )
    fastparquet.write(str(tmp_path / "t.parquet"), table)
    read = read_table(tmp_path / "t.parquet", NEEDED)
    first = {"image": "a.png", "label": "benign", "birads": "4", "p": "0.125", "read": "TRUE", "day": "2024-05-01"}
    second = {"image": "b.png", "label": "malignant", "birads": "", "p": "1e-07", "read": "FALSE", "day": ""}
    assert list(read.records()) == [(2, first), (3, second)]


def test_lists_damage_and_missing_columns_are_one_sentence(tmp_path: Path) -> None:
    fastparquet = pytest.importorskip("fastparquet")
    lists = pd.DataFrame({"image": ["a"], "label": [["x", "y"]]})
    fastparquet.write(str(tmp_path / "lists.parquet"), lists, object_encoding={"image": "utf8", "label": "json"})
    with pytest.raises(InputError, match="column 'label' holds lists or records; a cell holds one value"):
        read_table(tmp_path / "lists.parquet", NEEDED)
    (tmp_path / "cut.parquet").write_bytes((tmp_path / "lists.parquet").read_bytes()[:-9])
    with pytest.raises(InputError, match=r"cut\.parquet is not a Parquet file that can be read"):
        read_table(tmp_path / "cut.parquet", NEEDED)
    fastparquet.write(str(tmp_path / "typo.parquet"), pd.DataFrame({"image": ["a"], "lable": ["b"]}))
    with pytest.raises(InputError, match="has no column 'label'; did you mean lable"):
        read_table(tmp_path / "typo.parquet", NEEDED)


def test_without_fastparquet_the_remedy_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "t.parquet").write_bytes(b"PAR1")
    load = builtins.__import__

    def absent(name: str, *arguments: Any, **named: Any) -> Any:
        if name.startswith("fastparquet"):
            raise ImportError(name)
        return load(name, *arguments, **named)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(
        InputError, match=r"needs fastparquet: pip install 'medsharp\[parquet\]', or save the table as CSV"
    ):
        read_table(tmp_path / "t.parquet", NEEDED)
