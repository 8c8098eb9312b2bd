"""Two columns of one meaning, and two sheets of one list: one says all that the other says, or neither is read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import openpyxl
import pytest
from command_line import refused, run

from medsharp.data import read_manifest

Save = Callable[..., Any]
Row = Callable[[int, int], str]

PATIENTS, IMAGES = 12, 2


def label(patient: int) -> str:
    return ("benign", "malignant", "malignant")[patient % 3]


@pytest.fixture
def folder(tmp_path: Path, save_picture: Save) -> Path:
    for patient in range(PATIENTS):
        for image in range(IMAGES):
            save_picture(tmp_path / "d" / "i" / f"{patient:03d}_{image}.png")
    return tmp_path / "d"


def table(folder: Path, name: str, header: str, row: Row) -> Path:
    """A table of every image with its label, and what `row` adds of patient and image."""
    lines = [f"image,label,{header}"]
    for patient in range(PATIENTS):
        lines += [f"i/{patient:03d}_{image}.png,{label(patient)},{row(patient, image)}" for image in range(IMAGES)]
    (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder / name


def true_patients(out: Path) -> tuple[int, int]:
    """How many patients a manifest tells apart, and how many of the true ones it has for several or for none."""
    rows = read_manifest(out).table
    true = rows["image"].str.extract(r"(\d+)_", expand=False)
    assert (rows["patient"] != "").all()
    return rows["patient"].nunique(), int((rows["patient"].groupby(true).nunique() != 1).sum())


CONTRADICTING = [
    ("patient,PatientID", lambda p, i: f"a{p},S{p}-{i}", "rows 2 and 3 have one patient by 'patient' and two by"),
    ("PatientID,MRN", lambda p, i: f"S{p}-{i},M{p}", "rows 2 and 3 have one patient by 'MRN' and two by 'PatientID'"),
    ("MRN,Patient No", lambda p, i: f"M{p},{p // 2}", "rows 2 and 4 have one patient by 'Patient No' and two by 'MRN'"),
    (
        "PatientID,MRN",
        lambda p, i: f"{'' if p == 5 else p},{'' if p == 3 else f'M{p}'}",
        "is empty in row 12, 'MRN' in",
    ),
    ("PatientID,MRN", lambda p, i: f"A{p}," if p % 2 else f",M{p}", "'PatientID' is empty in row 2, 'MRN' in row 4"),
]


@pytest.mark.parametrize(("header", "row", "why"), CONTRADICTING)
@pytest.mark.parametrize("name", ["labels.csv", "manifest.csv"])
def test_two_identifiers_that_make_different_patients_are_refused(
    name: str, header: str, row: Row, why: str, folder: Path, tmp_path: Path
) -> None:
    table(folder, name, header, row)
    for command in ("audit", "split"):
        result = run("data", command, folder, "--out", tmp_path / "out")
        one, other = header.split(",")
        refused(result, f"{name}: columns '{one}' and '{other}' both mean patient and", why, "; keep one")
    if name == "labels.csv":
        refused(run("data", "prepare", folder, "--out", tmp_path / "out"), why)
    assert not (tmp_path / "out").exists()


AGREEING = [
    ("PatientID,MRN", lambda p, i: f"{'' if i and p % 2 else f'A{p}'},M{p}", "MRN", "PatientID"),
    ("patient,PatientID", lambda p, i: f"{'' if i and p % 3 == 0 else f'P{p}'},M{p}", "PatientID", "patient"),
    ("patient,PatientID", lambda p, i: f"P{p},{f'M{p}' if i else 'unknown'}", "patient", "PatientID"),
    ("Patient No,patient", lambda p, i: f"{p:03d},{'' if p == 4 else p}", "Patient No", "patient"),
]


@pytest.mark.parametrize(("header", "row", "read", "other"), AGREEING)
@pytest.mark.parametrize("name", ["labels.csv", "manifest.csv"])
def test_of_two_identifiers_that_tell_the_same_patients_apart_the_full_one_is_read(
    name: str, header: str, row: Row, read: str, other: str, folder: Path, tmp_path: Path
) -> None:
    table(folder, name, header, row)
    result = run("data", "audit", folder, "--out", tmp_path / "out")
    assert result.exit_code in {0, 1}, result.output
    said = f"{name}: columns '{read}' and '{other}' both mean patient and agree; '{read}' is read, '{other}' not"
    assert said in result.output
    assert true_patients(tmp_path / "out") == (PATIENTS, 0)


def test_an_identifier_has_one_number_whatever_stands_beside_it(folder: Path, tmp_path: Path) -> None:
    """An export by PatientID alone is tied to one with a further number, wherever its column stands."""
    key = tmp_path / "patients.key"
    key.write_text("0123456789abcdef" * 2)
    made = []
    for number, (header, row) in enumerate(
        [
            ("PatientID", lambda p, i: f"A{p}"),
            ("MRN,PatientID", lambda p, i: f"M{p},A{p}"),
            ("patient,PatientID", lambda p, i: f"x{p},A{p}"),
        ]
    ):
        table(folder, "labels.csv", header, row)
        assert run("data", "prepare", folder, "--key", key, "--out", tmp_path / str(number)).exit_code == 0
        made.append(list(read_manifest(tmp_path / str(number)).table["patient"]))
    assert made[0] == made[1] == made[2]
    assert len(set(made[0])) == PATIENTS


def test_patients_in_merged_cells_are_those_of_the_column_that_is_read(folder: Path, tmp_path: Path) -> None:
    table(folder, "labels.csv", "PatientID,MRN", lambda p, i: "," if i else f"A{p},M{p}")
    assert run("data", "prepare", folder, "--out", tmp_path / "out").exit_code == 0
    assert true_patients(tmp_path / "out") == (PATIENTS, 0)


def test_a_patient_of_the_list_beside_the_tag_stays_a_key_to_the_files(tmp_path: Path, save_dicom: Save) -> None:
    folder = tmp_path / "d"
    for number in (1, 2, 3):
        save_dicom(folder / f"{number}.dcm", f"P-{number}", StudyInstanceUID=f"1.2.{number}")
    lines = ["PatientID,patient,label", "P-1,anna,benign", "P-2,berta,malignant", "P-3,clara,benign"]
    (folder / "labels.csv").write_text("\n".join(lines), encoding="utf-8")
    result = run("data", "prepare", folder, "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    rows = read_manifest(tmp_path / "out").table
    assert list(rows["label"]) == ["benign", "malignant", "benign"]
    assert rows["patient"].nunique() == 3
    (folder / "labels.csv").write_text("\n".join(lines).replace("clara", "anna"), encoding="utf-8")
    refused(run("data", "prepare", folder, "--out", tmp_path / "other"), "rows 2 and 4 have one patient by 'patient'")


@pytest.mark.parametrize("header", ["class", "Class"])
def test_two_columns_of_labels_that_differ_are_refused(header: str, folder: Path, tmp_path: Path) -> None:
    path = table(folder, "labels.csv", header, lambda p, i: label(p + (p == 6)))
    said = f"labels.csv: columns 'label' and '{header}' both mean label and differ in row 14; keep one"
    refused(run("data", "prepare", folder, "--out", tmp_path / "out"), said)
    swapped = path.read_text().replace(f"label,{header}", f"{header},label")
    path.write_text(swapped)
    said = f"labels.csv: columns '{header}' and 'label' both mean label and differ in row 14; keep one"
    refused(run("data", "audit", folder, "--out", tmp_path / "out"), said)
    assert not (tmp_path / "out").exists()


def test_columns_of_labels_that_agree_are_one(folder: Path, tmp_path: Path) -> None:
    table(folder, "labels.csv", "class", lambda p, i: "n/a" if p == 2 else label(p).title())
    result = run("data", "prepare", folder, "--out", tmp_path / "out")
    assert "columns 'label' and 'class' both mean label and agree; 'label' is read, 'class' not" in result.output
    rows = read_manifest(tmp_path / "out").table
    assert list(rows["label"]) == [label(int(name[2:5])) for name in rows["image"]]


def test_a_rule_reads_its_own_column_whatever_two_others_say(folder: Path, tmp_path: Path) -> None:
    table(folder, "labels.csv", "class,birads", lambda p, i: f"{label(p + 1)},{'5' if p % 2 else '2'}")
    rule = ("--label-from", "birads", "--malignant", "5", "--benign", "2")
    assert run("data", "prepare", folder, *rule, "--out", tmp_path / "out").exit_code == 0
    rows = read_manifest(tmp_path / "out").table
    assert list(rows["label"]) == [("benign", "malignant")[int(name[2:5]) % 2] for name in rows["image"]]


def test_the_column_of_a_rule_is_one(folder: Path, tmp_path: Path) -> None:
    table(folder, "labels.csv", "Final Dx,final_dx", lambda p, i: "ca,fa" if p % 2 else "fa,ca")
    rule = ("--malignant", "ca", "--benign", "fa")
    refused(
        run("data", "prepare", folder, "--label-from", "FinalDx", *rule, "--out", tmp_path / "out"),
        "'FinalDx' may be the column 'Final Dx' or 'final_dx'; write it as it stands there",
    )
    for column, first in (("Final Dx", "benign"), ("FINAL_DX", "malignant")):
        result = run("data", "prepare", folder, "--label-from", column, *rule, "--out", tmp_path / first)
        assert result.exit_code == 0, result.output
        assert read_manifest(tmp_path / first).table["label"][0] == first


@pytest.mark.parametrize(
    ("header", "cells", "words"),
    [
        (
            "birads,BI-RADS",
            ("4a", "4b"),
            "columns 'birads' and 'BI-RADS' both mean birads and differ in row 2; keep one",
        ),
        ("Side,laterality", ("L", "R"), "columns 'Side' and 'laterality' both mean laterality and differ in row 2"),
        ("filename,age", ("999_0.png", "50"), "columns 'image' and 'filename' both mean image and differ in row 2"),
    ],
)
def test_other_columns_that_contradict_each_other_are_refused_too(
    header: str, cells: tuple[str, str], words: str, folder: Path, tmp_path: Path
) -> None:
    table(folder, "labels.csv", header, lambda p, i: ",".join(cells))
    refused(run("data", "prepare", folder, "--out", tmp_path / "out"), words)


def test_a_path_and_the_name_of_its_file_are_one_image(folder: Path, tmp_path: Path) -> None:
    table(folder, "labels.csv", "File Name,SOP UID,stem", lambda p, i: f"{p:03d}_{i},,x")
    result = run("data", "prepare", folder, "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert "columns 'image' and 'File Name' both mean image and agree" in result.output


def test_a_name_without_its_ending_and_the_whole_path_are_one_image(folder: Path, tmp_path: Path) -> None:
    names = [f"{patient:03d}_{image}" for patient in range(PATIENTS) for image in range(IMAGES)]
    lines = ["name,image,File Path,label", *(f"x,{name},D:\\d\\i\\{name}.png,benign" for name in names)]
    (folder / "labels.csv").write_text("\n".join(lines), encoding="utf-8")
    result = run("data", "prepare", folder, "--out", tmp_path / "out")
    assert "columns 'image' and 'File Path' both mean image and agree; 'image' is read" in result.output
    assert len(read_manifest(tmp_path / "out").included) == len(names)


def test_a_manifest_reads_the_column_patient_where_another_is_as_full(folder: Path) -> None:
    table(folder, "manifest.csv", "PatientID,patient", lambda p, i: f"A{p},{p}")
    manifest = read_manifest(folder)
    assert set(manifest.table["patient"]) == set(map(str, range(PATIENTS)))
    assert "'patient' is read, 'PatientID' not" in "".join(manifest.notes)


def test_a_manifest_of_our_own_may_keep_a_column_that_is_called_like_a_patient(folder: Path, tmp_path: Path) -> None:
    table(folder, "labels.csv", "PatientID,MRN", lambda p, i: f"A{p},{'' if i else f'M{p}'}")
    assert run("data", "prepare", folder, "--keep", "MRN", "--out", tmp_path / "out").exit_code == 0
    text = (tmp_path / "out" / "manifest.csv").read_text()
    assert "M7" in text
    (tmp_path / "out" / "manifest.csv").write_text(text.replace("M7", "M8"))
    rows = read_manifest(tmp_path / "out").table
    assert rows["patient"].nunique() == PATIENTS
    assert (rows["MRN"] == "M8").sum() == 2


def test_further_columns_of_a_manifest_stay(folder: Path, tmp_path: Path) -> None:
    table(folder, "manifest.csv", "patient,MRN", lambda p, i: f"{p},M{p}")
    assert run("data", "audit", folder, "--out", tmp_path / "out").exit_code in {0, 1}
    rows = read_manifest(tmp_path / "out").table
    assert [f"M{patient}" for patient in rows["patient"]] == list(rows["MRN"])


def write_workbook(path: Path, *sheets: tuple[str, str, Sequence[Sequence[str]]]) -> None:
    """Sheets by title, state and rows."""
    book = openpyxl.Workbook()
    book.remove(book.active)
    for title, state, rows in sheets:
        sheet = book.create_sheet(title)
        sheet.sheet_state = state
        for row in rows:
            sheet.append(row)
    book.active = next(number for number, (_, state, _) in enumerate(sheets) if state == "visible")
    book.save(path)


def rows_of(swap: int = 0, *, header: Sequence[str] = ("image", "label")) -> list[Sequence[str]]:
    names = [(patient, f"i/{patient:03d}_{image}.png") for patient in range(PATIENTS) for image in range(IMAGES)]
    return [header, *((name, label(patient + swap)) for patient, name in names)]


@pytest.mark.parametrize("name", ["labels.xlsx", "manifest.xlsx"])
@pytest.mark.parametrize("header", [("image", "label"), ("Image", "label", "remark")])
def test_two_sheets_that_could_both_be_the_list_are_refused(
    name: str, header: Sequence[str], folder: Path, tmp_path: Path
) -> None:
    write_workbook(folder / name, ("first", "visible", rows_of(1)), ("corrected", "visible", rows_of(0, header=header)))
    refused(
        run("data", "audit", folder, "--out", tmp_path / "out"),
        f"{name}: sheets 'first', 'corrected' have the columns of one table, and nothing says which of them counts; "
        "keep one, or hide the others",
    )
    assert not (tmp_path / "out").exists()


def test_headings_in_other_words_make_a_second_list_too(folder: Path, tmp_path: Path) -> None:
    titled = [("Corrected in May",), *rows_of(0, header=("File name", "Class"))]
    write_workbook(folder / "labels.xlsx", ("a", "visible", rows_of(1)), ("b", "visible", titled))
    refused(run("data", "prepare", folder, "--out", tmp_path / "out"), "sheets 'a', 'b' have the columns of one table")


@pytest.mark.parametrize("state", ["hidden", "veryHidden"])
@pytest.mark.parametrize("name", ["labels.xlsx", "manifest.xlsx"])
def test_a_hidden_sheet_is_not_read_and_that_is_said(name: str, state: str, folder: Path, tmp_path: Path) -> None:
    write_workbook(folder / name, ("old", state, rows_of(1)), ("now", "visible", rows_of()))
    result = run("data", "audit", folder, "--out", tmp_path / "out")
    assert f"{name}: hidden sheet 'old' is not read" in result.output
    rows = read_manifest(tmp_path / "out").table
    assert list(rows["label"]) == [label(int(image[2:5])) for image in rows["image"]]


def test_a_list_on_a_hidden_sheet_alone_is_refused_with_its_title(folder: Path, tmp_path: Path) -> None:
    write_workbook(
        folder / "labels.xlsx", ("list", "hidden", rows_of()), ("cover", "visible", [("by",), ("the archive",)])
    )
    refused(
        run("data", "prepare", folder, "--out", tmp_path / "out"),
        "labels.xlsx names no images: it needs a column image",
        "hidden sheet 'list' is not read",
    )
    write_workbook(folder / "manifest.xlsx", ("list", "hidden", rows_of()), ("cover", "visible", [("about",)]))
    refused(
        run("data", "audit", folder, "--out", tmp_path / "out"),
        "manifest.xlsx has no column 'image'",
        "; hidden sheet 'list' is not read",
    )


@pytest.mark.parametrize("first", ["ages", "list"])
def test_the_sheet_with_labels_is_read_where_another_tells_of_patients(
    first: str, folder: Path, tmp_path: Path
) -> None:
    listed = [
        (*row, header) for row, header in zip(rows_of(), ["patient", *(f"P{n // 2}" for n in range(24))], strict=True)
    ]
    sheets: list[tuple[str, str, Sequence[Sequence[str]]]] = [
        ("list", "visible", listed),
        ("ages", "visible", [("patient", "age"), ("P1", "50"), ("P2", "61")]),
    ]
    write_workbook(folder / "labels.xlsx", *(sheets if first == "list" else sheets[::-1]))
    assert run("data", "prepare", folder, "--out", tmp_path / "out").exit_code == 0
    assert true_patients(tmp_path / "out") == (PATIENTS, 0)


def test_a_header_that_stands_again_below_hides_no_row_above_it(folder: Path, tmp_path: Path) -> None:
    rows = rows_of()
    write_workbook(folder / "labels.xlsx", ("list", "visible", [*rows[:5], rows[0], *rows[5:]]))
    refused(run("data", "prepare", folder, "--out", tmp_path / "out"), "row 6: 'image' names no image here")


def test_a_sheet_without_rows_is_no_second_list(folder: Path, tmp_path: Path) -> None:
    write_workbook(
        folder / "labels.xlsx", ("template", "visible", [("image", "label")]), ("list", "visible", rows_of())
    )
    result = run("data", "prepare", folder, "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert len(read_manifest(tmp_path / "out").included) == PATIENTS * IMAGES
