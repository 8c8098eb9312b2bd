"""Manifests and sources: what is read, and what is refused with which sentence."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from medsharp.data import Manifest, open_dataset, read_manifest, write_manifest
from medsharp.data.manifest import DatasetInfo, frame_of, make_table
from medsharp.errors import InputError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of two classes with six images each, one with a mask."""
    rng = np.random.default_rng(0)
    root = tmp_path / "hospital"
    for label in ("benign", "malignant"):
        (root / label).mkdir(parents=True)
        for number in range(6):
            Image.fromarray(rng.integers(0, 255, (40, 50), dtype=np.uint8)).save(root / label / f"{number}.png")
    Image.new("L", (50, 40), 255).save(root / "benign" / "0_mask.png")
    return root


def manifest_of(folder: Path, rows: list[str], header: str = "image,label", about: str = "") -> Path:
    path = folder / "manifest.csv"
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    if about:
        (folder / "manifest.yaml").write_text(about, encoding="utf-8")
    return path


def test_folder_of_classes_lists_images_and_ties_masks_to_them(folder: Path) -> None:
    manifest = open_dataset(folder)
    assert manifest.info.classes == ("benign", "malignant")
    assert len(manifest.table) == 12
    first = manifest.table.iloc[0]
    assert (first["image"], first["mask"]) == ("benign/0.png", "benign/0_mask.png")


def test_manifest_is_read_back_as_written_also_away_from_its_images(folder: Path, tmp_path: Path) -> None:
    manifest = open_dataset(folder)
    write_manifest(manifest, tmp_path / "elsewhere")
    again = read_manifest(tmp_path / "elsewhere")
    assert again.table.equals(manifest.table)
    assert again.info == manifest.info
    assert again.path(again.table.at[0, "image"]).is_file()


@pytest.mark.parametrize("about", ["", "name: ours\nroot: hospital\n"])
def test_manifest_is_found_by_a_relative_path(folder: Path, about: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = manifest_of(folder, ["benign/0.png,benign", "malignant/0.png,malignant"])
    monkeypatch.chdir(folder.parent)
    if about:  # beside the images' folder instead of in it
        path = path.rename(folder.parent / "manifest.csv")
        path.with_name("manifest.yaml").write_text(about, encoding="utf-8")
    manifest = read_manifest(path.relative_to(folder.parent))
    assert manifest.path("benign/0.png").is_file()
    monkeypatch.chdir(folder.parent.parent)
    assert len(open_dataset(path.relative_to(folder.parent.parent)).table) == 2


def test_extra_columns_are_kept_and_a_byte_order_mark_is_no_part_of_a_name(folder: Path) -> None:
    path = folder / "manifest.csv"
    path.write_text("\ufeffimage,label,age\nbenign/0.png,benign,51\nmalignant/0.png,malignant,62\n", encoding="utf-8")
    assert list(read_manifest(path).table["age"]) == ["51", "62"]


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("benign/1.png,benin", r"row 3: label 'benin' is not one of benign, malignant; did you mean benign\?"),
        ("../secret.png,benign", r"row 3: path '../secret\.png' must stay inside"),
        ("/etc/passwd,benign", "row 3: path '/etc/passwd' must stay inside"),
        ("C:\\scans\\1.png,benign", "row 3: path .* must stay inside"),
        ("benign/0.png,benign", r"row 3: image 'benign/0\.png' stands in row 2 already"),
        ("./benign/0.png,malignant", r"row 3: image '\./benign/0\.png' stands in row 2 already"),
        ("benign/99.png,benign", r"row 3: image 'benign/99\.png' is not in"),
        ("benign/1.png", "row 3: 1 values for 2 columns"),
        (",benign", "row 3: no image is named"),
        ("C:scan.png,benign", "row 3: path .* must stay inside"),
        ("benign/1.png,benign,late", "row 3: 3 values for 2 columns"),
    ],
)
def test_wrong_row_is_named_with_its_number(folder: Path, row: str, words: str) -> None:
    path = manifest_of(folder, ["benign/0.png,benign", row], about="name: ours\nclasses: [benign, malignant]\n")
    with pytest.raises(InputError, match=words):
        read_manifest(path)


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ("picture,label", "no column 'image'"),
        ("image,lable", r"no column 'label'; did you mean lable\?"),
        ("image,label,label", "same column twice"),
    ],
)
def test_wrong_header_is_a_sentence(folder: Path, header: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        read_manifest(manifest_of(folder, ["benign/0.png,benign"], header))


@pytest.mark.parametrize("content", [b"", b"image,label\n", b"\xff\xfei\x00m\x00"])
def test_empty_or_foreign_file_is_a_sentence(folder: Path, content: bytes) -> None:
    path = folder / "manifest.csv"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"manifest\.csv"):
        read_manifest(path)


def test_images_of_classes_not_used_stay_visible_with_the_reason(folder: Path) -> None:
    (folder / "normal").mkdir()
    Image.new("L", (40, 40)).save(folder / "normal" / "1.png")
    manifest = open_dataset(folder, classes=("benign", "malignant"))
    assert len(manifest.table) == 13
    assert len(manifest.included) == 12
    assert list(manifest.table.loc[manifest.table["label"] == "normal", "exclude"]) == ["class not used: normal"]
    assert any("1 images of class normal" in note for note in manifest.notes)


@pytest.mark.parametrize("label", ["benin", "Benign"])
def test_a_misspelt_label_is_refused_rather_than_left_out_as_another_class(folder: Path, label: str) -> None:
    path = manifest_of(folder, ["benign/0.png,benign", "malignant/0.png,malignant", f"benign/1.png,{label}"])
    with pytest.raises(InputError, match=rf"row 4: label '{label}' is not one of .*; did you mean benign\?"):
        open_dataset(path, classes=("benign", "malignant"))


def test_asking_for_a_class_without_images_offers_the_nearest(folder: Path) -> None:
    with pytest.raises(InputError, match=r"no images of class 'malignent'.*did you mean malignant\?"):
        open_dataset(folder, classes=("benign", "malignent"))


def test_nothing_there_and_nothing_known_are_sentences(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        open_dataset(tmp_path / "nowhere")
    with pytest.raises(InputError, match="holds no images that are known"):
        open_dataset(tmp_path)
    (tmp_path / "readme.pdf").write_text("x")
    with pytest.raises(InputError, match="is a file"):
        open_dataset(tmp_path / "readme.pdf")


def test_one_class_only_is_a_sentence(folder: Path) -> None:
    (folder / "malignant").rename(folder.parent / "away")
    with pytest.raises(InputError, match="one class only"):
        open_dataset(folder)


def test_busi_is_recognised_and_counted(real_data: Path, tmp_path: Path) -> None:
    (tmp_path / "unpacked").symlink_to(real_data / "Dataset_BUSI_with_GT")
    for path in (real_data / "Dataset_BUSI_with_GT", tmp_path):
        manifest = open_dataset(path)
        assert manifest.info.name == "BUSI"
        assert manifest.table["label"].value_counts().to_dict() == {"benign": 437, "malignant": 210, "normal": 133}
    assert (manifest.table["mask"].str.count(";") >= 1).sum() == 17
    assert (manifest.table["mask"] == "").sum() == 0


def test_folder_of_several_data_sets_asks_which(real_data: Path) -> None:
    with pytest.raises(InputError, match=r"holds BUSBRA, Dataset_BUSI_with_GT.*; give one of them"):
        open_dataset(real_data)


def test_busbra_is_recognised_with_its_patients(real_data: Path) -> None:
    manifest = open_dataset(real_data / "BUSBRA")
    assert manifest.info.name == "BUS-BRA"
    assert manifest.table["label"].value_counts().to_dict() == {"benign": 1268, "malignant": 607}
    assert manifest.table["patient"].nunique() == 1064
    assert manifest.table["device"].nunique() == 4
    assert (manifest.table["mask"] != "").all()


def rows_with(folder: Path, header: str, *rows: str) -> Manifest:
    return read_manifest(manifest_of(folder, list(rows), header))


def test_windows_paths_are_those_of_the_files_here(folder: Path) -> None:
    manifest = rows_with(
        folder, "image,label,mask", "benign\\0.png,benign,benign\\0_mask.png", "malignant/0.png,malignant,"
    )
    assert list(manifest.table["image"]) == ["benign/0.png", "malignant/0.png"]
    assert manifest.masks(manifest.table.iloc[0])[0].is_file()
    assert manifest.notes == ("manifest.csv: 2 paths with backslashes, which are read as slashes",)


def test_name_with_a_backslash_that_is_there_is_that_file(folder: Path) -> None:
    (folder / "benign" / "0.png").rename(folder / "benign\\0.png")
    manifest = rows_with(folder, "image,label", "benign\\0.png,benign", "malignant/0.png,malignant")
    assert manifest.path(manifest.table.at[0, "image"]).is_file()
    assert manifest.notes == ()


@pytest.mark.parametrize("there", ["NFC", "NFD"])
@pytest.mark.parametrize("named", ["NFC", "NFD"])
def test_accents_are_one_letter_or_two_and_name_one_file(folder: Path, there: str, named: str) -> None:
    name = "benign/Mu\u0308ller/gru\u0308n.png"
    file = folder / unicodedata.normalize(there, name)  # type: ignore[arg-type]
    file.parent.mkdir()
    (folder / "benign/0.png").rename(file)
    given = unicodedata.normalize(named, name)  # type: ignore[arg-type]
    manifest = rows_with(folder, "image,label", f"{given},benign", "malignant/0.png,malignant")
    assert manifest.path(manifest.table.at[0, "image"]) == file


def test_case_of_a_path_does_not_matter_where_one_file_fits(folder: Path) -> None:
    manifest = rows_with(folder, "image,label", "Benign/0.PNG,benign", "malignant/0.png,malignant")
    assert manifest.table.at[0, "image"] == "benign/0.png"
    assert manifest.notes == ("manifest.csv: 1 path in other capitals, dashes or blanks than on disk",)
    (folder / "benign/0.Png").write_bytes(b"")
    with pytest.raises(InputError, match=r"row 2: image 'Benign/0\.PNG' is not in"):
        rows_with(folder, "image,label", "Benign/0.PNG,benign")


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_links_of_the_user_are_followed_and_read_back_as_written(folder: Path, tmp_path: Path, kind: str) -> None:
    farm = tmp_path / "farm"
    if kind == "file":
        for file in folder.rglob("*.png"):
            link = farm / file.relative_to(folder)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(file)
    else:
        farm.mkdir()
        for name in ("benign", "malignant"):
            (farm / name).symlink_to(folder / name)
    manifest = open_dataset(farm)
    write_manifest(manifest, farm)
    assert read_manifest(farm).table.equals(manifest.table)
    write_manifest(manifest, tmp_path / "elsewhere")
    again = read_manifest(tmp_path / "elsewhere")
    assert again.table.equals(manifest.table)
    assert all(again.path(name).is_file() for name in again.table["image"])


@pytest.mark.parametrize("name", ["outside.png", "away/0.png"])
def test_link_of_another_that_leaves_the_folder_is_refused(
    folder: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "away").mkdir()
    for place in ("secret.png", "away/0.png"):
        (tmp_path / place).write_bytes(b"")
    (folder / "outside.png").symlink_to(tmp_path / "secret.png")
    (folder / "away").symlink_to(tmp_path / "away")
    (folder / "inside.png").symlink_to(folder / "benign/0.png")
    assert len(rows_with(folder, "image,label", f"{name},benign", "inside.png,benign").table) == 2
    lstat = Path.lstat
    monkeypatch.setattr(Path, "lstat", lambda path: os.stat_result([*lstat(path)[:4], 4711, *lstat(path)[5:]]))
    with pytest.raises(InputError, match=r"row 2: '.*' is a link that leaves the data folder, and neither you nor"):
        rows_with(folder, "image,label", f"{name},benign")
    assert len(rows_with(folder, "image,label", "inside.png,benign").table) == 1


def test_link_that_leads_nowhere_is_a_missing_image(folder: Path) -> None:
    (folder / "gone.png").symlink_to(folder / "nothing.png")
    with pytest.raises(InputError, match=r"row 2: image 'gone\.png' is not in"):
        rows_with(folder, "image,label", "gone.png,benign")


@pytest.mark.parametrize("cell", ["0", "FALSE", "no", "nein", " ", "-"])
def test_exclude_that_says_no_excludes_nothing(folder: Path, cell: str) -> None:
    manifest = rows_with(folder, "image,label,exclude", f"benign/0.png,benign,{cell}", "benign/1.png,benign,blurred")
    assert list(manifest.table["exclude"]) == ["", "blurred"]
    assert any("exclude is" in note for note in manifest.notes) == bool(cell.strip())


@pytest.mark.parametrize("cell", ["1", "TRUE", "yes", "wahr"])
def test_exclude_that_says_yes_excludes_without_a_reason(folder: Path, cell: str) -> None:
    manifest = rows_with(folder, "image,label,exclude", f"benign/0.png,benign,{cell}", "benign/1.png,benign,")
    assert list(manifest.table["exclude"]) == ["excluded in the manifest", ""]


@pytest.mark.parametrize("heading", ["PatientID", "Patient ID", "patient_id", "MRN"])
def test_identifiers_of_patients_are_patients(folder: Path, heading: str) -> None:
    path = folder / "manifest.csv"
    path.write_text(f"image,label,{heading}\nbenign/0.png,benign,7\nmalignant/0.png,malignant,8\n")
    assert list(read_manifest(path).table["patient"]) == ["7", "8"]
    path.write_text(f"image,label,patient,{heading}\nbenign/0.png,benign,7,1\nmalignant/0.png,malignant,8,2\n")
    assert list(read_manifest(path).table["patient"]) == ["7", "8"]
    path.write_text(f"image,label,patient,{heading}\nbenign/0.png,benign,7,1\nmalignant/0.png,malignant,8,1\n")
    with pytest.raises(InputError, match=f"'patient' and '{heading}' both mean patient and rows 2 and 3 have one"):
        read_manifest(path)


def test_columns_are_known_however_they_are_written(folder: Path) -> None:
    manifest = rows_with(
        folder, "IMAGE;Label; Patient ;BI-RADS;Study Date;Age", "benign/0.png;benign;7;4b;2024-01-02;51"
    )
    row = manifest.table.iloc[0]
    assert [row[name] for name in ("patient", "birads", "study_date", "Age")] == ["7", "4b", "2024-01-02", "51"]


@pytest.mark.parametrize("classes", ["benign", "{benign: 0}"])
def test_classes_of_a_manifest_are_a_list(folder: Path, classes: str) -> None:
    (folder / "manifest.csv").write_text("image,label\nbenign/0.png,benign\n")
    (folder / "manifest.yaml").write_text(f"classes: {classes}\n")
    with pytest.raises(InputError, match=r"manifest\.yaml: classes must be a list"):
        read_manifest(folder)
    (folder / "manifest.yaml").write_text("classes: [0, 1]\n")
    with pytest.raises(InputError, match="row 2: label 'benign' is not one of 0, 1"):
        read_manifest(folder)


@pytest.mark.parametrize(("given", "split"), [("TRAIN", "train"), ("Validation", "val"), ("testing", "test")])
def test_splits_are_known_by_their_usual_names(folder: Path, given: str, split: str) -> None:
    assert rows_with(folder, "image,label,split", f"benign/0.png,benign,{given}").table.at[0, "split"] == split
    with pytest.raises(InputError, match="row 2: split 'holdout' is not one of train, val, test"):
        rows_with(folder, "image,label,split", "benign/0.png,benign,holdout")


def test_digest_is_checked_for_its_form(folder: Path) -> None:
    digest = "AB" * 32
    assert rows_with(folder, "image,label,sha256", f"benign/0.png,benign,{digest}").table.at[0, "sha256"] == "ab" * 32
    with pytest.raises(InputError, match="row 2: sha256 'abc' is not 64 hexadecimal digits"):
        rows_with(folder, "image,label,sha256", "benign/0.png,benign,abc")


def test_frames_of_a_clip_are_rows_and_each_stands_once(folder: Path) -> None:
    manifest = rows_with(folder, "image,label,frame", "benign/0.png,benign,1", "benign/0.png,benign,2.0")
    assert [frame_of(row) for row in manifest.table.to_dict("records")] == [1, 2]
    assert frame_of({}) == "sharpest"
    with pytest.raises(InputError, match=r"row 4: image 'benign/0\.png', frame 2 stands in row 3 already"):
        rows_with(folder, "image,label,frame", "benign/0.png,b,1", "benign/0.png,b,2", "benign/0.png,b,2.0")
    with pytest.raises(InputError, match=r"row 3: .* stands in row 2 already; number its frames in every row"):
        rows_with(folder, "image,label,frame", "benign/0.png,b,1", "benign/0.png,b,")
    for wrong in ("0", "-1", "two", "1.5"):
        with pytest.raises(InputError, match=f"row 2: frame '{wrong}' is no number of a frame"):
            rows_with(folder, "image,label,frame", f"benign/0.png,b,{wrong}")


def test_merged_cells_of_patients_and_sites_are_filled_and_announced(folder: Path) -> None:
    rows = [f"benign/{n}.png,benign,{'' if n % 2 else f'P{n}'},{'' if n % 2 else 'Clinic'}" for n in range(6)]
    manifest = rows_with(folder, "image,label,patient,site", *rows)
    assert list(manifest.table["patient"]) == ["P0", "P0", "P2", "P2", "P4", "P4"]
    assert set(manifest.table["site"]) == {"Clinic"}
    assert [note.split(":")[1].split(" is ")[0].strip() for note in manifest.notes] == ["patient", "site"]


def test_patients_that_are_not_known_are_not_taken_for_merged_cells(folder: Path) -> None:
    for patients in (["", "P1", "", "P2", "", ""], ["P1", "P1", "", "P2", "P2", ""], ["P1", "", "", "", "", ""]):
        rows = [f"benign/{n}.png,benign,{patient}" for n, patient in enumerate(patients)]
        assert list(rows_with(folder, "image,label,patient", *rows).table["patient"]) == patients


@pytest.mark.parametrize("age", ["new", "old", "old, audited, alone"])
def test_patients_that_are_not_known_stay_unknown_in_what_was_written_here(folder: Path, age: str) -> None:
    patients = ["P1", "", "P2", "", "P3", "", ""]
    sites = ["North", "", "North", "", "", "", ""]
    names = [f"{'benign' if number < 4 else 'malignant'}/{number % 4}.png" for number in range(7)]
    rows = [
        {"image": name, "label": name.split("/")[0], "patient": patient, "site": site}
        for name, patient, site in zip(names, patients, sites, strict=True)
    ]
    table = make_table(rows)
    if age == "old, audited, alone":
        table["sha256"] = "a" * 64
    write_manifest(Manifest(table, DatasetInfo("ours", ("benign", "malignant")), folder), folder)
    about = folder / "manifest.yaml"
    assert "empty_cells: unknown" in about.read_text()
    if age == "old":
        about.write_text(about.read_text().replace("empty_cells: unknown\n", ""))
    elif age != "new":
        about.unlink()
    manifest = read_manifest(folder)
    assert list(manifest.table["patient"]) == patients
    assert list(manifest.table["site"]) == sites
    assert manifest.notes == ()


def test_merged_cells_in_a_table_of_all_columns_by_hand_are_filled(folder: Path) -> None:
    rows = [f"benign/{n}.png,benign,{'' if n % 2 else f'P{n}'}," + "," * 9 for n in range(6)]
    header = "image,label,patient,site,device,view,birads,histology,mask,split,group,exclude,sha256"
    manifest = read_manifest(manifest_of(folder, rows, header, about="name: ours\nlicence: CC0\n"))
    assert list(manifest.table["patient"]) == ["P0", "P0", "P2", "P2", "P4", "P4"]


def test_site_below_another_patient_is_not_filled(folder: Path) -> None:
    rows = ["benign/0.png,benign,1,A", "benign/1.png,benign,2,", "benign/2.png,benign,1,", "benign/3.png,benign,,"]
    assert list(rows_with(folder, "image,label,patient,site", *rows).table["site"]) == ["A", "", "", ""]


def test_site_in_several_spellings_is_one_the_most_frequent(folder: Path) -> None:
    rows = [f"benign/{n}.png,benign,{site}" for n, site in enumerate(["North", "NORTH", "north ", "North", "South"])]
    manifest = rows_with(folder, "image,label,site", *rows)
    assert list(manifest.table["site"]) == ["North"] * 4 + ["South"]
    assert manifest.notes == ("manifest.csv: site 'North', 'north', 'NORTH' are one site, 'North'",)


def test_row_numbers_are_those_of_the_file_through_blank_rows_and_later_steps(folder: Path) -> None:
    manifest = rows_with(folder, "image,label", "benign/0.png,benign", "", "", "malignant/0.png,malignant", "")
    assert [manifest.line(row) for row in manifest.table.index] == [2, 5]
    later = manifest.replace(table=manifest.table[manifest.table["label"] == "malignant"])
    assert later.line(0) == 5
    with pytest.raises(InputError, match="row 6: label 'benin'"):
        open_dataset(
            manifest_of(folder, ["benign/0.png,benign", "", "malignant/0.png,malignant", "", "benign/1.png,benin"]),
            classes=("benign", "malignant"),
        )


def test_manifest_may_be_a_workbook_or_separated_by_tabs(folder: Path) -> None:
    table = pd.DataFrame({"image": ["benign/0.png", "malignant/0.png"], "label": ["benign", "malignant"], "patient": 7})
    table.to_excel(folder / "manifest.xlsx", index=False)
    for path in (folder, folder / "manifest.xlsx"):
        assert list(open_dataset(path).table["patient"]) == ["7", "7"]
    (folder / "manifest.xlsx").unlink()
    table.to_csv(folder / "manifest.tsv", index=False, sep="\t")
    assert list(open_dataset(folder).table["patient"]) == ["7", "7"]


def test_labels_that_differ_in_case_only_are_refused_without_classes_too(folder: Path) -> None:
    with pytest.raises(InputError, match=r"row 4: label 'Benign' is not one of benign, malignant; did you mean benign"):
        rows_with(
            folder,
            "image,label",
            "benign/0.png,benign",
            "malignant/0.png,malignant",
            "benign/1.png,Benign",
            "benign/2.png,benign",
        )


def test_file_whose_name_is_no_text_is_a_sentence() -> None:
    name = os.fsdecode(b"benign/M\xfcller.png")
    with pytest.raises(InputError, match=r"the name of file 'benign/M.ller\.png' is not in UTF-8; rename it"):
        make_table([{"image": "benign/1.png", "label": "benign"}, {"image": name, "label": "benign"}])
