"""A hospital's list of labels: which image a row means, what is refused, and how findings become labels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import openpyxl
import pandas as pd
import pytest

from medsharp.data import Manifest, open_dataset
from medsharp.data.sources import FolderReading, LabelRule
from medsharp.errors import InputError

Save = Callable[..., Any]
CLASSES = ("benign", "malignant")
BIRADS = LabelRule("birads", {"benign": ("2", "3"), "malignant": ("4b", "4c", "5")})


@pytest.fixture
def export(tmp_path: Path, save_dicom: Save) -> Path:
    """Two patients, a study and two images each; the names of files repeat."""
    for patient, study in (("P-17", "S1"), ("P-18", "S2")):
        for number in (1, 2):
            save_dicom(
                tmp_path / "d" / study / f"IM{number}.dcm",
                patient,
                AccessionNumber=f"00{study[1]}23",
                StudyInstanceUID=f"1.2.{study[1]}",
                SeriesInstanceUID=f"1.2.{study[1]}.7",
                SOPInstanceUID=f"1.2.{study[1]}.7.{number}",
            )
    return tmp_path / "d"


def write(folder: Path, *lines: str, name: str = "labels.csv") -> None:
    (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")


def labels(manifest: Manifest) -> list[str]:
    """The labels of S1/IM1, S1/IM2, S2/IM1, S2/IM2."""
    return list(manifest.table.sort_values("image")["label"])


@pytest.mark.parametrize(
    "lines",
    [
        ("image,label", "S1/IM1.dcm,benign", "S1/IM2.dcm,benign", "S2/IM1.dcm,malignant", "S2/IM2.dcm,malignant"),
        ("image,label", "S1\\IM1.dcm,benign", ".\\S1\\IM2.dcm,benign", "s2/im1.DCM,malignant", "S2/IM2.dcm,malignant"),
        ("image,label", "S1,benign", "S2,malignant"),
        ("image,label", "S1,benign", "C:\\archive\\d\\S2\\IM1.dcm,malignant", "/mnt/d/S2/IM2.dcm,malignant"),
        ("image,label", "1.2.1,benign", "1.2.2.7,malignant"),
        ("image,label", "1.2.1.7.1,benign", "1.2.1.7.2,benign", "1.2.2.7,malignant"),
        ("image,label", "00123,benign", "P-18,malignant"),
        ("File,Class", "S1,Benign", "S2,MALIGNANT"),
        ("SOPInstanceUID,label", "1.2.1.7.1,benign", "1.2.1.7.2,benign", "1.2.2.7.1,malignant", "1.2.2.7.2,malignant"),
        ("Series Instance UID,label", "1.2.1.7,benign", "1.2.2.7,malignant"),
        ("study_instance_uid,label", "1.2.1,benign", "1.2.2,malignant"),
        ("Accession Number,label", "00123,benign", "00223,malignant"),
        ("accession,label", "123,benign", "223,malignant"),  # as a spreadsheet leaves them
        ("accession,label", "0123,benign", "000223,malignant"),
        ("accession;label", "123.0;benign", "223,0;malignant"),
        ("PatientID,label", "P-17,benign", "p-18 ,malignant"),
        ("PatientID,label", "P \u201317,benign", "P-018,malignant"),
        ("patient,label", "P-17,benign", "P-18,malignant"),
        ("PatientID,AccessionNumber,label", "P-17,00123,benign", "P-18,00223,malignant"),
        ("PatientID,AccessionNumber,label", "P-17,,benign", ",00223,malignant"),
    ],
)
def test_rows_are_matched_as_hospitals_write_them(lines: tuple[str, ...], export: Path) -> None:
    write(export, *lines)
    assert labels(open_dataset(export, classes=CLASSES)) == ["benign", "benign", "malignant", "malignant"]


def test_a_title_above_the_header_and_a_cover_sheet_are_passed_over(export: Path) -> None:
    write(export, "Export of the archive", "", "Accession Number,label,age", "00123,benign,50", "00223,malignant,61")
    assert labels(open_dataset(export)) == ["benign", "benign", "malignant", "malignant"]
    (export / "labels.csv").unlink()
    book = openpyxl.Workbook()
    book.active.append(["Made by the archive"])
    sheet = book.create_sheet("list")
    for row in (["PatientID", "label"], ["P-17", "benign"], ["P-18", "malignant"]):
        sheet.append(row)
    book.save(export / "labels.xlsx")
    assert labels(open_dataset(export)) == ["benign", "benign", "malignant", "malignant"]


def test_numbers_of_images_have_lost_their_zeros_in_a_spreadsheet(tmp_path: Path, save_picture: Save) -> None:
    for name in ("000001", "000012"):
        save_picture(tmp_path / f"{name}.png")
    write(tmp_path, "image,label", "1,benign", "12,malignant")
    assert list(open_dataset(tmp_path).table["label"]) == ["benign", "malignant"]
    write(tmp_path, "image,label", "1.0,benign", "12.0,malignant")
    assert list(open_dataset(tmp_path).table["label"]) == ["benign", "malignant"]
    write(tmp_path, "image,label", "1,benign", "12,malignant")
    save_picture(tmp_path / "other" / "0001.png")
    with pytest.raises(InputError, match=r"row 2: '1' names several files: 000001\.png, other/0001\.png"):
        open_dataset(tmp_path)


def test_a_workbook_labels_too(export: Path) -> None:
    book = openpyxl.Workbook()
    for row in (["AccessionNumber", "label"], [123, "benign"], [223, "malignant"]):
        book.active.append(row)
    book.save(export / "Labels.xlsx")
    assert labels(open_dataset(export)) == ["benign", "benign", "malignant", "malignant"]


def test_a_list_of_parquet_says_what_the_same_csv_says(tmp_path: Path, save_picture: Save) -> None:
    pytest.importorskip("pyarrow")
    for name in ("1", "2", "3"):
        save_picture(tmp_path / "seen" / f"{name}.png")
    write(tmp_path / "seen", "image,label,patient,age", "1,benign,17,50", "2,malignant,,", "3,benign,17,")
    csv = open_dataset(tmp_path / "seen").table
    (tmp_path / "seen" / "labels.csv").unlink()
    columns = {"image": [1, 2, 3], "label": ["benign", "malignant", "benign"]}
    rows = pd.DataFrame({**columns, "patient": [17, None, 17], "age": [50.0, None, None]})  # floats, for the gaps
    rows.to_parquet(tmp_path / "seen" / "Labels.parquet")
    pd.testing.assert_frame_equal(open_dataset(tmp_path / "seen").table, csv)
    assert list(csv["label"]) == ["benign", "malignant", "benign"]
    assert csv["patient"][0] == csv["patient"][2] != ""


def test_an_exact_path_comes_before_a_patient_of_that_name(tmp_path: Path, save_dicom: Save) -> None:
    save_dicom(tmp_path / "b", "a")
    save_dicom(tmp_path / "a", "z")
    save_dicom(tmp_path / "c", "q")
    write(tmp_path, "image,label", "a,malignant", "b,benign", "q,benign")
    assert list(open_dataset(tmp_path).table["label"]) == ["malignant", "benign", "benign"]


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (
            ("image,label", "S1,benign", "IM1,malignant"),
            r"row 3: 'IM1' names several files: S1/IM1.dcm, S2/IM1.dcm; give",
        ),
        (
            ("image,label", "S1,benign", "S3/IM1.dcm,malignant"),
            r"row 3: 'S3/IM1.dcm' names no image here.*did you mean",
        ),
        (("image,label", "S1,benign", ",malignant"), r"row 3: nothing stands under image"),
        (
            ("image,label", "S1,benign", "S1/IM1.dcm,malignant"),
            "row 3: S1/IM1.dcm has label 'benign' already, in row 2",
        ),
        (("image,PatientID,label", "S1,P-18,benign"), "row 2: its folder and its PatientID are of different files"),
        (("image,PatientID,label", "S1,P-99,benign"), "row 2: the file of this name does not have that PatientID"),
        (
            ("image,label", "S1,benign", "elsewhere/S1/IM1.dcm,malignant"),
            "row 3: 'elsewhere/S1/IM1.dcm' names no image",
        ),
        (("image,frame,label", "S1,x,benign"), "row 2: frame 'x' is no number of a frame"),
        (("image,frame,label", "S1,0,benign"), "row 2: frame '0' is no number of a frame"),
        (("PatientID,label", "P-99,benign"), "no row belongs to an image here; rows are matched by PatientID"),
        (("name,label", "S1,benign"), "names no images: it needs a column image"),
    ],
)
def test_what_does_not_fit_is_a_sentence(lines: tuple[str, ...], words: str, export: Path) -> None:
    write(export, *lines)
    with pytest.raises(InputError, match=words):
        open_dataset(export, classes=CLASSES)


def test_an_image_of_two_patients_is_refused_and_one_written_in_two_ways_is_not(
    tmp_path: Path, save_picture: Save
) -> None:
    for name in ("1", "2"):
        save_picture(tmp_path / f"{name}.png")
    write(tmp_path, "image,label,patient", "1,benign,A-07", "2,benign,B", "1,malignant,A-8")
    with pytest.raises(InputError, match=r"row 4: 1\.png is of another patient than in row 2") as caught:
        open_dataset(tmp_path)
    assert "A-" not in str(caught.value)
    write(tmp_path, "image,label,patient", "1,benign,A-07", "2,benign,B", "1,malignant,a-7", "1,malignant,")
    table = open_dataset(tmp_path).table
    assert table.loc[table["image"] == "1.png", "label"].item() == "malignant"
    assert table.loc[table["image"] == "1.png", "lesions"].item() == "3"


def test_a_list_without_labels_is_said(export: Path) -> None:
    write(export, "image,birads", "S1,3")
    manifest = open_dataset(export)
    assert list(manifest.table["birads"]) == ["3", "3", "", ""]
    said = "labels.csv has no column label (or class); --label-from makes labels from another, such as 'birads'"
    assert any(said in note for note in manifest.notes)


def test_two_lists_are_one_too_many(export: Path) -> None:
    write(export, "image,label", "S1,benign")
    write(export, "image,label", "S1,malignant", name="labels.tsv")
    with pytest.raises(InputError, match=r"labels\.csv and labels\.tsv; keep one"):
        open_dataset(export)


def test_images_without_a_row_and_rows_without_an_image_are_counted(export: Path) -> None:
    write(export, "PatientID,label", "P-17,benign", "P-99,malignant", "P-98,malignant")
    manifest = open_dataset(export)
    assert list(manifest.included["label"]) == ["benign", "benign"]
    assert "2 images left out: no row in labels.csv" in manifest.notes
    assert "2 rows of labels.csv belong to no image here (rows 3, 4)" in manifest.notes
    assert not any("P-99" in note for note in manifest.notes)


def test_rows_of_files_that_are_no_images_are_counted(export: Path, save_dicom: Save, save_picture: Save) -> None:
    save_dicom(export / "S1" / "SR1", SOPClassUID="1.2.840.10008.5.1.4.1.1.88.33", pixels=False)
    save_dicom(export / "S9" / "SR1", SOPClassUID="1.2.840.10008.5.1.4.1.1.88.33", pixels=False)
    save_picture(export / "S1" / "IM1_mask.png")
    rows = ("S1,benign", "S2,malignant", "S1/SR1,benign", "S9,benign", "S1/IM1_mask.png,benign")
    write(export, "image,label", *rows)
    manifest = open_dataset(export)
    assert labels(manifest) == ["benign", "benign", "malignant", "malignant"]
    assert "3 rows of labels.csv belong to no image here (rows 4, 5, 6)" in manifest.notes


def test_folders_of_pictures_are_those_of_patients_or_examinations(tmp_path: Path, save_picture: Save) -> None:
    for patient in ("P17", "P18"):
        for number in (1, 2):
            save_picture(tmp_path / patient / f"{number}.png")
    write(tmp_path, "PatientID,label", "P17,benign", "p18,malignant")
    table = open_dataset(tmp_path).table
    assert list(table["label"]) == ["benign", "benign", "malignant", "malignant"]
    assert table["patient"].nunique() == 2


def test_folders_of_patients_keep_zeros_that_a_spreadsheet_takes_away(tmp_path: Path, save_picture: Save) -> None:
    for patient in ("0000", "0017"):
        save_picture(tmp_path / patient / "1.png")
    write(tmp_path, "PatientID,label", "0,benign", "17.0,malignant")
    assert list(open_dataset(tmp_path).table["label"]) == ["benign", "malignant"]


def test_an_image_of_several_lesions_is_malignant_if_one_is(export: Path) -> None:
    write(
        export,
        "image,label,birads,lesion",
        "S1/IM1.dcm,benign,2,1",
        "S1/IM1.dcm,malignant,5,2",
        "S1/IM2.dcm,benign,2,1",
        "S1/IM2.dcm,benign,3,2",
        "S2,benign,3,1",
    )
    manifest = open_dataset(export)
    assert labels(manifest) == ["malignant", "benign", "benign", "benign"]
    assert list(manifest.table["birads"]) == ["5", "2", "3", "3"]
    assert list(manifest.table["lesions"]) == ["2", "2", "", ""]
    assert any("2 images have several rows" in note for note in manifest.notes)


def test_a_lesion_that_nobody_judged_leaves_a_benign_image_open(export: Path) -> None:
    write(export, "image,birads", "S1/IM1.dcm,2", "S1/IM1.dcm,4a", "S1/IM2.dcm,5", "S1/IM2.dcm,4a", "S2,2")
    manifest = open_dataset(export, rule=BIRADS)
    assert labels(manifest) == ["", "malignant", "benign", "benign"]
    assert manifest.table["exclude"][0] == "birads 4a is of no class"


def test_a_patient_with_several_labels_is_left_out_as_nobody_can_tell_the_images(export: Path) -> None:
    write(export, "PatientID,label", "P-17,benign", "P-17,malignant", "P-18,malignant")
    manifest = open_dataset(export)
    assert labels(manifest) == ["", "", "malignant", "malignant"]
    assert set(manifest.table["exclude"]) == {"PatientID with several labels in labels.csv", ""}
    assert any("2 images left out: labels.csv gives their patient" in note for note in manifest.notes)


def test_merged_cells_of_a_list_are_filled_and_announced(tmp_path: Path, save_picture: Save) -> None:
    lines = ["image;patient;site;label"]
    for patient in range(4):
        for number in range(3):
            save_picture(tmp_path / f"{patient}{number}.png")
            who = f"Anna {patient};Clinic" if number == 0 else ";"
            lines.append(f"{patient}{number}.png;{who};{CLASSES[patient % 2]}")
    write(tmp_path, *lines)
    manifest = open_dataset(tmp_path)
    assert manifest.table.groupby(manifest.table["image"].str[0])["patient"].nunique().eq(1).all()
    assert manifest.table["patient"].nunique() == 4
    assert set(manifest.table["site"]) == {"Clinic"}
    assert "8 rows are taken as of the patient above" in "\n".join(manifest.notes)


def test_a_column_to_keep_must_be_there(export: Path, tmp_path: Path, save_picture: Save) -> None:
    write(export, "PatientID,label,ward", "P-17,benign,3", "P-18,malignant,4")
    assert set(open_dataset(export, reading=FolderReading(keep=("ward",))).table["ward"]) == {"3", "4"}
    with pytest.raises(InputError, match=r"labels\.csv has no column 'wart' to keep; did you mean ward\?"):
        open_dataset(export, reading=FolderReading(keep=("wart",)))
    for label in CLASSES:
        save_picture(tmp_path / "plain" / label / "1.png")
    with pytest.raises(InputError, match="no list of labels to keep 'ward' of"):
        open_dataset(tmp_path / "plain", reading=FolderReading(keep=("ward",)))


def test_frames_of_a_clip_are_rows(tmp_path: Path, save_dicom: Save) -> None:
    save_dicom(tmp_path / "clip.dcm", "a", frames=5)
    save_dicom(tmp_path / "still.dcm", "b")
    write(tmp_path, "image,frame,label", "clip.dcm,2.0,malignant", "clip.dcm,04,benign", "still.dcm,,benign")
    table = open_dataset(tmp_path).table
    assert list(zip(table["image"], table["frame"], table["label"], strict=True)) == [
        ("clip.dcm", "2", "malignant"),
        ("clip.dcm", "4", "benign"),
        ("still.dcm", "", "benign"),
    ]
    assert table["patient"][0] == table["patient"][1] != table["patient"][2]


def test_rows_of_a_clip_have_a_frame_all_or_none(tmp_path: Path, save_dicom: Save) -> None:
    save_dicom(tmp_path / "clip.dcm", frames=3)
    write(tmp_path, "image,frame,label", "clip.dcm,2,malignant", "clip.dcm,,benign")
    with pytest.raises(InputError, match=r"row 3: clip\.dcm has rows for single frames too"):
        open_dataset(tmp_path)


def test_pictures_are_labelled_by_a_list_too(tmp_path: Path, save_picture: Save) -> None:
    for number in range(4):
        save_picture(tmp_path / "images" / f"{number}.png")
    write(
        tmp_path,
        "image,PatientID,label,age,phone",
        "0,A,benign,50,1",
        "1.png,A,benign,50,1",
        "images/2.png,B,malignant,61,2",
    )
    manifest = open_dataset(tmp_path, classes=CLASSES)
    table = manifest.table
    assert list(table["label"]) == ["benign", "benign", "malignant", ""]
    assert table["patient"][0] == table["patient"][1] != table["patient"][2] != ""
    assert table["patient"][0] != "A"
    assert list(table["age"]) == ["50", "50", "61", ""]
    assert "phone" not in table
    assert "columns of labels.csv that are not carried: phone" in manifest.notes
    assert list(open_dataset(tmp_path, reading=FolderReading(keep=("phone",))).table["phone"]) == ["1", "1", "2", ""]


def test_what_a_list_calls_a_mask_is_no_image(tmp_path: Path, save_picture: Save) -> None:
    for name in ("scans/1.png", "scans/2.png", "drawn/a.png", "drawn/b.png"):
        save_picture(tmp_path / name)
    lines = ("scans/1.png,benign,drawn\\a.png", "scans/2.png,malignant,drawn/b.png;drawn/a.png")
    write(tmp_path, "image,label,mask", *lines)
    table = open_dataset(tmp_path).table
    assert list(table["image"]) == ["scans/1.png", "scans/2.png"]
    assert list(table["mask"]) == ["drawn/a.png", "drawn/b.png;drawn/a.png"]
    write(tmp_path, "image,label,mask", "scans/1.png,benign,../secret.png")
    with pytest.raises(InputError, match=r"row 2: mask '\.\./secret\.png' is not there"):
        open_dataset(tmp_path)


def test_a_list_excludes_where_it_says_so_and_not_where_it_says_no(export: Path) -> None:
    rows = ("S1/IM1.dcm,benign,0", "S1/IM2.dcm,benign,FALSE", "S2/IM1.dcm,malignant,yes", "S2/IM2.dcm,malignant,biopsy")
    write(export, "image,label,exclude", *rows)
    table = open_dataset(export).table
    assert list(table["exclude"]) == ["", "", "excluded in labels.csv", "biopsy"]


def test_dates_of_a_list_are_carried_only_where_asked_for(export: Path) -> None:
    write(export, "PatientID,label,StudyDate", "P-17,benign,2021-03-04")
    manifest = open_dataset(export)
    assert "2021-03" not in manifest.table.to_csv()
    assert any("not carried: StudyDate" in note for note in manifest.notes)


def test_a_list_of_labels_for_data_that_has_labels_is_refused(tmp_path: Path, save_picture: Save) -> None:
    save_picture(tmp_path / "1.png")
    write(tmp_path, "image,label", "1.png,benign", name="manifest.csv")
    write(tmp_path, "image,label", "1.png,malignant", name="other.csv")
    with pytest.raises(InputError, match=r"--labels .*other\.csv: .* holds a manifest; leave it out"):
        open_dataset(tmp_path, reading=FolderReading(table=tmp_path / "other.csv"))


def test_a_list_beside_class_folders_adds_what_it_knows_and_may_not_contradict(
    tmp_path: Path, save_picture: Save
) -> None:
    for label in CLASSES:
        save_picture(tmp_path / label / f"{label[0]}1.png")
    write(tmp_path, "image,birads,patient", "b1.png,3,7")
    table = open_dataset(tmp_path, classes=CLASSES).table
    assert list(table["birads"]) == ["3", ""]
    assert table["patient"][0].startswith("P")
    assert list(table["label"]) == list(CLASSES)
    write(tmp_path, "image,label", "b1.png,")
    assert list(open_dataset(tmp_path, classes=CLASSES).included["label"]) == list(CLASSES)
    write(tmp_path, "image,label", "b1.png,malignant")
    with pytest.raises(InputError, match=r"gives benign/b1\.png the label 'malignant', and its folder 'benign'"):
        open_dataset(tmp_path, classes=CLASSES)


@pytest.mark.parametrize(
    ("written", "category"),
    [
        ("4B", "4b"),
        ("IVb", "4b"),
        ("BI-RADS 4b", "4b"),
        ("birads: IV b", "4b"),
        ("BI-RADS category 4 B", "4b"),
        ("ACR 5", "5"),
        ("V", "5"),
        ("VI", "6"),
        ("ii", "2"),
        ("III ", "3"),
        ("5.0", "5"),
        ("Bi Rads 3", "3"),
        ("BIRADS-4A", "4a"),
        ("US BI\u2013RADS\u00ae 4-c", "4c"),
        ("ACR BI-RADS 5", "5"),
        ("4,0", "4"),
        ("2-3", "2-3"),
        ("4b/5", "4b/5"),
    ],
)
def test_birads_is_read_as_people_write_it(written: str, category: str) -> None:
    assert BIRADS.plain(written) == category


@pytest.mark.parametrize(
    ("value", "made"),
    [
        ("4c", ("malignant", "")),
        ("2", ("benign", "")),
        ("4", ("", "birads 4 is of no class")),
        ("4a", ("", "birads 4a is of no class")),
        ("3/4a", ("", "birads 3/4a is of no class")),
        ("", ("", "birads is not stated")),
    ],
)
def test_a_category_stands_for_itself_alone(value: str, made: tuple[str, str]) -> None:
    assert BIRADS.label(value) == made


def test_words_of_pathology_are_compared_whatever_their_case() -> None:
    rule = LabelRule("histology", {"malignant": ("invasive ductal carcinoma", "DCIS"), "benign": ("*",)})
    assert rule.label("Invasive  Ductal Carcinoma") == ("malignant", "")
    assert rule.label("dcis") == ("malignant", "")
    assert rule.label("fibroadenoma") == ("benign", "")
    assert rule.label(" ") == ("", "histology is not stated")
    for nothing in ("n/a", "unknown", "-", "?", "#N/A", "None", "not available"):
        assert rule.label(nothing) == ("", "histology is not stated")
    stated = LabelRule("histology", {"malignant": ("DCIS",), "benign": ("none", "*")})
    assert stated.label("None") == ("benign", "")
    assert stated.label("n/a") == ("", "histology is not stated")


def test_every_other_birads_category_is_one_that_judges_the_image() -> None:
    rule = LabelRule("BI-RADS", {"malignant": ("4b", "4c", "5"), "benign": ("*",)})
    labels = {value: rule.label(value)[0] for value in ("1", "II", "3.0", "4", "4a", "BI-RADS 4B", "5")}
    assert labels == dict.fromkeys(("1", "II", "3.0", "4", "4a"), "benign") | dict.fromkeys(
        ("BI-RADS 4B", "5"), "malignant"
    )
    for value in ("0", "6", "2-3", "see report", "-1"):
        label, why = rule.label(value)
        assert label == ""
        assert "is of no class" in why
    assert rule.label("n/a") == ("", "BI-RADS is not stated")
    assert LabelRule("birads", {"malignant": ("6",), "benign": ("*", "0")}).label("0") == ("benign", "")


def test_a_label_that_says_nothing_is_none(tmp_path: Path, save_picture: Save) -> None:
    for number in range(4):
        save_picture(tmp_path / f"{number}.png")
    write(tmp_path, "image,label", "0.png,benign", "1.png,malignant", "2.png,n/a", "3.png,unknown")
    manifest = open_dataset(tmp_path)
    assert manifest.info.classes == CLASSES
    assert labels(manifest) == ["benign", "malignant", "", ""]
    assert list(manifest.table["exclude"]) == ["", "", *["no label in labels.csv"] * 2]


@pytest.mark.parametrize(
    ("column", "values", "words"),
    [
        ("birads", {"malignant": ("4d",)}, r"'4d' is no BI-RADS category; did you mean"),
        ("birads", {"malignant": ("4b",), "benign": ("IVb",)}, "'IVb' is given for malignant and for benign"),
        ("birads", {"malignant": ()}, "say which of its values are a class"),
    ],
)
def test_a_wrong_rule_is_a_sentence(column: str, values: dict[str, tuple[str, ...]], words: str) -> None:
    with pytest.raises(InputError, match=words):
        LabelRule(column, values)


def test_labels_from_findings_are_announced_with_what_never_occurs(export: Path) -> None:
    write(export, "AccessionNumber,BI-RADS", "00123,BI-RADS 3", "00223,4C")
    manifest = open_dataset(export, classes=CLASSES, rule=BIRADS)
    assert labels(manifest) == ["benign", "benign", "malignant", "malignant"]
    notes = "\n".join(manifest.notes)
    assert "labels are made from birads: benign: 3 (1); malignant: 4c (1)" in notes
    assert "label from birads: no row has '4b'" in notes


def test_a_rule_makes_labels_of_a_manifest_and_of_a_public_table(
    export: Path, tmp_path: Path, save_picture: Save
) -> None:
    for name in ("1", "2", "3"):
        save_picture(tmp_path / "m" / f"{name}.png")
    write(tmp_path / "m", "image,label,BI-RADS US", "1.png,,3", "2.png,,4B", "3.png,,0", name="manifest.csv")
    other = LabelRule("bi-rads us", BIRADS.values)
    assert list(open_dataset(tmp_path / "m", rule=other).table["label"]) == ["benign", "malignant", ""]
    write(tmp_path / "m", "image,label,birads", "1.png,,3", "2.png,,4B", "3.png,,0", name="manifest.csv")
    manifest = open_dataset(tmp_path / "m", rule=BIRADS)
    assert list(manifest.table["label"]) == ["benign", "malignant", ""]
    assert list(manifest.table["exclude"]) == ["", "", "birads 0 is of no class"]
    with pytest.raises(InputError, match="no column 'histologie' to make labels from; did you mean histology"):
        open_dataset(tmp_path / "m", rule=LabelRule("histologie", {"malignant": ("x",)}))


def test_a_rule_takes_the_place_of_class_folders(tmp_path: Path, save_picture: Save) -> None:
    for label in CLASSES:
        save_picture(tmp_path / label / f"{label}.png")
    write(tmp_path, "image,birads", "benign,5")
    manifest = open_dataset(tmp_path, rule=BIRADS)
    assert list(manifest.table["label"]) == ["malignant", ""]
    assert list(manifest.table["exclude"]) == ["", "no row in labels.csv"]
    with pytest.raises(InputError, match="no column 'histology' to make labels from"):
        open_dataset(tmp_path, rule=LabelRule("histology", {"malignant": ("x",)}))
