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
    pytest.importorskip("pyarrow")
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
    table.to_parquet(tmp_path / "t.parquet")
    read = read_table(tmp_path / "t.parquet", NEEDED)
    first = {"image": "a.png", "label": "benign", "birads": "4", "p": "0.125", "read": "TRUE", "day": "2024-05-01"}
    second = {"image": "b.png", "label": "malignant", "birads": "", "p": "1e-07", "read": "FALSE", "day": ""}
    assert list(read.records()) == [(2, first), (3, second)]


def test_lists_damage_and_missing_columns_are_one_sentence(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    lists = pd.DataFrame({"image": ["a"], "label": [["x", "y"]]})
    lists.to_parquet(tmp_path / "lists.parquet")
    with pytest.raises(InputError, match="column 'label' holds lists or records; a cell holds one value"):
        read_table(tmp_path / "lists.parquet", NEEDED)
    (tmp_path / "cut.parquet").write_bytes((tmp_path / "lists.parquet").read_bytes()[:-9])
    with pytest.raises(InputError, match=r"cut\.parquet is not a Parquet file that can be read"):
        read_table(tmp_path / "cut.parquet", NEEDED)
    pd.DataFrame({"image": ["a"], "lable": ["b"]}).to_parquet(tmp_path / "typo.parquet")
    with pytest.raises(InputError, match="has no column 'label'; did you mean lable"):
        read_table(tmp_path / "typo.parquet", NEEDED)


def test_folder_of_files_is_one_table_in_their_order(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    folder = tmp_path / "predictions"
    for site, images in (("B", ("3", "4")), ("A", ("1", "2"))):
        (folder / f"site={site}").mkdir(parents=True)
        pd.DataFrame({"image": images, "label": "benign"}).to_parquet(folder / f"site={site}" / "part-0.parquet")
    (folder / "_SUCCESS").touch()
    with pytest.raises(InputError, match=r"cannot read .*predictions: Is a directory"):
        read_table(folder, NEEDED)  # neither its name nor a file in it tells that it is a table
    folder = folder.rename(tmp_path / "predictions.parquet")
    read = read_table(folder, NEEDED)
    assert [(row, one["image"], one["site"]) for row, one in read.records()] == [
        (2, "1", "A"),
        (3, "2", "A"),
        (4, "3", "B"),
        (5, "4", "B"),
    ]
    (folder / "site=A" / "part-1.parquet").write_bytes(b"PAR1 cut")
    with pytest.raises(InputError, match=r"predictions\.parquet is not a folder of Parquet files of one table that"):
        read_table(folder, NEEDED)


def test_without_pyarrow_the_remedy_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "t.parquet").write_bytes(b"PAR1")
    load = builtins.__import__

    def absent(name: str, *arguments: Any, **named: Any) -> Any:
        if name.startswith("pyarrow"):
            raise ImportError(name)
        return load(name, *arguments, **named)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(InputError, match=r"needs pyarrow: pip install 'medsharp\[parquet\]', or save the table as CSV"):
        read_table(tmp_path / "t.parquet", NEEDED)
