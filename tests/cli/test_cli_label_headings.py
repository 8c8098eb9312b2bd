"""A list whose labels stand under another heading: which was looked for, and which may be meant."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from command_line import refused, run

from medsharp.data import read_manifest

Save = Callable[..., Any]


@pytest.fixture
def folder(tmp_path: Path, save_picture: Save) -> Path:
    for number in range(4):
        save_picture(tmp_path / "d" / "i" / f"{number}.png")
    return tmp_path / "d"


def write(folder: Path, heading: str) -> None:
    labels = ("malignant", "benign") * 2
    lines = [f"image,{heading},age", *(f"i/{number}.png,{label},50" for number, label in enumerate(labels))]
    (folder / "labels.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


@pytest.mark.parametrize("heading", ["Diagnosis", "pathology", "Finding", "result"])
def test_a_list_without_a_column_label_names_what_was_looked_for_and_what_is_there(
    heading: str, folder: Path, tmp_path: Path
) -> None:
    write(folder, heading)
    said = f"labels.csv has no column label (or class); --label-from makes labels from another, such as '{heading}'"
    refused(run("data", "split", folder, "--out", tmp_path / "out"), said)
    prepared = run("data", "prepare", folder, "--out", tmp_path / "prepared")
    assert said in prepared.output
    assert list(read_manifest(tmp_path / "prepared").table["label"]) == [""] * 4
    rule = ("--label-from", heading, "--malignant", "malignant", "--benign", "benign")
    assert run("data", "prepare", folder, *rule, "--out", tmp_path / "ruled").exit_code == 0
    assert list(read_manifest(tmp_path / "ruled").table["label"]) == ["malignant", "benign"] * 2


def test_folders_that_become_classes_beside_such_a_list_are_said(
    folder: Path, tmp_path: Path, save_picture: Save
) -> None:
    write(folder, "Diagnosis")
    save_picture(folder / "j" / "9.png")
    said = "folders are taken for classes, as labels.csv has no column label (or class); --label-from makes"
    refused(
        run("data", "split", folder, "--out", tmp_path / "out"),
        "has no images of class 'benign'; it has i, j",
        said[1:],
        "'Diagnosis', 'age'",
    )
    assert said in run("data", "prepare", folder, "--out", tmp_path / "out").output


def test_class_folders_beside_a_list_of_ages_are_no_doubt(tmp_path: Path, save_picture: Save) -> None:
    for label in ("benign", "malignant"):
        save_picture(tmp_path / "d" / label / "1.png")
    (tmp_path / "d" / "labels.csv").write_text("image,age\nbenign/1.png,50\nmalignant/1.png,61\n")
    result = run("data", "prepare", tmp_path / "d", "--out", tmp_path / "out")
    assert result.exit_code == 0
    assert "no column label" not in result.output
    assert list(read_manifest(tmp_path / "out").table["label"]) == ["benign", "malignant"]
