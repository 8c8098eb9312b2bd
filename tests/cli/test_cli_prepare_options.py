"""`data prepare`: copies of files that are nearly called alike, and options that would have no effect."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from command_line import refused, run

from medsharp.data import assert_no_leak, read_manifest, write_manifest
from medsharp.data.pool import pool_manifests
from medsharp.data.sources import PatientKey
from medsharp.errors import InputError
from medsharp.images import ValueRange
from medsharp.keys import clusters_of

Save = Callable[..., Any]
CLASSES = ("benign", "malignant")


def test_files_whose_names_differ_in_a_letter_have_copies_of_their_own(tmp_path: Path, save_picture: Save) -> None:
    names = [f"{label}/{name}" for label in ("benign", "malignant") for name in ("1.png", "01.png", "A.png", "a.png")]
    names += ["benign/a b.png", "benign/ab.png", "benign/a.PNG"]
    for name in names:
        save_picture(tmp_path / "export" / name)
    result = run("data", "prepare", tmp_path / "export", "--copy", "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    manifest = read_manifest(tmp_path / "out")
    copies = {manifest.path(image).read_bytes() for image in manifest.table["image"]}
    assert copies == {(tmp_path / "export" / name).read_bytes() for name in names}
    assert len(manifest.table) == len(names)
    assert not manifest.table["image"].str.contains(r"/(?:\.|$)").any()


def test_copies_of_a_manifest_name_nobody_and_stay_in_their_folder(tmp_path: Path, save_picture: Save) -> None:
    keyed = "P0012ab34cd56ef78"
    patients = ["Anna Schmidt", "../../escaped", "/tmp/escaped", keyed, "n/a", "Anna Schmidt", "..\\escaped", "."]
    for number in range(len(patients)):
        save_picture(tmp_path / "m" / "Schmidt" / f"{number}.png")
    (tmp_path / "m" / "Schmidt" / "5.png").rename(tmp_path / "m" / "Schmidt" / "5.schmidt")
    save_picture(tmp_path / "m" / "Schmidt_mask.png")
    lines = ["image,label,patient,mask,group,doctor,age"]
    for number, patient in enumerate(patients):
        name = f"Schmidt/{number}.{'schmidt' if number == 5 else 'png'}"
        label = ("benign", "malignant")[number % 2]
        lines.append(f"{name},{label},{patient},{'Schmidt_mask.png' * (number == 0)},Schmidt 1,Dr. Schmidt,50")
    (tmp_path / "m" / "manifest.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    about = "name: ours\nclasses: [benign, malignant]\nnotes: ['audit: Schmidt/1.png is dark']\n"
    (tmp_path / "m" / "manifest.yaml").write_text(about, encoding="utf-8")
    (tmp_path / "k").write_text("0123456789abcdef0123456789abcdef\n", encoding="utf-8")
    before = {file for file in tmp_path.rglob("*") if file.is_file()}
    out = tmp_path / "deep" / "er" / "out"
    result = run("data", "prepare", tmp_path / "m", "--copy", "--key", tmp_path / "k", "--out", out)
    assert result.exit_code == 0, result.output
    made = {file for file in tmp_path.rglob("*") if file.is_file()} - before
    assert all(file.is_relative_to(out) for file in made)
    assert len(made) == 2 + len(patients) + 1
    text = " ".join([*map(str, made), (out / "manifest.csv").read_text(), (out / "manifest.yaml").read_text()])
    for word in ("schmidt", "escaped", "anna"):
        assert word not in text.lower().replace(str(tmp_path).lower(), "")
    table = read_manifest(out).table
    numbers = list(table["patient"])
    assert numbers[3] == keyed
    assert numbers[0] == numbers[5] != numbers[1]
    assert (numbers[4], numbers[7]) == ("", "")
    assert len(set(numbers)) == 6
    told = " ".join(result.output.split())
    assert "as names may stand there (--keep keeps one): 'doctor' " in f"{told} "
    assert list(table["age"]) == ["50"] * len(patients)
    # That it was audited stays known, as the card of a model that is trained on the copies tells it.
    assert read_manifest(out).notes == (
        "audit: made before the images were copied; what it said is not stored with the copies",
    )


def plain_manifest(folder: Path, save_picture: Save, rows: list[str], header: str) -> None:
    for number in range(len(rows)):
        save_picture(folder / f"{number}.png")
    lines = [f"{number}.png,{('benign', 'malignant')[number % 2]},{row}" for number, row in enumerate(rows)]
    text = "\n".join([f"image,label,{header}", *lines])
    (folder / "manifest.csv").write_text(text + "\n", encoding="utf-8")


def test_copies_tell_patients_of_one_number_at_several_sites_apart(tmp_path: Path, save_picture: Save) -> None:
    rows = ["7,north,", "7,south,", "007,North,", "8,north,", "9,,x", "9,north,", "8,north,", "9,south,", ",,x", "6,,y"]
    plain_manifest(tmp_path / "m", save_picture, rows, "patient,site,group")
    before = read_manifest(tmp_path / "m")
    result = run("data", "prepare", tmp_path / "m", "--copy", "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    told = " ".join(result.output.split())
    assert "1 patients have rows with a site and rows without: numbered apart, and tied by a group" in told
    assert "files and patients are numbered by the key" in told
    assert "another key" not in told
    after = read_manifest(tmp_path / "out")
    assert list(clusters_of(after.table)) == list(clusters_of(before.table)) == [0, 1, 0, 2, 3, 3, 2, 3, 3, 4]
    patients, groups = list(after.table["patient"]), list(after.table["group"])
    # As in an export whose patients were numbered by the same key, which knows no site.
    assert (patients[4], patients[9]) == (PatientKey().number("9"), PatientKey().number("6"))
    assert len({*patients}) == 8
    assert len({groups[row] for row in (4, 5, 7, 8)} - {groups[9]}) == 1
    assert [row for row, group in enumerate(groups) if group] == [4, 5, 7, 8, 9]


def copied(data: Path, out: Path, *options: str) -> dict[bytes, tuple[str, str]]:
    """Copy a manifest by the public command; by the content of each copy, its patient and site."""
    result = run("data", "prepare", data, "--copy", "--out", out, *options)
    assert result.exit_code == 0, result.output
    manifest = read_manifest(out)
    rows = zip(manifest.table["image"], manifest.table["patient"], manifest.table["site"], strict=True)
    return {manifest.path(image).read_bytes(): (patient, site) for image, patient, site in rows}


def test_a_patient_of_copies_has_one_number_whoever_else_is_copied(tmp_path: Path, save_picture: Save) -> None:
    rows = ["7,A,", "7,B,", "8,A,", "9,B,", "6,,", "6,A,"]
    plain_manifest(tmp_path / "m", save_picture, rows, "patient,site,exclude")
    whole = copied(tmp_path / "m", tmp_path / "whole")
    assert len({patient for patient, _ in whole.values()}) == 6
    for left_out in range(len(rows)):
        lines = (tmp_path / "m" / "manifest.csv").read_text(encoding="utf-8").splitlines()
        lines[left_out + 1] += "dark"
        (tmp_path / "m" / f"{left_out}.csv").write_text("\n".join(lines), encoding="utf-8")
        fewer = copied(tmp_path / "m" / f"{left_out}.csv", tmp_path / f"without-{left_out}")
        assert len(fewer) == len(rows) - 1
        assert fewer.items() <= whole.items()


@pytest.mark.parametrize("stated", [True, False])
def test_a_copy_of_one_hospital_is_tied_to_one_of_several(stated: bool, tmp_path: Path, save_picture: Save) -> None:
    for name in ("A", "B"):
        site = name if stated else ""
        plain_manifest(tmp_path / name, save_picture, [f"{number},{site}" for number in (7, 7, 8)], "patient,site")
    write_manifest(pool_manifests([read_manifest(tmp_path / name) for name in ("A", "B")]), tmp_path / "both")
    both = copied(tmp_path / "both", tmp_path / "out-both")
    alone = copied(tmp_path / "A", tmp_path / "out-A", *(() if stated else ("--site", "a ")))
    assert {picture: both[picture][0] for picture in alone} == {picture: who for picture, (who, _) in alone.items()}
    assert len({patient for patient, _ in both.values()}) == 4
    with pytest.raises(InputError, match="the same patient is in two data sets"):
        assert_no_leak(read_manifest(tmp_path / "out-A"), read_manifest(tmp_path / "out-both"))


def test_numbers_of_another_key_stay_and_are_said_to_be_of_none(tmp_path: Path, save_picture: Save) -> None:
    plain_manifest(tmp_path / "m", save_picture, ["P0012ab34cd56ef78", "p0012AB34cd56ef79", "8", ""], "patient")
    result = run("data", "prepare", tmp_path / "m", "--copy", "--out", tmp_path / "out")
    told = " ".join(result.output.split())
    assert "2 patients keep the numbers that they had, which another key may have given" in told
    assert "files and patients are numbered by the key" in told
    assert list(read_manifest(tmp_path / "out").table["patient"])[:2] == ["P0012ab34cd56ef78", "P0012ab34cd56ef79"]
    again = " ".join(run("data", "prepare", tmp_path / "out", "--copy", "--out", tmp_path / "again").output.split())
    assert "files are numbered by the key" in again
    assert "3 patients keep the numbers" in again


def test_patients_of_a_folder_that_is_copied_are_numbered_by_its_key(tmp_path: Path, save_dicom: Save) -> None:
    for label in ("benign", "malignant"):
        save_dicom(tmp_path / "export" / label / "1", f"MRN-{label}")
    result = run("data", "prepare", tmp_path / "export", "--copy", "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    stored = (tmp_path / "out" / "manifest.yaml").read_text(encoding="utf-8")
    assert "files and patients are numbered by the key" in stored
    assert "another key" not in stored


def test_columns_are_kept_among_copies_only_where_they_are_named(tmp_path: Path, save_picture: Save) -> None:
    plain_manifest(tmp_path / "m", save_picture, ["Dr. Schmidt,3,x"] * 2, "doctor,parity,ward")
    missing = run("data", "prepare", tmp_path / "m", "--copy", "--keep", "wards", "--out", tmp_path / "out")
    refused(missing, "m has no column 'wards' to keep", "did you mean ward?")
    assert not (tmp_path / "out").exists()
    result = run("data", "prepare", tmp_path / "m", "--copy", "--keep", "parity", "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    table = read_manifest(tmp_path / "out").table
    assert list(table["parity"]) == ["3", "3"]
    assert not {"doctor", "ward"} & set(table)


def test_copies_of_a_manifest_keep_the_columns_that_copies_of_its_folder_have(
    tmp_path: Path, save_picture: Save
) -> None:
    for split, label in itertools.product(("train", "test"), ("benign", "malignant")):
        save_picture(tmp_path / "d" / split / label / "1.png")
    rows = [
        f"{split}/{label}/1.png,50,DCIS,{lesion},x"
        for split in ("train", "test")
        for label in CLASSES
        for lesion in "12"
    ]
    (tmp_path / "d" / "labels.csv").write_text(
        "\n".join(["image,Age,pathology,Lesion,Comment", *rows]), encoding="utf-8"
    )
    for data, out, options in (
        ("d", "copy", ("--copy",)),
        ("d", "m", ("--keep", "comment")),
        ("m", "later", ("--copy", "--keep", "COMMENT")),
    ):
        result = run("data", "prepare", tmp_path / data, "--out", tmp_path / out, *options)
        assert result.exit_code == 0, result.output
    tables = [read_manifest(tmp_path / out).table for out in ("copy", "later")]
    columns = ["age", "pathology", "lesion", "lesions", "official_split"]
    assert tables[0][columns].equals(tables[1][columns])
    assert (tables[1][columns].drop(columns="official_split") == ["50", "DCIS", "1", "2"]).all(axis=None)
    assert sorted(tables[1]["official_split"]) == ["test", "test", "train", "train"]
    assert set(tables[1]) - set(tables[0]) == {"Comment"}
    assert list(tables[1]["Comment"]) == ["x"] * 4


def test_copies_leave_a_second_column_of_a_manifests_own_name_behind(tmp_path: Path, save_picture: Save) -> None:
    plain_manifest(tmp_path / "m", save_picture, ["2024,2024-05-17,50,b"] * 2, "study_date,Study Date,Age,Ward")
    result = run("data", "prepare", tmp_path / "m", "--copy", "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert "'study_date' and 'Study Date' both mean study_date and differ in row 2" in " ".join(result.stderr.split())
    text = (tmp_path / "m" / "manifest.csv").read_text(encoding="utf-8")
    (tmp_path / "m" / "manifest.csv").write_text(text.replace("2024-05-17", "2024"), encoding="utf-8")
    result = run("data", "prepare", tmp_path / "m", "--copy", "--keep", "ward", "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    text = (tmp_path / "out" / "manifest.csv").read_text(encoding="utf-8")
    assert text.splitlines()[0].endswith(",frame,study_date,Age,Ward")


def test_notes_that_are_stored_name_no_folder_of_this_machine(
    tmp_path: Path, save_picture: Save, monkeypatch: pytest.MonkeyPatch
) -> None:
    for label in CLASSES:
        save_picture(tmp_path / "d" / "bus" / label / "1.png")
    rows = [f"{label}/1.png,{label}" for label in CLASSES]
    (tmp_path / "d" / "bus" / "labels.csv").write_text("\n".join(["image,patient", *rows]), encoding="utf-8")
    (tmp_path / "k").write_text("0123456789abcdef0123456789abcdef\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path / "d")
    result = run("data", "prepare", ".", "--key", tmp_path / "k", "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    about = yaml.safe_load((tmp_path / "out" / "manifest.yaml").read_text(encoding="utf-8"))
    notes = " ".join(about["notes"])
    assert "read bus, the only folder of d that holds images" in notes
    assert "patients are numbered by the key k (" in notes
    assert str(tmp_path) not in notes


def test_a_mask_that_is_missing_leaves_no_copies_behind(tmp_path: Path, save_picture: Save) -> None:
    plain_manifest(tmp_path / "m", save_picture, ["", "gone.png"], "mask")
    result = run("data", "prepare", tmp_path / "m", "--copy", "--out", tmp_path / "out")
    refused(result, "cannot copy", "gone.png: there is no such file (1 in all)")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("high", [4095, 255])
def test_copies_of_joined_data_sets_have_their_one_range(high: int, tmp_path: Path, save_picture: Save) -> None:
    manifests = []
    for name, top in (("one", 4095), ("two", high)):
        plain_manifest(tmp_path / name, save_picture, ["", ""], "patient")
        manifests.append(read_manifest(tmp_path / name).with_range(ValueRange(0, top)))
    write_manifest(pool_manifests(manifests), tmp_path / "both")
    result = run("data", "prepare", tmp_path / "both", "--copy", "--out", tmp_path / "out")
    if high == 255:
        refused(result, "one + two joins data sets of several ranges of values; copy each by itself")
        assert not (tmp_path / "out").exists()
        return
    assert result.exit_code == 0, result.output
    copies = read_manifest(tmp_path / "out")
    assert copies.info.range == ValueRange(0, 4095)
    assert len(copies.table) == 4


def test_notes_that_quote_names_are_printed_and_not_stored_among_copies(tmp_path: Path, save_picture: Save) -> None:
    for label in ("benign", "malignant"):
        save_picture(tmp_path / "d" / label / "Schmidt_Anna" / "1.png")
        (tmp_path / "d" / label / "Schmidt_Anna" / "letter.txt").write_text("x")
    result = run("data", "prepare", tmp_path / "d", "--copy", "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert "2 files not images: benign/Schmidt_Anna/letter.txt" in " ".join(result.output.split())
    stored = (tmp_path / "out" / "manifest.yaml").read_text()
    assert "Schmidt" not in stored
    assert "2 files copied" in stored


def test_a_key_that_numbered_nobody_is_said(tmp_path: Path, save_picture: Save) -> None:
    for label in ("benign", "malignant"):
        save_picture(tmp_path / "d" / label / "1.png")
    result = run("data", "prepare", tmp_path / "d", "--key", tmp_path / "none", "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert "--key numbered nobody: no patient is known here" in " ".join(result.output.split())
    assert "--key" not in run("data", "prepare", tmp_path / "d", "--out", tmp_path / "without").output


def test_masks_of_frames_have_copies_of_their_own(tmp_path: Path, save_dicom: Save, save_picture: Save) -> None:
    folder = tmp_path / "export"
    save_dicom(folder / "unknown", "1", frames=3)
    for name in ("m1.png", "m2.png"):
        save_picture(folder / name)
    lines = ("image,frame,label,mask", "unknown,1,benign,m1.png", "unknown,3,malignant,m2.png;m1.png")
    (folder / "labels.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    result = run("data", "prepare", folder, "--copy", "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    manifest = read_manifest(tmp_path / "out")
    masks = [[path.read_bytes() for path in manifest.masks(row)] for row in manifest.table.to_dict("records")]
    first, second = ((folder / name).read_bytes() for name in ("m1.png", "m2.png"))
    assert masks == [[first], [second, first]]


@pytest.mark.parametrize(
    ("option", "value"),
    [("--labels", "new.csv"), ("--keep", "nowhere"), ("--study-date", "year"), ("--key", "new.csv")],
)
@pytest.mark.parametrize(
    ("data", "why"),
    [("m/manifest.csv", "is a manifest"), ("m", "holds a manifest"), ("phantom:A", "is simulated")],
)
def test_an_option_without_effect_is_refused(
    data: str, why: str, option: str, value: str, tmp_path: Path, save_picture: Save, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for number in (1, 2):
        save_picture(tmp_path / "m" / f"{number}.png")
    lines = "image,label\n1.png,benign\n2.png,malignant\n"
    for name in ("m/manifest.csv", "new.csv"):
        (tmp_path / name).write_text(lines, encoding="utf-8")
    result = run("data", "prepare", data, option, value, "--out", tmp_path / "out")
    refused(result, f"{option} {value}: ", f"{data} {why}; leave it out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("option", "value"), [("--keep", "nowhere"), ("--labels", "new.csv"), ("--key", "k")])
def test_an_option_without_effect_on_a_public_data_set_is_refused(
    option: str, value: str, workspace: Path, tmp_path: Path
) -> None:
    result = run("data", "prepare", workspace / "BUSBRA", option, value, "--out", tmp_path / "out")
    refused(result, f"{option} {value}: ", "leave it out, or say --source folder")
