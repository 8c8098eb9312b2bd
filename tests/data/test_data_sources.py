"""Every known data set, in the layout that was published, small."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import openpyxl
import pytest
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid
from scipy.io import savemat
from typer.testing import CliRunner

from medsharp.cli import app
from medsharp.data import list_sources, open_dataset
from medsharp.errors import InputError


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def picture(path: Path, color: Any = None, size: tuple[int, int] = (40, 30)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if color is None:
        seed = sum(path.as_posix().encode())
        pixels = np.random.default_rng(seed).integers(0, 255, size[::-1], dtype=np.uint8)
        Image.fromarray(pixels).save(path)
    else:
        Image.new("RGB" if isinstance(color, tuple) else "L", size, color).save(path)


def workbook(path: Path, rows: list[list[Any]], sheet: str = "Sheet1") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    book = openpyxl.Workbook()
    book.active.title = sheet
    for row in rows:
        book.active.append(row)
    book.save(path)


def breast(root: Path) -> None:
    header = ["CaseID", "Image_filename", "Mask_tumor_filename", "Mask_other_filename", "Pixel_size", "Age"]
    header += ["Tissue_composition", "BIRADS", "Verification", "Diagnosis", "Classification"]
    images = "BrEaST-Lesions_USG-images_and_masks"
    rows = [
        [
            1,
            "case001.png",
            "case001_tumor.png",
            "Not applicable",
            0.0071,
            57,
            "fat",
            "2",
            "confirmed by biopsy",
            "cyst",
            "benign",
        ],
        [
            2,
            "case002.png",
            "case002_tumor.png",
            "case002_other1.png",
            0.0068,
            "not available",
            "fat",
            "5",
            "confirmed by biopsy",
            "IDC",
            "malignant",
        ],
        [
            3,
            "case003.png",
            "Not applicable",
            "Not applicable",
            0.0068,
            41,
            "fat",
            "1",
            "follow-up",
            "Not applicable",
            "normal",
        ],
    ]
    workbook(root / "BrEaST-Lesions-USG-clinical-data-Dec-15-2023.xlsx", [header, *rows])
    for name in ("case001", "case001_tumor", "case002", "case002_tumor", "case002_other1", "case003"):
        picture(root / images / f"{name}.png")


def busuclm(root: Path) -> None:
    lines = ["Image;Resolution;Doppler;Marks;Combined;Label"]
    for name, label in (
        ("ALWI_000", "Benign"),
        ("CHCO_001", "Malignant"),
        ("CHVI_001", "Malignant"),
        ("CHVI_002", "Normal"),
    ):
        lines.append(f"{name}.png;40x30;No;Yes;No;{label}")
        picture(root / "images" / f"{name}.png")
        picture(
            root / "masks" / f"{name}.png",
            {"Benign": (0, 255, 0), "Malignant": (255, 0, 0), "Normal": (0, 0, 0)}[label],
        )
    (root / "INFO.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def busuc(root: Path) -> None:
    for label in ("Benign", "Malignant"):
        for number in range(2):
            picture(root / label / "images" / f"{number:03d}.png")
            picture(root / label / "masks" / f"{number:03d}.png", 255)


def busis(root: Path) -> None:
    lines = ["img name,Ground Truth Name,tumor type", "case001,case001_GT,B", "case012,case012_GT,M", ",,"]
    (root).mkdir()
    (root / "BUSIS562.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    for name in ("case1", "case12"):
        picture(root / "Original" / f"{name}.bmp")
        picture(root / "GT" / f"{name}_GT.bmp", 255)


def udiat(root: Path) -> None:
    workbook(root / "DatasetB.xlsx", [["Image", "Type"], [1, "Benign"], ["000002", "Malignant"]])
    for name in ("000001", "000002"):
        picture(root / "original" / f"{name}.png")
        picture(root / "GT" / f"{name}.png", 255)


def oasbud(root: Path) -> None:
    fields = [(name, object) for name in ("id", "rf1", "rf2", "roi1", "roi2", "birads", "class")]
    data = np.zeros((1, 3), dtype=fields)
    rng = np.random.default_rng(0)
    for number, kind in enumerate((0, 1, 1)):
        echoes = rng.normal(size=(400, 64)) * np.exp(-np.arange(400) / 200)[:, None]
        region = np.zeros((400, 64))
        region[100:200, 20:40] = 1
        data[0, number] = (f"p{min(number, 1)}", echoes, echoes[::-1], region, region, 4, kind)
    root.mkdir()
    savemat(root / "OASBUD.mat", {"data": data})


def gdph(root: Path) -> None:
    rows = [["ID", "BIRADS-reader1", "BIRADS-reader2", "fold"]]
    for site, numbers in (("GDPH", (443, 1116)), ("SYSUCC", (0, 1))):
        for label, number in zip(("benign", "malignant"), numbers, strict=True):
            picture(root / site / f"{label}({number}).png")
            rows.append([f"{label}({number})", "4a", 3, 2])
    workbook(root / "BIRADS&FOLD.xlsx", rows, "prediction")


def stu(root: Path) -> None:
    for number in (1, 2, 10):
        picture(root / "Hospital" / f"Test_Image_{number}.png")
        picture(root / "Hospital" / f"mask_{number}.png", 255)


def breastmnist(root: Path) -> None:
    rng = np.random.default_rng(0)
    parts = {"train": 546, "val": 78, "test": 156}
    arrays = {f"{part}_images": rng.integers(0, 255, (count, 28, 28), dtype=np.uint8) for part, count in parts.items()}
    arrays |= {f"{part}_labels": np.arange(count)[:, None] % 2 for part, count in parts.items()}
    root.mkdir()
    np.savez_compressed(root / "some_images.npz", **arrays)


def dicom_file(path: Path, patient: str) -> None:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    file = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    file.PatientID, file.PatientName = patient, "Secret^Name"
    file.StudyInstanceUID, file.SOPInstanceUID = generate_uid(), meta.MediaStorageSOPInstanceUID
    file.SOPClassUID, file.Modality = SecondaryCaptureImageStorage, "US"
    file.Manufacturer, file.ManufacturerModelName = "ACME", "Scan 1"
    file.Rows, file.Columns, file.SamplesPerPixel = 30, 40, 1
    file.PhotometricInterpretation, file.BitsAllocated, file.BitsStored, file.HighBit = "MONOCHROME2", 8, 8, 7
    file.PixelRepresentation = 0
    file.PixelData = np.random.default_rng(len(patient)).integers(0, 255, (30, 40), dtype=np.uint8).tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    file.save_as(path, enforce_file_format=True)


def dicom(root: Path) -> None:
    for name, patient in (("series1/a", "ID-1"), ("series1/b", "ID-1"), ("series2/c", "ID-22")):
        dicom_file(root / f"{name}.dcm", patient)
    (root / "labels.csv").write_text("image,label,birads\nseries1,benign,3\nc.dcm,malignant,5\n", encoding="utf-8")


CASES: dict[str, tuple[Callable[[Path], None], int, dict[str, int]]] = {
    "BrEaST": (breast, 3, {"benign": 1, "malignant": 1, "normal": 1}),
    "BUS-UCLM": (busuclm, 4, {"benign": 1, "malignant": 2, "normal": 1}),
    "BUS-UC": (busuc, 4, {"benign": 2, "malignant": 2}),
    "BUSIS": (busis, 2, {"benign": 1, "malignant": 1}),
    "UDIAT": (udiat, 2, {"benign": 1, "malignant": 1}),
    "OASBUD": (oasbud, 6, {"benign": 2, "malignant": 4}),
    "GDPH&SYSUCC": (gdph, 4, {"benign": 2, "malignant": 2}),
    "STU-Hospital": (stu, 3, {"": 3}),
    "BreastMNIST": (breastmnist, 780, {"benign": 390, "malignant": 390}),
    "DICOM folder": (dicom, 3, {"benign": 2, "malignant": 1}),
}


@pytest.fixture
def make(tmp_path: Path) -> Callable[[str], Path]:
    """Make a data set in a folder whose name says nothing."""

    def build(name: str) -> Path:
        CASES[name][0](tmp_path / "folder")
        return tmp_path / "folder"

    return build


def test_every_source_is_tested_or_verified() -> None:
    assert {source.name for source in list_sources() if not source.verified} == set(CASES)


@pytest.mark.parametrize("name", CASES)
def test_is_recognised_by_its_layout_and_read(name: str, make: Callable[[str], Path]) -> None:
    root = make(name)
    recognised = [source.name for source in list_sources() if source.matches(root)]
    inside = [source.name for source in list_sources() for child in root.iterdir() if source.matches(child)]
    assert recognised == [name] or (recognised == [] and inside == [name])
    manifest = open_dataset(root)
    _, count, labels = CASES[name]
    assert len(manifest.table) == count
    assert manifest.table["label"].value_counts().to_dict() == labels
    for row in manifest.table.to_dict("records"):
        assert manifest.path(row["image"]).is_file()
        assert all(mask.is_file() for mask in manifest.masks(row))
    if name != "DICOM folder":
        assert manifest.info.name == name
        assert manifest.info.doi
        assert manifest.info.citation


@pytest.mark.parametrize("name", CASES)
def test_no_other_source_takes_it_for_its_own(name: str, make: Callable[[str], Path]) -> None:
    root = make(name)
    places = [root, *(child for child in root.iterdir() if child.is_dir())]
    assert {source.name for source in list_sources() for place in places if source.matches(place)} == {name}


def test_clinical_facts_are_kept(make: Callable[[str], Path]) -> None:
    table = open_dataset(make("BrEaST")).table
    assert list(table["birads"]) == ["2", "5", "1"]
    assert list(table["age"]) == ["57", "", "41"]
    assert table.loc[0, "verification"] == "confirmed by biopsy"
    assert list(table["histology"]) == ["cyst", "IDC", ""]
    assert table.loc[2, "mask"] == ""


def test_patients_of_busuclm_are_prefixes_and_two_of_them_are_one(make: Callable[[str], Path]) -> None:
    table = open_dataset(make("BUS-UCLM")).table
    assert list(table["patient"]) == ["ALWI", "CHVI", "CHVI", "CHVI"]
    assert list(table["marks"]) == ["yes"] * 4
    assert table.loc[3, "mask"] == ""


def test_echoes_become_an_image_with_square_pixels(make: Callable[[str], Path]) -> None:
    manifest = open_dataset(make("OASBUD"))
    image = np.asarray(Image.open(manifest.path("001-1.png")))
    mask = np.asarray(Image.open(manifest.path("001-1_mask.png")))
    assert image.shape == mask.shape == (round(400 * 1540 / 80e6 / (38e-3 / 64)), 64)
    # The echoes fade with depth, and the second plane is the first upside down.
    assert image[: len(image) // 3].mean() > image[-len(image) // 3 :].mean() + 20
    assert set(np.unique(mask)) == {0, 255}
    assert list(manifest.table["patient"]) == ["p0", "p0", "p1", "p1", "p1", "p1"]
    assert list(manifest.table["birads"].unique()) == ["4"]


def test_malignant_is_zero_in_breastmnist(make: Callable[[str], Path], cache: Path) -> None:
    root = make("BreastMNIST")
    table = open_dataset(root / "some_images.npz").table
    assert list(table["label"])[:2] == ["malignant", "benign"]
    assert list(table["official_split"].unique()) == ["train", "val", "test"]
    assert set(table["split"]) == {""}
    before = {file: file.stat().st_mtime_ns for file in cache.rglob("*.png")}
    open_dataset(root)
    assert {file: file.stat().st_mtime_ns for file in cache.rglob("*.png")} == before


def test_dicom_patients_are_numbered_and_named_nowhere(make: Callable[[str], Path]) -> None:
    table = open_dataset(make("DICOM folder")).table
    assert list(table["patient"]) == ["1", "1", "2"]
    assert list(table["birads"]) == ["3", "3", "5"]
    assert set(table["device"]) == {"ACME Scan 1"}
    assert "Secret" not in table.to_csv()
    assert "ID-1" not in table.to_csv()


def test_dicom_files_without_labels_are_for_prediction(tmp_path: Path) -> None:
    dicom_file(tmp_path / "flat" / "IM0001", "x")
    assert list(open_dataset(tmp_path / "flat").table["label"]) == [""]


def test_other_files_with_the_same_arrays_are_no_breastmnist(make: Callable[[str], Path]) -> None:
    root = make("BreastMNIST")
    arrays = dict(np.load(root / "some_images.npz"))
    arrays["val_images"], arrays["val_labels"] = arrays["val_images"][1:], arrays["val_labels"][1:]
    np.savez_compressed(root / "some_images.npz", **arrays)
    with pytest.raises(InputError, match="is a file; give a manifest"):
        open_dataset(root / "some_images.npz")


def test_images_of_guangzhou_in_one_folder_are_checked_against_their_list(tmp_path: Path) -> None:
    for name in ("benign(0)", "benign(1)", "malignant(0)"):
        picture(tmp_path / "img" / f"{name}.png")
    lines = ["name,label", "benign(0).png,0", "benign(1).png,0", "malignant(0).png,1"]
    (tmp_path / "label.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    manifest = open_dataset(tmp_path)
    assert manifest.info.name == "GDPH&SYSUCC"
    assert list(manifest.table["label"]) == ["benign", "benign", "malignant"]
    assert set(manifest.table["site"]) == {""}
    _replace(tmp_path / "label.csv", "malignant(0).png,1", "malignant(0).png,0")
    with pytest.raises(InputError, match=r"row 4: label '0' does not belong to malignant\(0\).png"):
        open_dataset(tmp_path)


def test_hospitals_of_guangzhou_are_two_sites(make: Callable[[str], Path]) -> None:
    table = open_dataset(make("GDPH&SYSUCC")).table
    assert table["site"].nunique() == 2
    assert list(table["birads"].unique()) == ["4a"]
    assert list(table["birads_reader2"].unique()) == ["3"]


@pytest.mark.parametrize(
    ("name", "damage", "words"),
    [
        (
            "BrEaST",
            lambda r: (r / "BrEaST-Lesions_USG-images_and_masks" / "case002.png").unlink(),
            "row 3: image case002.png is missing",
        ),
        (
            "BrEaST",
            lambda r: (r / "BrEaST-Lesions_USG-images_and_masks" / "case001_tumor.png").unlink(),
            "row 2: mask case001_tumor.png is missing",
        ),
        ("BUS-UCLM", lambda r: (r / "images" / "ALWI_000.png").unlink(), "row 2: images/ALWI_000.png is missing"),
        ("BUS-UCLM", lambda r: _replace(r / "INFO.csv", "Benign", "Begnin"), "row 2: Label 'Begnin' is not known"),
        ("BUSIS", lambda r: _replace(r / "BUSIS562.csv", ",M", ",X"), "row 3: tumor type 'X' is not known"),
        ("UDIAT", lambda r: (r / "original" / "000002.png").unlink(), "row 3: original/000002.png is missing"),
        ("BUS-UC", lambda r: [f.unlink() for f in (r / "Benign" / "images").iterdir()], "holds no images"),
        ("GDPH&SYSUCC", lambda r: picture(r / "GDPH" / "benign(7).png"), "no row with ID benign(7)"),
        ("DICOM folder", lambda r: _replace(r / "labels.csv", "c.dcm", "d.dcm"), "row 3: 'd.dcm' names no DICOM file"),
        (
            "DICOM folder",
            lambda r: _replace(r / "labels.csv", "c.dcm", "series1/a.dcm"),
            "row 3: series1/a.dcm has label 'benign' already",
        ),
    ],
)
def test_what_is_wrong_is_one_sentence(
    name: str, damage: Callable[[Path], object], words: str, make: Callable[[str], Path]
) -> None:
    root = make(name)
    damage(root)
    with pytest.raises(InputError, match=words.replace("(", r"\(").replace(")", r"\)")):
        open_dataset(root)


def _replace(path: Path, old: str, new: str) -> None:
    path.write_text(path.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")


def test_a_workbook_that_is_cut_off_is_no_known_data_set(make: Callable[[str], Path]) -> None:
    root = make("UDIAT")
    table = root / "DatasetB.xlsx"
    table.write_bytes(table.read_bytes()[:500])
    with pytest.raises(InputError, match="no images of class 'benign'"):
        open_dataset(root, classes=("benign", "malignant"))


def test_an_array_file_that_is_cut_off_leaves_nothing_behind(make: Callable[[str], Path], cache: Path) -> None:
    root = make("BreastMNIST")
    arrays = dict(np.load(root / "some_images.npz"))
    arrays["val_labels"] = arrays["val_labels"][:1]
    np.savez_compressed(root / "some_images.npz", **arrays)
    with pytest.raises(InputError, match="a label for each"):
        open_dataset(root)
    assert not list(cache.rglob("*.png"))


def test_busbra_carries_the_sizes_of_its_table(real_data: Path) -> None:
    table = open_dataset(real_data / "BUSBRA").table.set_index("image")
    assert table.loc["Images/bus_0001-l.png", ["stated_width", "stated_height"]].tolist() == ["274", "353"]


def test_cases_of_busbra_that_are_one_patient_share_a_group(real_data: Path) -> None:
    table = open_dataset(real_data / "BUSBRA").table
    tied = table[table["group"] != ""]
    assert {frozenset(rows["patient"]) for _, rows in tied.groupby("group")} == {
        frozenset({"44", "65"}),
        frozenset({"56", "91"}),
        frozenset({"341", "356"}),
    }


def test_official_folds_of_busbra(real_data: Path) -> None:
    table = open_dataset(real_data / "BUSBRA").table
    assert set(table["fold5"]) == {str(fold) for fold in range(1, 6)}
    assert set(table["fold10"]) == {str(fold) for fold in range(1, 11)}
    assert (table.groupby("patient")["fold5"].nunique() == 1).all()


def test_the_list_says_what_people_ask() -> None:
    shown = CliRunner().invoke(app, ["data", "list"]).output
    for word in ("BUSI", "Cairo", "10.5281/zenodo.7730709", "1,064 patients", "the real data", "published layout"):
        assert word in shown
    told = json.loads(CliRunner().invoke(app, ["data", "list", "--json"]).output)
    assert [entry["name"] for entry in told] == [source.name for source in list_sources()]
    assert {entry["name"] for entry in told if entry["verified"]} == {"BUSI", "BUS-BRA"}
