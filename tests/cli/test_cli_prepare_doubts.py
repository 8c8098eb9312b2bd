"""Rows of a list that could label the wrong images: of nobody, of two meanings, of the other side, of two patients."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from command_line import refused, run

from medsharp.data import read_manifest

Save = Callable[..., Any]


def prepared(folder: Path, *lines: str) -> dict[str, dict[str, str]]:
    """What `data prepare` makes of a folder and a list: the rows of its manifest by image."""
    (folder / "labels.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    result = run("data", "prepare", folder, "--out", folder.parent / "out")
    assert result.exit_code == 0, result.output
    return read_manifest(folder.parent / "out").table.set_index("image").to_dict("index")


def of(rows: dict[str, dict[str, str]], column: str) -> dict[str, str]:
    return {image: row[column] for image, row in rows.items()}


@pytest.mark.parametrize("key", ["PatientID", "AccessionNumber"])
@pytest.mark.parametrize("unknown", ["n/a", "-", "unknown", "#N/A", "ANONYMOUS"])
def test_a_row_of_nobody_labels_no_anonymous_image(unknown: str, key: str, tmp_path: Path, save_dicom: Save) -> None:
    folder = tmp_path / "export"
    for name, value in (("a", "ANONYMOUS"), ("b", "ANONYMOUS"), ("c", "77"), ("d", "78")):
        save_dicom(folder / f"{name}.dcm", StudyInstanceUID=f"1.2.{ord(name)}", **{key: value})
    rows = prepared(folder, f"{key},label", "77,benign", "78,malignant", f"{unknown},malignant")
    assert of(rows, "label") == {"a.dcm": "", "b.dcm": "", "c.dcm": "benign", "d.dcm": "malignant"}
    assert rows["a.dcm"]["exclude"] == "no row in labels.csv"


def test_an_unknown_patient_beside_the_name_of_an_image_is_no_key(tmp_path: Path, save_dicom: Save) -> None:
    folder = tmp_path / "export"
    save_dicom(folder / "a.dcm", "ANONYMOUS")
    save_dicom(folder / "b.dcm", "7")
    rows = prepared(folder, "image,PatientID,label", "a.dcm,n/a,benign", "b.dcm,unknown,malignant")
    assert of(rows, "label") == {"a.dcm": "benign", "b.dcm": "malignant"}


def test_a_folder_of_unknown_pictures_is_nobodys(tmp_path: Path, save_picture: Save) -> None:
    for name in ("unknown/1.png", "7/1.png", "8/1.png"):
        save_picture(tmp_path / "export" / name)
    rows = prepared(tmp_path / "export", "PatientID,label", "7,benign", "8,malignant", "n/a,malignant")
    assert of(rows, "label") == {"7/1.png": "benign", "8/1.png": "malignant", "unknown/1.png": ""}


@pytest.mark.parametrize("tag", ["PatientID", "AccessionNumber"])
@pytest.mark.parametrize("name", ["{}.dcm", "00{}.dcm", "{}/IM.dcm"])
def test_a_number_that_is_a_file_and_anothers_patient_is_refused(
    name: str, tag: str, tmp_path: Path, save_dicom: Save
) -> None:
    folder = tmp_path / "export"
    for number, other in ((1, 3), (2, 1), (3, 2)):
        save_dicom(folder / "deep" / name.format(number), **{tag: str(other)})
    (folder / "labels.csv").write_text("filename,label\n1,malignant\n2,benign\n3,benign\n", encoding="utf-8")
    result = run("data", "prepare", folder, "--out", tmp_path / "out")
    places = (f"deep/{name.format(2)} (by {tag})", f"deep/{name.format(1)} (by name)")
    refused(result, "row 2: '1' names several files: ", *places, "or a column SOPInstanceUID")
    assert not (tmp_path / "out").exists()


def test_a_number_that_is_one_patients_and_anothers_examination_is_refused(tmp_path: Path, save_dicom: Save) -> None:
    folder = tmp_path / "export"
    save_dicom(folder / "a.dcm", "P1", AccessionNumber="55")
    save_dicom(folder / "b.dcm", "55", AccessionNumber="66")
    (folder / "labels.csv").write_text("image,label\n55,malignant\n66,benign\n", encoding="utf-8")
    result = run("data", "prepare", folder, "--out", tmp_path / "out")
    refused(result, "row 2: '55' names several files: a.dcm (by AccessionNumber), b.dcm (by PatientID)")


def test_a_patient_whose_files_are_called_so_is_no_doubt(tmp_path: Path, save_dicom: Save) -> None:
    folder = tmp_path / "export"
    for number in (1, 2):
        save_dicom(folder / "deep" / f"{number}.dcm", str(number), AccessionNumber=str(number))
    assert of(prepared(folder, "image,label", "1,benign", "2,malignant"), "label") == {
        "deep/1.dcm": "benign",
        "deep/2.dcm": "malignant",
    }


@pytest.fixture
def sides(tmp_path: Path, save_dicom: Save) -> Path:
    """One examination of both breasts, one whose header says no side, and one of another patient."""
    folder = tmp_path / "export"
    for name, side in (("l1", "L"), ("r1", "R"), ("r2", "R"), ("x", "")):
        save_dicom(folder / f"{name}.dcm", "P1", AccessionNumber="1001", StudyInstanceUID="1.2", ImageLaterality=side)
    save_dicom(folder / "z.dcm", "P2", AccessionNumber="1002", Laterality="R")
    return folder


@pytest.mark.parametrize(("left", "right"), [("L", "R"), ("left", "Right breast"), ("links", "rechts")])
def test_a_row_of_the_left_side_is_not_of_the_right(left: str, right: str, sides: Path) -> None:
    rows = prepared(sides, "AccessionNumber,side,label", f"1001,{left},malignant", f"1002,{right},benign")
    assert of(rows, "label") == {
        "l1.dcm": "malignant",
        "r1.dcm": "",
        "r2.dcm": "",
        "x.dcm": "malignant",
        "z.dcm": "benign",
    }
    reason = "side L in labels.csv contradicts R in the header"
    assert of(rows, "exclude") == {"l1.dcm": "", "r1.dcm": reason, "r2.dcm": reason, "x.dcm": "", "z.dcm": ""}
    said = {"l1.dcm": "L", "r1.dcm": "R", "r2.dcm": "R", "x.dcm": left, "z.dcm": "R"}
    assert of(rows, "laterality") == said


def test_each_side_of_an_examination_has_its_own_row(sides: Path) -> None:
    lines = ("1001,L,malignant,5", "1001,R,benign,2", "1002,both,benign,3")
    rows = prepared(sides, "AccessionNumber,side,label,birads", *lines)
    assert of(rows, "label") == {
        "l1.dcm": "malignant",
        "r1.dcm": "benign",
        "r2.dcm": "benign",
        "x.dcm": "",
        "z.dcm": "benign",
    }
    assert of(rows, "birads") | {"x.dcm": ""} == {
        "l1.dcm": "5",
        "r1.dcm": "2",
        "r2.dcm": "2",
        "x.dcm": "",
        "z.dcm": "3",
    }


def test_a_row_of_the_image_itself_that_says_the_other_side_leaves_it_out(sides: Path) -> None:
    lines = ("l1.dcm,L,benign", "r1.dcm,L,malignant", "r1.dcm,R,benign", "z.dcm,R,malignant")
    rows = prepared(sides, "image,side,label", *lines)
    assert of(rows, "label") == {"l1.dcm": "benign", "r1.dcm": "", "r2.dcm": "", "x.dcm": "", "z.dcm": "malignant"}
    assert rows["r1.dcm"]["exclude"] == "side L in labels.csv contradicts R in the header"


@pytest.mark.parametrize("key", ["AccessionNumber", "StudyInstanceUID", "SeriesInstanceUID"])
def test_a_number_that_two_patients_have_labels_neither(key: str, tmp_path: Path, save_dicom: Save) -> None:
    folder = tmp_path / "export"
    for name, patient, number in (("a", "P1", "1.1"), ("b", "P2", "1.1"), ("c", "P3", "1.2"), ("d", "p3 ", "1.2")):
        save_dicom(folder / f"{name}.dcm", patient, **{key: number})
    rows = prepared(folder, f"{key},label", "1.1,malignant", "1.2,benign")
    assert of(rows, "label") == {"a.dcm": "", "b.dcm": "", "c.dcm": "benign", "d.dcm": "benign"}
    reason = f"{key} of several patients"
    assert of(rows, "exclude") == {"a.dcm": reason, "b.dcm": reason, "c.dcm": "", "d.dcm": ""}


def test_the_patient_beside_a_number_that_two_have_says_whose_it_is(tmp_path: Path, save_dicom: Save) -> None:
    folder = tmp_path / "export"
    for patient in ("P1", "P2"):
        save_dicom(folder / f"{patient}.dcm", patient, AccessionNumber="1001")
    rows = prepared(folder, "AccessionNumber,PatientID,label", "1001,P1,malignant", "1001,P2,benign")
    assert of(rows, "label") == {"P1.dcm": "malignant", "P2.dcm": "benign"}
