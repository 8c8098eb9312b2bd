"""What the command line and a configuration say of a split is what the split is made by."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from typer.testing import CliRunner

from medsharp.cli import app
from medsharp.config import DataConfig
from medsharp.data import read_manifest
from medsharp.data.duplicates import tie_duplicates
from medsharp.data.prepare import prepare_manifest
from medsharp.data.split import split_manifest
from medsharp.errors import InputError

CLASSES = ("benign", "malignant")


@pytest.fixture(scope="module")
def hospitals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A manifest of 72 patients of two sites, a third of them malignant, with its authors' three folds."""
    root = tmp_path_factory.mktemp("hospitals")
    rng = np.random.default_rng(0)
    lines = ["image,label,patient,site,fold3"]
    for number in range(72):
        values = np.kron(rng.integers(0, 255, (12, 12)), np.ones((8, 8))).astype(np.uint8)
        Image.fromarray(values).save(root / f"{number}.png")
        site = "North" if number % 4 else "South"
        lines.append(f"{number}.png,{CLASSES[number % 3 == 0]},P{number},{site},{number // 3 % 3 + 1}")
    (root / "manifest.csv").write_text("\n".join(lines) + "\n")
    return root


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def splits(table: pd.DataFrame) -> list[str]:
    return list(table.sort_values("image")["split"])


ASKED = [
    (["--fractions", "0.5,0.2,0.3"], {"fractions": (0.5, 0.2, 0.3)}, {"fractions": (0.5, 0.2, 0.3)}),
    (["--seed", "7"], {"split_seed": 7}, {"seed": 7}),
    (["--folds", "4"], {"folds": 4}, {"folds": 4}),
    (["--folds", "4", "--fold", "2"], {"folds": 4, "fold": 2}, {"folds": 4, "fold": 2}),
    (["--official-folds", "3"], {"official_folds": 3}, {"official_folds": 3}),
    (["--official-folds", "3", "--fold", "2"], {"official_folds": 3, "fold": 2}, {"official_folds": 3, "fold": 2}),
    (["--leave-site", "South"], {"leave_site": "South"}, {"leave_site": "South"}),
    (
        ["--leave-site", "North", "--seed", "5"],
        {"leave_site": "North", "split_seed": 5},
        {"leave_site": "North", "seed": 5},
    ),
]


@pytest.mark.parametrize(("options", "keys", "wanted"), ASKED, ids=[" ".join(row[0]) for row in ASKED])
def test_every_choice_of_a_split_arrives(
    options: list[str], keys: dict[str, Any], wanted: dict[str, Any], hospitals: Path, tmp_path: Path
) -> None:
    tied = tie_duplicates(read_manifest(hospitals, classes=CLASSES))
    expected = splits(split_manifest(tied, **wanted).table)
    assert expected != splits(split_manifest(tied).table)
    # Without one of several choices, it is another split: none of them is idle here.
    for key in wanted if len(wanted) > 1 else ():
        others = {name: value for name, value in wanted.items() if name != key}
        if set(others) != {"fold"}:
            assert expected != splits(split_manifest(tied, **others).table)
    assert splits(prepare_manifest(DataConfig(path=str(hospitals), **keys)).table) == expected
    told = CliRunner().invoke(app, ["data", "split", str(hospitals), "--out", str(tmp_path / "out"), *options])
    assert told.exit_code == 0, told.output
    assert splits(read_manifest(tmp_path / "out").table) == expected


def test_limits_and_cache_arrive(hospitals: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the most is 90 a side"):
        prepare_manifest(
            DataConfig.model_validate({"path": str(hospitals), "limits": {"max_side": 90}, "cache": "memory"})
        )
    assert not (tmp_path / "cache").exists()
    prepare_manifest(DataConfig(path=str(hospitals), cache="disk"))
    assert list((tmp_path / "cache").rglob("*"))
