"""Every known data set, in the layout that was published, small."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import openpyxl
import pytest
from PIL import Image
from scipy.io import loadmat, savemat
from typer.testing import CliRunner

from medsharp.cli import app
from medsharp.data import Manifest, list_sources, open_dataset
from medsharp.data.sources import PatientKey, copy_images
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


def busi(root: Path, count: int = 2) -> None:
    for label in ("benign", "malignant"):
        for number in range(1, count + 1):
            picture(root / label / f"{label} ({number}).png")
            picture(root / label / f"{label} ({number})_mask.png", 255)


def busbra(root: Path) -> None:
    lines = ["ID,Case,Histology,Pathology,BIRADS,Device,Width,Height,Side,BBOX"]
    for name, label in (("bus_0001-l", "malignant"), ("bus_0002-r", "benign")):
        lines.append(f'{name},{name[4:8]},cyst,{label},4,scanner,40,30,left,"[1,1,2,2]"')
        picture(root / "Images" / f"{name}.png")
        picture(root / "Masks" / f"{name.replace('bus', 'mask')}.png", 255)
    (root / "bus_data.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


CASES: dict[str, tuple[Callable[[Path], None], int, dict[str, int]]] = {
    "BUSI": (busi, 4, {"benign": 2, "malignant": 2}),
    "BUS-BRA": (busbra, 2, {"benign": 1, "malignant": 1}),
    "BrEaST": (breast, 3, {"benign": 1, "malignant": 1, "normal": 1}),
    "BUS-UCLM": (busuclm, 4, {"benign": 1, "malignant": 2, "normal": 1}),
    "BUS-UC": (busuc, 4, {"benign": 2, "malignant": 2}),
    "BUSIS": (busis, 2, {"benign": 1, "malignant": 1}),
    "UDIAT": (udiat, 2, {"benign": 1, "malignant": 1}),
    "OASBUD": (oasbud, 6, {"benign": 2, "malignant": 4}),
    "GDPH&SYSUCC": (gdph, 4, {"benign": 2, "malignant": 2}),
    "STU-Hospital": (stu, 3, {"": 3}),
    "BreastMNIST": (breastmnist, 780, {"benign": 390, "malignant": 390}),
}

TOO_FEW = {"BUSI", "BUS-UC", "UDIAT", "OASBUD", "STU-Hospital"}
"""Whose small copies have nothing that tells them from a hospital's own folder: neither numbers nor a table."""


def open_as(root: Path, name: str) -> Manifest:
    """Open a small copy, of which some must be told what they are."""
    return open_dataset(root, source=name if name in TOO_FEW else None)


@pytest.fixture
def make(tmp_path: Path) -> Callable[[str], Path]:
    """Make a data set in a folder whose name says nothing."""

    def build(name: str) -> Path:
        CASES[name][0](tmp_path / "folder")
        return tmp_path / "folder"

    return build


def test_every_source_is_tested_or_verified() -> None:
    assert {source.name for source in list_sources()} == set(CASES)
    assert {source.name for source in list_sources() if source.verified} == {"BUSI", "BUS-BRA"}


@pytest.mark.parametrize("name", CASES)
def test_is_recognised_by_its_layout_and_read(name: str, make: Callable[[str], Path]) -> None:
    root = make(name)
    recognised = [source.name for source in list_sources() if source.matches(root)]
    inside = [source.name for source in list_sources() for child in root.iterdir() if source.matches(child)]
    assert recognised == [name] or (recognised == [] and inside == [name])
    manifest = open_as(root if recognised else next(root.iterdir()), name)
    _, count, labels = CASES[name]
    assert len(manifest.table) == count
    assert manifest.table["label"].value_counts().to_dict() == labels
    for row in manifest.table.to_dict("records"):
        assert manifest.path(row["image"]).is_file()
        assert all(mask.is_file() for mask in manifest.masks(row))
    assert manifest.info.name == name
    assert manifest.info.doi
    assert manifest.info.citation
    assert any(
        f"recognised as {name} by its layout and" in note or f"taken for {name}" in note for note in manifest.notes
    )


@pytest.mark.parametrize("name", CASES)
def test_no_other_source_takes_it_for_its_own(name: str, make: Callable[[str], Path]) -> None:
    root = make(name)
    places = [root, *(child for child in root.iterdir() if child.is_dir())]
    assert {source.name for source in list_sources() for place in places if source.matches(place)} == {name}


def test_copies_keep_every_column_of_a_public_data_set(make: Callable[[str], Path], tmp_path: Path) -> None:
    manifest = open_as(make("BUS-UCLM"), "BUS-UCLM")
    copies = copy_images(manifest, tmp_path / "out", PatientKey())
    assert list(copies.table) == list(manifest.table)
    assert {"doppler", "marks"} <= set(copies.table)


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
    manifest = open_dataset(make("OASBUD"), source="oasbud")
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
    manifest = open_dataset(tmp_path, source="gdphsysucc")
    assert manifest.info.name == "GDPH&SYSUCC"
    assert list(manifest.table["label"]) == ["benign", "benign", "malignant"]
    assert set(manifest.table["site"]) == {""}
    _replace(tmp_path / "label.csv", "malignant(0).png,1", "malignant(0).png,0")
    with pytest.raises(InputError, match=r"row 4: label '0' does not belong to malignant\(0\).png"):
        open_dataset(tmp_path, source="gdphsysucc")


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
    ],
)
def test_what_is_wrong_is_one_sentence(
    name: str, damage: Callable[[Path], object], words: str, make: Callable[[str], Path]
) -> None:
    root = make(name)
    damage(root)
    with pytest.raises(InputError, match=words.replace("(", r"\(").replace(")", r"\)")):
        open_as(root, name)


def _replace(path: Path, old: str, new: str) -> None:
    path.write_text(path.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")


def test_a_workbook_that_is_cut_off_is_no_known_data_set(make: Callable[[str], Path]) -> None:
    root = make("UDIAT")
    table = root / "DatasetB.xlsx"
    table.write_bytes(table.read_bytes()[:500])
    manifest = open_dataset(root)
    assert manifest.info.source == ""
    assert list(manifest.table["image"]) == ["original/000001.png", "original/000002.png"]
    assert "no image has a label" in " ".join(manifest.notes)


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


def full(name: str, root: Path) -> None:
    """Make a data set of as many images as were published; all of them are copies of one."""
    picture(root.parent / "one.png")
    content = (root.parent / "one.png").read_bytes()

    def put(path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    counts = next(source.images for source in list_sources() if source.name == name)
    if name == "BUSI":
        for label, count in counts.items():
            for number in range(1, count + 1):
                put(root / label / f"{label} ({number}).png")
    elif name == "BUS-UC":
        for label, count in counts.items():
            (root / label / "masks").mkdir(parents=True)
            for number in range(count):
                put(root / label / "images" / f"{number}.png")
    elif name == "UDIAT":
        labels = [label for label, count in counts.items() for _ in range(count)]
        workbook(root / "DatasetB.xlsx", [["Image", "Type"], *([n, label] for n, label in enumerate(labels, start=1))])
        (root / "GT").mkdir()
        for number in range(1, len(labels) + 1):
            put(root / "original" / f"{number:06d}.png")
    elif name == "STU-Hospital":
        for number in range(1, 43):
            put(root / f"Test_Image_{number}.png")


@pytest.mark.parametrize("name", sorted(TOO_FEW - {"OASBUD"}))
def test_published_numbers_of_images_tell_a_data_set(name: str, tmp_path: Path) -> None:
    full(name, tmp_path / "data")
    manifest = open_dataset(tmp_path / "data")
    assert manifest.info.name == name
    assert f"recognised as {name} by its layout and its" in manifest.notes[0]
    assert open_dataset(tmp_path / "data", source="folder").info.source == ""


def test_as_many_lesions_as_were_published_tell_oasbud(tmp_path: Path) -> None:
    fields = [(name, object) for name in ("id", "rf1", "rf2", "roi1", "roi2", "birads", "class")]
    data = np.zeros((1, 100), dtype=fields)
    echoes = np.random.default_rng(0).normal(size=(40, 16))
    for number in range(100):
        data[0, number] = (f"p{number}", echoes, echoes, echoes, echoes, 4, number % 2)
    savemat(tmp_path / "any.mat", {"data": data})
    manifest = open_dataset(tmp_path)
    assert manifest.info.name == "OASBUD"
    assert manifest.notes[0] == "recognised as OASBUD by its layout and its array of 100 lesions"


@pytest.mark.parametrize("name", sorted(TOO_FEW - {"OASBUD"}))
def test_a_folder_that_only_looks_like_a_data_set_gets_no_provenance(name: str, make: Callable[[str], Path]) -> None:
    root = make(name)
    root = root if name != "STU-Hospital" else root / "Hospital"
    manifest = open_dataset(root)
    assert manifest.info.name == root.name
    assert (manifest.info.source, manifest.info.licence, manifest.info.citation) == ("", "", "")
    assert set(manifest.table["site"]) == {""}
    assert not manifest.table["image"].str.contains("mask|GT").any()
    assert f"laid out as {name} is, but not taken for it" in manifest.notes[0]


def test_where_labels_are_missing_the_likeness_is_told(make: Callable[[str], Path]) -> None:
    for name in ("UDIAT", "STU-Hospital"):
        root = make(name)
        root = root if name != "STU-Hospital" else root / "Hospital"
        with pytest.raises(InputError, match=f"images have no label.*Laid out as {name} is, but not taken for it"):
            open_dataset(root, classes=("benign", "malignant"))
        shutil.rmtree(root)


def test_a_clinics_tables_with_two_plain_columns_are_no_public_data_set(tmp_path: Path) -> None:
    for name in ("1", "2"):
        picture(tmp_path / "images" / f"{name}.png")
        picture(tmp_path / "masks" / f"{name}.png", 255)
    (tmp_path / "INFO.csv").write_text("Image,Label\n1.png,Benign\n2.png,Malignant\n", encoding="utf-8")
    manifest = open_dataset(tmp_path)
    assert manifest.info.source == ""
    assert "laid out as BUS-UCLM is, but not taken for it" in manifest.notes[0]
    assert open_dataset(tmp_path, source="busuclm").info.name == "BUS-UCLM"


def test_a_known_original_tells_a_part_of_a_data_set(real_data: Path, tmp_path: Path) -> None:
    for label in ("benign", "malignant"):
        (tmp_path / label).mkdir()
        name = f"{label} (1).png"
        (tmp_path / label / name).symlink_to(real_data / "originals" / name)
    manifest = open_dataset(tmp_path)
    assert manifest.info.name == "BUSI"
    assert manifest.notes[0] == "recognised as BUSI by its layout and the known content of benign/benign (1).png"


def test_what_a_recognised_data_set_does_not_have_is_said(tmp_path: Path) -> None:
    full("BUSI", tmp_path / "data")
    names = ("benign (3) - Copy.png", "benign (437).PNG", "clinic-0001.png", "benign (3)_mask_overlay.png")
    for name in (*names, "benign (3)_mask.png", "benign (3)_mask_1.png"):
        picture(tmp_path / "data" / "benign" / name)
    manifest = open_dataset(tmp_path / "data")
    notes = " ".join(manifest.notes)
    assert "4 images of the folder are not of BUSI, and not used: benign/benign (3) - Copy.png" in notes
    masks = manifest.table.loc[manifest.table["image"] == "benign/benign (3).png", "mask"]
    assert list(masks) == ["benign/benign (3)_mask.png;benign/benign (3)_mask_1.png"]


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("bussi", r"no data set is called 'bussi'; did you mean busi"),
        ("udiat", "is not laid out as UDIAT is"),
    ],
)
def test_a_wrong_source_is_a_sentence(source: str, words: str, make: Callable[[str], Path]) -> None:
    with pytest.raises(InputError, match=words):
        open_dataset(make("BUSI"), source=source)


def test_a_manifest_says_itself_what_it_is(tmp_path: Path) -> None:
    picture(tmp_path / "1.png")
    (tmp_path / "manifest.csv").write_text("image,label\n1.png,benign\n", encoding="utf-8")
    for path in (tmp_path, tmp_path / "manifest.csv"):
        with pytest.raises(InputError, match="--source busi"):
            open_dataset(path, source="busi")


def test_a_list_of_labels_beside_a_data_sets_own_is_said_not_to_be_read(tmp_path: Path) -> None:
    full("STU-Hospital", tmp_path / "up" / "stu")
    for place in (tmp_path / "up", tmp_path / "up" / "stu"):
        (place / "Labels.csv").write_text("image,label\n1.png,benign\n", encoding="utf-8")
        notes = " ".join(open_dataset(place).notes)
        assert f"Labels.csv of {place.name} is not read; --source folder reads it" in notes


def _damaged() -> bytes:
    """A compressed array whose stream is broken."""
    stream = BytesIO()
    savemat(stream, {"data": np.arange(500.0)}, do_compression=True)
    content = bytearray(stream.getvalue())
    content[136:150] = bytes(14)
    return bytes(content)


@pytest.mark.parametrize("content", [b"", b"MATLAB", b"\0" * 200, _damaged()], ids=["empty", "cut", "zeros", "damaged"])
def test_a_stray_array_file_that_is_none_is_no_data_set(content: bytes, tmp_path: Path) -> None:
    for label in ("benign", "malignant"):
        picture(tmp_path / label / "1.png")
    (tmp_path / "notes.mat").write_bytes(content)
    assert len(open_dataset(tmp_path).table) == 2


@pytest.mark.parametrize("cut", [0, 1, 100, 130, 1000, -1000])
def test_echoes_that_are_cut_off_are_a_sentence_at_the_latest_where_they_are_read(
    cut: int, make: Callable[[str], Path], tmp_path: Path
) -> None:
    file = make("OASBUD") / "OASBUD.mat"
    file.write_bytes(file.read_bytes()[:cut])
    with pytest.raises(InputError):
        open_dataset(file.parent, source="oasbud")


def test_a_lesion_of_which_something_is_empty_is_named(make: Callable[[str], Path]) -> None:
    file = make("OASBUD") / "OASBUD.mat"
    data = loadmat(file)["data"]
    data[0, 1]["class"] = np.empty((0, 0))
    savemat(file, {"data": data})
    with pytest.raises(InputError, match=r"OASBUD\.mat: lesion 2 has no class"):
        open_dataset(file.parent, source="oasbud")


def test_folders_beside_a_data_set_are_named(tmp_path: Path) -> None:
    full("STU-Hospital", tmp_path / "stu")
    picture(tmp_path / "ours" / "1.png")
    manifest = open_dataset(tmp_path)
    assert manifest.info.name == "STU-Hospital"
    assert f"{tmp_path.name} holds further folders, which are not read: ours" in manifest.notes


def test_images_that_lie_loose_beside_a_data_set_are_named(tmp_path: Path) -> None:
    full("STU-Hospital", tmp_path / "stu")
    for name in ("mine.png", "mine.IMG", ".hidden.png"):
        picture(tmp_path / "loose.png")
        (tmp_path / "loose.png").rename(tmp_path / name)  # known by what they hold
    (tmp_path / "notes.txt").write_text("nothing")
    told = CliRunner().invoke(
        app, ["data", "audit", str(tmp_path), "--out", str(tmp_path / "out")], env={"COLUMNS": "300"}
    )
    assert f"{tmp_path.name} holds further images, which are not read: mine.IMG, mine.png" in told.output
    assert not any("further folders" in note for note in open_dataset(tmp_path).notes if "out" not in note)


def test_images_beside_a_data_set_that_is_one_file_are_named(make: Callable[[str], Path]) -> None:
    folder = make("OASBUD")
    picture(folder / "clinic" / "1.png")
    notes = open_dataset(folder, source="oasbud").notes
    assert "1 images of the folder are not of OASBUD, and not used: clinic/1.png" in notes
