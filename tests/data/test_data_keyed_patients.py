"""One patient in two exports that were numbered with one key is one, whatever the exports are called."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from medsharp.cli import app
from medsharp.config import DataConfig
from medsharp.data import assert_no_leak, read_manifest
from medsharp.data.manifest import Manifest
from medsharp.data.prepare import open_tied, prepare_manifest
from medsharp.errors import InputError

Save = Callable[..., Any]
BUNDLE = Path(__file__).parents[2] / "models" / "busi-resnet18"
CLASSES = ("benign", "malignant")
SHARED = ("MRN-22", "MRN-23")
"""Patients of both exports, of one class each."""


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "200"})


@pytest.fixture
def exports(tmp_path: Path, save_dicom: Save) -> list[Path]:
    """Two exports of one archive, `A` of patients 0 to 23 and `B` of 22 to 37, without a site."""
    for export, numbers in (("A", range(24)), ("B", range(22, 38))):
        for number in numbers:
            save_dicom(tmp_path / export / CLASSES[number % 2] / f"{number}", f"MRN-{number}")
        made = run("data", "prepare", tmp_path / export, "--out", tmp_path / f"prepared-{export}", "--name", export)
        assert made.exit_code == 0, made.output
    return [tmp_path / "prepared-A", tmp_path / "prepared-B"]


def shared(manifest: Manifest) -> list[str]:
    """The numbers that stand at several sites."""
    sites = manifest.table.groupby("patient")["site"].nunique()
    return list(sites.index[sites > 1])


def test_patients_of_two_exports_are_tied_and_counted(exports: list[Path]) -> None:
    tied = open_tied(DataConfig(path=tuple(map(str, exports)), cache="memory"))
    assert len(shared(tied)) == len(SHARED)
    groups = tied.table.groupby("patient")["group"].nunique()
    assert (groups == 1).all()
    assert tied.table["group"].nunique() == 38
    told = [note for note in tied.notes if "2 patients have a keyed number that stands at several sites" in note]
    assert len(told) == 1
    assert "with a key each" in told[0]


@pytest.mark.parametrize("seed", range(3))
def test_no_split_divides_a_patient_of_two_exports(exports: list[Path], seed: int) -> None:
    split = prepare_manifest(DataConfig(path=tuple(map(str, exports)), cache="memory", split_seed=seed))
    assert (split.included.groupby("patient")["split"].nunique() == 1).all()
    assert len(shared(split)) == len(SHARED)


def test_who_is_at_the_site_left_out_is_left_out_of_training_and_counted(exports: list[Path]) -> None:
    split = prepare_manifest(DataConfig(path=tuple(map(str, exports)), cache="memory", leave_site="B"))
    tested = set(split.of_split("test")["patient"])
    learned = set(split.of_split("train")["patient"]) | set(split.of_split("val")["patient"])
    assert (len(tested), len(learned), tested & learned) == (16, 22, set())
    assert any("2 images left out of training or validation: B shares their group" in note for note in split.notes)


def test_an_evaluation_of_both_exports_is_refused_with_the_rows_of_the_patient(
    exports: list[Path], tmp_path: Path
) -> None:
    one, other = map(read_manifest, exports)
    with pytest.raises(InputError, match=r"the same patient is in two data sets: A, row .*, and 1 more patient so"):
        assert_no_leak(one, other)
    result = run(
        *("evaluate", BUNDLE, "--data", exports[0], "--data", exports[1], "--out", tmp_path / "e"),
        *("--resamples", "100"),
    )
    assert result.exit_code == 2
    sentence = " ".join(result.stderr.split())
    least = min(shared(open_tied(DataConfig(path=tuple(map(str, exports)), cache="memory"))))
    for manifest in (one, other):
        row = manifest.table.index[manifest.table["patient"] == least][0]
        assert f"{manifest.info.name}, row {row + 2} ({manifest.table.at[row, 'image']})" in sentence
    assert "exclude them from one, or prepare hospitals that number" in sentence
    assert not (tmp_path / "e").exists()


def test_plain_numbers_of_two_data_sets_are_two_patients(exports: list[Path]) -> None:
    one, other = map(read_manifest, exports)
    plain = [
        manifest.replace(table=manifest.table.assign(patient=manifest.table["patient"].str[:9]))
        for manifest in (one, other)
    ]
    assert_no_leak(*plain)
