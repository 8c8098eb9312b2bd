"""A hospital's own folder: every file is used, or counted with its reason; patients are numbered and named nowhere."""

from __future__ import annotations

import dataclasses
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from pydicom import dcmwrite
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from medsharp.data import Manifest, open_dataset, read_manifest, write_manifest
from medsharp.data.pool import pool_manifests
from medsharp.data.sources import FolderReading, PatientKey
from medsharp.errors import InputError
from medsharp.keys import clusters_of

Save = Callable[..., Any]
CLASSES = ("benign", "malignant")


def said(manifest: Manifest) -> str:
    return "\n".join(manifest.notes)


def by_image(manifest: Manifest, column: str) -> dict[str, str]:
    return dict(zip(manifest.table["image"], manifest.table[column], strict=True))


@pytest.mark.parametrize(
    "ending", ["png", "PNG", "jpg", "JPG", "jpeg", "jfif", "bmp", "tif", "TIFF", "webp", "gif", ""]
)
def test_pictures_of_every_format_and_ending_are_listed(ending: str, tmp_path: Path, save_picture: Save) -> None:
    source = Image.open(save_picture(tmp_path / "one.png"))
    kinds = {"jpg": "JPEG", "jpeg": "JPEG", "jfif": "JPEG", "tif": "TIFF", "": "PNG"}
    for label in CLASSES:
        (tmp_path / "d" / label).mkdir(parents=True)
        name = f"scan.{ending}" if ending else "scan"
        kind = kinds.get(ending.lower(), ending.upper())
        source.save(tmp_path / "d" / label / name, format=kind)
    assert len(open_dataset(tmp_path / "d", classes=CLASSES).included) == 2


def test_class_folders_of_dicom_and_of_pictures_are_read_alike(
    tmp_path: Path, save_dicom: Save, save_picture: Save
) -> None:
    for number in range(3):
        save_dicom(tmp_path / "benign" / f"IM{number}", f"patient-{number // 2}")
        save_picture(tmp_path / "malignant" / f"{number}.png")
    table = open_dataset(tmp_path, classes=CLASSES).table
    assert table["label"].value_counts().to_dict() == {"benign": 3, "malignant": 3}
    patients = list(table["patient"])
    assert patients[0] == patients[1] != patients[2] != ""
    assert patients[3:] == ["", "", ""]
    assert list(table["device"]) == ["ACME Scan 1"] * 3 + [""] * 3


def test_dicom_without_its_preamble_is_known_by_its_content(tmp_path: Path, save_dicom: Save) -> None:
    for label in CLASSES:
        save_dicom(tmp_path / label / "whole.dcm", label)
        data = (tmp_path / label / "whole.dcm").read_bytes()
        (tmp_path / label / "bare").write_bytes(data[132:])
    manifest = open_dataset(tmp_path)
    assert sorted(manifest.table["image"]) == [
        "benign/bare",
        "benign/whole.dcm",
        "malignant/bare",
        "malignant/whole.dcm",
    ]
    assert manifest.table["patient"].nunique() == 2


@pytest.mark.parametrize("beginning", ["prefix alone", "implicit", "explicit", "big endian"])
def test_folders_know_every_beginning_of_dicom_that_decoding_does(
    beginning: str, tmp_path: Path, save_dicom: Save
) -> None:
    file = tmp_path / "IM1"
    dataset = save_dicom(file)
    if beginning == "prefix alone":
        file.write_bytes(file.read_bytes()[128:])
    else:
        with file.open("wb") as stream:
            little, implicit = beginning != "big endian", beginning == "implicit"
            dcmwrite(stream, Dataset(dataset), implicit_vr=implicit, little_endian=little)
    manifest = open_dataset(tmp_path)
    assert list(manifest.table["image"]) == ["IM1"]
    assert manifest.table["patient"][0] != ""
    assert manifest.read(manifest.table.iloc[0]).pixels.shape == (96, 96)


def test_what_is_no_image_is_counted_with_its_reason(tmp_path: Path, save_dicom: Save, save_picture: Save) -> None:
    for label in CLASSES:
        save_picture(tmp_path / label / "1.png")
    for name in ("notes.txt", "benign/report.pdf", "benign/BMI.txt"):
        (tmp_path / name).write_text("BM I 23, and more than fourteen bytes of it", encoding="utf-8")
    (tmp_path / "benign" / "nothing").write_bytes(b"")
    (tmp_path / "benign" / "Thumbs.db").write_bytes(b"\xd0\xcf\x11\xe0")
    (tmp_path / "malignant" / ".DS_Store").write_bytes(b"x")
    (tmp_path / "__MACOSX" / "benign").mkdir(parents=True)
    (tmp_path / "__MACOSX" / "benign" / "._1.png").write_bytes(b"x")
    (tmp_path / "benign" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    (tmp_path / "benign" / "loop").symlink_to(tmp_path)
    save_dicom(
        tmp_path / "DICOMDIR", SOPClassUID="1.2.840.10008.1.3.10", DirectoryRecordSequence=Sequence(), pixels=False
    )
    save_dicom(tmp_path / "benign" / "SR1", SOPClassUID="1.2.840.10008.5.1.4.1.1.88.33", pixels=False)
    save_dicom(tmp_path / "benign" / "SR2", SOPClassUID="1.2.840.10008.5.1.4.1.1.88.11", pixels=False)
    save_dicom(tmp_path / "benign" / "PDF", SOPClassUID="1.2.840.10008.5.1.4.1.1.104.1", pixels=False)
    save_dicom(tmp_path / "benign" / "SEG", SOPClassUID="1.2.840.10008.5.1.4.1.1.66.4")
    manifest = open_dataset(tmp_path, classes=CLASSES)
    assert sorted(manifest.table["image"]) == ["benign/1.png", "malignant/1.png"]
    assert set(manifest.notes) == {
        "3 files not images: benign/BMI.txt, benign/report.pdf, notes.txt",
        "1 file empty: benign/nothing",
        "3 files hidden or of the operating system: __MACOSX, benign/Thumbs.db, malignant/.DS_Store",
        "1 file linked to nothing, or no ordinary file: benign/gone.png",
        "1 file not followed, as a link leads to a folder that was met already: benign/loop",
        "1 file left out: DICOM, but no image: DICOMDIR",
        "2 files left out: DICOM, but no image: structured report",
        "1 file left out: DICOM, but no image: document (PDF and the like)",
        "1 file left out: DICOM, but no image: segmentation or raw data",
    }


def test_a_picture_that_is_empty_or_cut_off_stays_listed_to_be_left_out_by_name(
    tmp_path: Path, save_picture: Save
) -> None:
    for label in CLASSES:
        save_picture(tmp_path / label / "1.png")
    (tmp_path / "benign" / "empty.png").write_bytes(b"")
    (tmp_path / "benign" / "cut.dcm").write_bytes(b"\0" * 128 + b"DICM" + b"\x08\0")
    assert {"benign/empty.png", "benign/cut.dcm"} < set(open_dataset(tmp_path).table["image"])


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="may read everything")
def test_a_file_that_may_not_be_read_is_counted(tmp_path: Path, save_picture: Save) -> None:
    for label in CLASSES:
        save_picture(tmp_path / label / "1.png")
    (tmp_path / "benign" / "secret").write_bytes(b"x")
    (tmp_path / "benign" / "secret").chmod(0)
    assert "1 file cannot be opened: benign/secret" in open_dataset(tmp_path).notes


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("{label}/1.png", "{label}/1_mask.png"),
        ("{label}/1.png", "{label}/1_mask_1.png"),
        ("{label}/1.png", "{label}/1_seg.png"),
        ("{label}/1.png", "{label}/1-GT.png"),
        ("{label}/1.png", "{label}/1_label.png"),
        ("{label}/1.png", "{label}/mask_1.png"),
        ("{label}/1.png", "{label}/mask1.png"),
        ("{label}/1.png", "{label}/1mask.png"),
        ("{label}/scan (1).png", "{label}/scan (1)_mask (2).png"),
        ("{label}/image/1.png", "{label}/mask/1.png"),
        ("{label}/images/1.jpg", "{label}/masks/1.png"),
        ("{label}/images/1.png", "{label}/Masks/1_mask.png"),
        ("{label}/original/1.png", "{label}/GT/1.png"),
        ("{label}/1.png", "{label}/ground truth/1.png"),
        ("{label}/img/1.png", "{label}/label/1.png"),
        ("images/{label}/1.png", "masks/{label}/1.png"),
        ("{label}/1.png", "{label}_masks/1.png"),
        ("{label}/1.png", "{label}/1.mask.png"),
        ("{label}/1.png", "{label}/seg_1.png"),
        ("{label}/case1.png", "{label}/Maskcase1.png"),
        ("{label}/Bilder/1.png", "{label}/Maske/1.png"),
        ("{label}/1.png", "{label}/masques/1.png"),
        ("{label}/1.png", "{label}/1_mask_copy.png"),
        ("{label}/1.png", "{label}/1 - Mask - Copy.png"),
        ("{label}/1.png", "{label}/1_MASK (copy).png"),
        ("{label}/images_png/1.png", "{label}/masks_png/1.png"),
        ("{label}/1.png", "{label}/1(mask).png"),
        ("{label}/1.png", "{label}/mask images/1_mask_copy.png"),
        ("{label}/1.png", "{label}/1 - Mask (2).png"),
        ("{label}/case 1/image.png", "{label}/case 1/mask.png"),
        ("{label}/Image_1.png", "{label}/Mask_1.png"),
        ("{label}/scan7.jpg", "{label}/masks7.png"),
        ("{label}/1_original.png", "{label}/1_mask.png"),
        ("{label}/1.png", "{label}/1_mask - Kopie (2).png"),
        ("{label}/1.png", "{label}/1-mask (another copy).png"),
        ("{label}/1.png", "{label}/1 mask (3rd copy).png"),
        ("{label}/1.png", "{label}/1_mask copy 2.png"),
        ("{label}/1.png", "{label}/1_mask2_copy1.png"),
        ("{label}/1.png", "{label}/1_mascara - c\u00f3pia.png"),
        ("{label}/image_Maskell.png", "{label}/mask_Maskell.png"),
        ("{label}/Bild_1.png", "{label}/Maske_1.png"),
        ("{label}/Bild_1.png", "{label}/Masken_1.png"),
        ("{label}/Image_1.png", "{label}/Masque_1.png"),
        ("{label}/imagen_1.png", "{label}/m\u00e1scara_1.png"),
        ("{label}/imagen_1.png", "{label}/ma\u0301scara_1.png"),
        ("{label}/imagens/1.png", "{label}/mascaras/1.png"),
        ("{label}/immagine_1.png", "{label}/maschera_1.png"),
        ("{label}/1.png", "{label}/1_maschera.png"),
        ("{label}/Immagini/1.png", "{label}/Maschere/1.png"),
        ("{label}/case1.png", "{label}/maschera_case1.png"),
        ("{label}/1.png", "{label}/Maske1.png"),
        ("{label}/1.png", "{label}/1masque.png"),
        ("images_png/{label}/1.png", "masks_png/{label}/1.png"),
        ("Bilder PNG/{label}/1.png", "Masken PNG/{label}/1.png"),
        ("bus/{label}/1.png", "masks/{label}/1.png"),
        ("bus/2024/{label}/1.png", "bus masks/2024/{label}/1_mask.png"),
    ],
)
def test_masks_are_never_images(image: str, mask: str, tmp_path: Path, save_picture: Save) -> None:
    for label in CLASSES:
        save_picture(tmp_path / image.format(label=label))
        save_picture(tmp_path / mask.format(label=label), white=True)
    table = open_dataset(tmp_path, classes=CLASSES, source="folder").table
    assert list(table["image"]) == [image.format(label=label) for label in CLASSES]
    assert list(table["mask"]) == [mask.format(label=label) for label in CLASSES]


def test_blanks_and_accents_in_names_are_no_reason_to_lose_an_image(tmp_path: Path, save_picture: Save) -> None:
    for label in CLASSES:
        save_picture(tmp_path / label / "Screenshot 9.41\u202fAM.png")  # as macOS writes it
        save_picture(tmp_path / label / "Mu\u0308ller\xa0 (1).png")
    save_picture(tmp_path / "benign" / "two\nlines.png")
    manifest = open_dataset(tmp_path)
    assert len(manifest.table) == 4
    assert "left out, as its name is not text" in said(manifest)
    write_manifest(manifest, tmp_path / "out")
    assert len(read_manifest(tmp_path / "out").table) == 4


def test_a_word_within_a_name_is_a_masks_only_beside_its_image(tmp_path: Path, save_picture: Save) -> None:
    names = ("a.png", "b_mask_copy.png", "a_unmasked copy.png", "a_masked copy.png")
    for label in CLASSES:
        for name in names:
            save_picture(tmp_path / label / name)
    assert set(open_dataset(tmp_path).table["image"]) == {f"{label}/{name}" for label in CLASSES for name in names}


def test_a_mask_whose_name_has_a_semicolon_is_left_out_and_an_image_is_not(tmp_path: Path, save_picture: Save) -> None:
    for label in CLASSES:
        for name in ("a;b.png", "a;b_mask.png", "c.png", "c_mask.png"):
            save_picture(tmp_path / "d" / label / name)
    manifest = open_dataset(tmp_path / "d")
    assert by_image(manifest, "mask")["benign/a;b.png"] == ""
    assert by_image(manifest, "mask")["benign/c.png"] == "benign/c_mask.png"
    assert "2 files left out, as masks of an image are joined by semicolons" in said(manifest)
    other = manifest.replace(table=manifest.table)
    other = dataclasses.replace(other, info=dataclasses.replace(other.info, name="e"), root=tmp_path / "e")
    pooled = pool_manifests([manifest, other])
    assert set(pooled.table["image"]) == {
        f"{head}/{label}/{name}" for head in "de" for label in CLASSES for name in ("a;b.png", "c.png")
    }


def test_a_list_of_patients_is_warned_of_as_headers_are(tmp_path: Path, save_picture: Save) -> None:
    patients = {"Schmidt_Anna": "Anna Schmidt", "x17-0815": "X17 0815", "2021": "2021-4711", "other": "Berta", "n": "-"}
    lines = ["image,label,patient"]
    for number, (folder, patient) in enumerate(patients.items()):
        save_picture(tmp_path / folder / "1.png")
        lines.append(f"{folder}/1.png,{CLASSES[number % 2]},{patient}")
    (tmp_path / "labels.csv").write_text("\n".join(lines) + "\n")
    notes = said(open_dataset(tmp_path))
    assert "2 paths hold the patient's name or number" in notes
    assert "patients are numbered by the key" in notes
    assert "Schmidt" not in notes


def test_a_list_of_nobody_needs_no_key(tmp_path: Path, save_picture: Save) -> None:
    for name in ("1", "2"):
        save_picture(tmp_path / f"{name}.png")
    (tmp_path / "labels.csv").write_text("image,label,patient\n1.png,benign,n/a\n2.png,malignant,unknown\n")
    assert "key" not in said(open_dataset(tmp_path))


@pytest.mark.parametrize(
    "drawn",
    ["1_mask_overlay", "1_mask_preview", "1_mask.contour", "1 mask vis (2)", "1_Maske-bunt", "1_mask_copy_of_a"],
)
def test_a_drawing_of_an_image_and_its_mask_is_neither_and_is_said(
    drawn: str, tmp_path: Path, save_picture: Save
) -> None:
    for label in CLASSES:
        for name in ("1", "1_mask", drawn, "2", drawn.replace("1", "2", 1), drawn.replace("1", "3", 1)):
            save_picture(tmp_path / label / f"{name}.png")
    manifest = open_dataset(tmp_path)
    # Without its image it is one, as `mask` may be a word of a name.
    names = ["1", "2", drawn.replace("1", "3", 1)]
    assert by_image(manifest, "mask") == {
        f"{label}/{name}.png": f"{label}/1_mask.png" if name == "1" else "" for label in CLASSES for name in names
    }
    assert (
        "4 files left out, as they are called like an image and its mask with more behind, as drawings of both are"
        in said(manifest)
    )
    assert f"benign/{drawn}.png" in said(manifest)


def test_a_drawing_in_a_folder_of_masks_is_no_mask_and_is_said(tmp_path: Path, save_picture: Save) -> None:
    for label in CLASSES:
        save_picture(tmp_path / "images" / label / "1.png")
        save_picture(tmp_path / "masks" / label / "1_mask_overlay.png")
    manifest = open_dataset(tmp_path)
    assert list(manifest.table["mask"]) == ["", ""]
    assert "2 masks belong to no image: masks/benign/1_mask_overlay.png" in said(manifest)


def test_a_folder_named_after_images_and_their_format_is_no_class(tmp_path: Path, save_picture: Save) -> None:
    for label in ("cancer", "cyst"):
        save_picture(tmp_path / "images_png" / label / "1.png")
        save_picture(tmp_path / "masks_png" / label / "1.png")
    table = open_dataset(tmp_path).table
    assert list(table["label"]) == ["cancer", "cyst"]
    assert list(table["mask"]) == ["masks_png/cancer/1.png", "masks_png/cyst/1.png"]


def test_a_list_may_say_that_what_looks_like_a_drawing_is_the_mask(tmp_path: Path, save_picture: Save) -> None:
    for label in CLASSES:
        for name in ("1", "1_mask", "1_mask_final"):
            save_picture(tmp_path / label / f"{name}.png")
    rows = [f"{label}/1.png,{label},{label}/1_mask_final.png" for label in CLASSES]
    (tmp_path / "labels.csv").write_text("\n".join(["image,label,mask", *rows]), encoding="utf-8")
    manifest = open_dataset(tmp_path)
    assert list(manifest.table["mask"]) == [f"{label}/1_mask_final.png" for label in CLASSES]
    assert "left out" not in said(manifest)
    told = "2 masks are not used, as others of their images count before them: benign/1_mask.png, malignant/1_mask.png"
    assert told in manifest.notes


def test_a_likelier_mask_stands_for_those_that_are_called_less_like_its_image(
    tmp_path: Path, save_picture: Save
) -> None:
    for label in CLASSES:
        for name in ("1", "1_mask", "1_mask_1", "1_mask_copy", "1_contour", "2", "2_mask copy", "2_mask - Copy (2)"):
            save_picture(tmp_path / label / f"{name}.png")
    manifest = open_dataset(tmp_path)
    assert by_image(manifest, "mask") == {
        name: mask
        for label in CLASSES
        for name, mask in (
            (f"{label}/1.png", f"{label}/1_mask.png;{label}/1_mask_1.png"),
            (f"{label}/2.png", f"{label}/2_mask - Copy (2).png;{label}/2_mask copy.png"),
        )
    }
    told = "4 masks are not used, as others of their images count before them: benign/1_contour.png, "
    assert told in said(manifest)
    assert "belong to no image" not in said(manifest)


def test_masks_beside_the_one_folder_of_images_are_used_or_said(tmp_path: Path, save_picture: Save) -> None:
    for label in ("cyst", "cancer"):
        for name in ("bus/{}/1.png", "bus/{}/2.png", "bus/{}/2_mask.png", "masks/{}/1.png", "masks/{}/2.png"):
            save_picture(tmp_path / "top" / name.format(label))
        save_picture(tmp_path / "top" / "masks" / label / "9.png")
    manifest = open_dataset(tmp_path)
    assert manifest.root == tmp_path / "top"
    assert by_image(manifest, "mask") == {
        f"bus/{label}/{name}.png": mask
        for label in ("cyst", "cancer")
        for name, mask in (("1", f"masks/{label}/1.png"), ("2", f"bus/{label}/2_mask.png"))
    }
    assert set(manifest.table["label"]) == {"cyst", "cancer"}
    assert all(manifest.path(name).is_file() for name in (*manifest.table["image"], *manifest.table["mask"]))
    assert manifest.notes[:2] == (
        f"read top, the only folder of {tmp_path.name} that holds images",
        "read bus, the only folder of top that holds images",
    )
    assert "2 masks belong to no image: masks/cancer/9.png, masks/cyst/9.png" in manifest.notes
    told = "2 masks are not used, as others of their images count before them: masks/cancer/2.png, masks/cyst/2.png"
    assert told in manifest.notes
    write_manifest(manifest, tmp_path / "out")
    assert read_manifest(tmp_path / "out").table.equals(manifest.table)


def test_a_mask_without_its_image_is_said(tmp_path: Path, save_picture: Save) -> None:
    for label in CLASSES:
        save_picture(tmp_path / label / "1.png")
    save_picture(tmp_path / "benign" / "2_mask.png")
    assert "1 masks belong to no image: benign/2_mask.png" in open_dataset(tmp_path).notes


def test_a_folder_of_images_and_masks_is_not_one_of_masks(tmp_path: Path, save_picture: Save) -> None:
    for label in CLASSES:
        save_picture(tmp_path / label / "USG-images_and_masks" / "1.png")
        save_picture(tmp_path / label / "USG-images_and_masks" / "1_mask.png")
    manifest = open_dataset(tmp_path)
    assert len(manifest.table) == 2
    assert (manifest.table["mask"] != "").all()


def test_where_all_is_taken_for_masks_it_is_said(tmp_path: Path, save_picture: Save) -> None:
    save_picture(tmp_path / "benign" / "mask 1.png")
    save_picture(tmp_path / "malignant" / "mask 2.png")
    with pytest.raises(InputError, match=r"no images that are known \(2 are taken for masks by their names"):
        open_dataset(tmp_path)


def test_class_names_in_capitals_are_the_classes(tmp_path: Path, save_picture: Save) -> None:
    for name in ("Benign", "MALIGNANT", "malignant"):
        save_picture(tmp_path / name / "1.png")
    manifest = open_dataset(tmp_path, classes=CLASSES)
    assert manifest.table["label"].value_counts().to_dict() == {"benign": 1, "malignant": 2}


def test_an_empty_class_folder_is_named(tmp_path: Path, save_picture: Save) -> None:
    save_picture(tmp_path / "benign" / "1.png")
    (tmp_path / "malignant").mkdir()
    with pytest.raises(InputError, match=r"one class only \(benign\).*\(malignant is empty\)"):
        open_dataset(tmp_path, classes=CLASSES)


def test_images_of_a_sub_folder_are_tied_where_no_patient_is_known(
    tmp_path: Path, save_picture: Save, save_dicom: Save
) -> None:
    for label in CLASSES:
        for patient in ("anna", "berta", "clara"):
            for number in range(2):
                save_picture(tmp_path / label / patient / "left" / f"{number}.png")
    save_dicom(tmp_path / "benign" / "anna" / "IM1")
    manifest = open_dataset(tmp_path)
    groups = by_image(manifest, "group")
    # The same name under both classes is one patient: two that are taken for one cost little, one taken for two leaks.
    assert groups["benign/anna/left/0.png"] == groups["malignant/anna/left/1.png"] != groups["benign/berta/left/0.png"]
    # A DICOM file beside pictures without a patient is of whom they are.
    assert groups["benign/anna/IM1"] == groups["benign/anna/left/0.png"]
    assert "13 images are tied by their 3 sub-folders" in said(manifest)


@pytest.mark.parametrize("identifier", ["ANONYMOUS", ""])
def test_studies_of_anonymous_files_are_tied_by_the_patients_folder(
    identifier: str, tmp_path: Path, save_dicom: Save
) -> None:
    for letter, label in zip("bm", CLASSES, strict=True):
        for patient in range(2):
            for study in range(2):
                uid = f"1.2.{ord(letter)}.{patient}.{study}"
                place = tmp_path / label / f"{letter}{patient}" / f"s{study}"
                for name in ("IM1", "IM2"):
                    save_dicom(place / name, identifier, StudyInstanceUID=uid, pixels=False, Rows=8, Columns=8)
    manifest = open_dataset(tmp_path)
    assert [len(found) for found in clusters(manifest)] == [4] * 4
    assert manifest.table.groupby(manifest.table["image"].str.split("/").str[1])["group"].nunique().eq(1).all()
    assert manifest.table["patient"].nunique() == 8  # of the studies, as before
    assert "16 images are tied by their 4 sub-folders" in said(manifest)
    assert "same PatientID" not in said(manifest)


def folders_of(tmp_path: Path, save_picture: Save, *places: str) -> dict[str, str]:
    """The groups of one picture in each folder, by folder."""
    for place in places:
        save_picture(tmp_path / place / "0.png")
    return {name.rpartition("/")[0]: group for name, group in by_image(open_dataset(tmp_path), "group").items()}


@pytest.mark.parametrize(
    "uppers",
    [("GE", "other"), ("left", "right"), ("2019", "2020", "2021", "2022", "2023"), ("ge logiq", "Philips", "Canon")],
)
def test_patients_below_folders_of_scanners_or_years_are_tied_each_by_itself(
    uppers: tuple[str, ...], tmp_path: Path, save_picture: Save
) -> None:
    places = [f"{label}/{upper}/{label[0]}{upper}{n}" for label in CLASSES for upper in uppers for n in range(3)]
    groups = folders_of(tmp_path, save_picture, *places, *(f"{place}/more" for place in places[:2]))
    assert len(set(groups.values()) - {""}) == len(places)
    assert groups[places[0]] == groups[f"{places[0]}/more"] == f"folder {places[0].partition('/')[2]}"
    assert "" not in groups.values()


def test_many_patients_in_each_of_a_few_folders_are_tied_each_by_itself(tmp_path: Path, save_picture: Save) -> None:
    places = [
        f"{label}/room {room}/{label[0]}{n}" for label in CLASSES for room in "abc" for n in range(room != "a", 4)
    ]
    groups = folders_of(tmp_path, save_picture, *places)
    assert len(set(groups.values())) == len(places)


def test_patients_with_a_few_examinations_each_are_tied_with_all_of_them(tmp_path: Path, save_picture: Save) -> None:
    places = [f"{label}/{label[0]}{n}/exam {e}" for label in CLASSES for n in range(3) for e in range(1 + 2 * n)]
    groups = folders_of(tmp_path, save_picture, *places)
    assert {group for place, group in groups.items() if place.startswith("malignant/m2/")} == {"folder m2"}
    assert len(set(groups.values())) == 6


def test_a_sub_folder_of_several_known_patients_ties_none_of_them(
    tmp_path: Path, save_picture: Save, save_dicom: Save
) -> None:
    for year in ("2021", "2022", "2023"):
        save_picture(tmp_path / "benign" / year / "1.png")
        for patient in ("a", "b"):
            save_dicom(tmp_path / "malignant" / year / f"IM-{patient}", f"{patient}{year}")
    groups = by_image(open_dataset(tmp_path), "group")
    assert {name for name, group in groups.items() if group} == {f"benign/{year}/1.png" for year in (2021, 2022, 2023)}


def clusters(manifest: Manifest) -> list[set[str]]:
    """The images that are held together, ordered."""
    rows = manifest.included
    return sorted((set(part) for _, part in rows["image"].groupby(clusters_of(rows))), key=sorted)


def test_files_without_patient_are_of_the_patient_of_their_study(tmp_path: Path, save_dicom: Save) -> None:
    for number, label in enumerate(CLASSES):
        save_dicom(tmp_path / label / "IM1", f"{number}70", StudyInstanceUID=f"1.2.{number}")
        save_dicom(tmp_path / label / "IM2", "", StudyInstanceUID=f"1.2.{number}")
        save_dicom(tmp_path / label / "IM3", "anonymous", StudyInstanceUID=f"1.2.{number}")
    assert clusters(open_dataset(tmp_path)) == [{f"{label}/IM{file}" for file in (1, 2, 3)} for label in CLASSES]


def test_a_list_that_has_some_images_of_a_patient_holds_for_the_others(tmp_path: Path, save_dicom: Save) -> None:
    for number, label in enumerate(CLASSES):
        for file in (1, 2):
            save_dicom(tmp_path / label / f"IM{file}", f"{number}70")
    (tmp_path / "labels.csv").write_text("image,patient\nbenign/IM1,Anna\nmalignant/IM2,Berta\n")
    assert clusters(open_dataset(tmp_path)) == [{f"{label}/IM1", f"{label}/IM2"} for label in CLASSES]


@pytest.mark.parametrize("missing", [0, 1])
def test_a_patient_id_that_stands_for_several_patients_ties_those_that_the_list_lacks(
    missing: int, tmp_path: Path, save_dicom: Save
) -> None:
    images = [f"{label}/IM{file}" for label in CLASSES for file in (1, 2)]
    for image in images:
        save_dicom(tmp_path / image, "PLACEHOLDER", StudyInstanceUID=f"1.2.{images.index(image)}")
    listed = images[: len(images) - missing]
    lines = [f"{image},{name}" for image, name in zip(listed, "ABCD", strict=False)]
    (tmp_path / "labels.csv").write_text("\n".join(["image,patient", *lines]) + "\n")
    manifest = open_dataset(tmp_path)
    assert clusters(manifest) == ([set(images)] if missing else [{image} for image in images])
    assert "PLACEHOLDER" not in manifest.table.to_csv() + said(manifest)


def test_classes_may_lie_below_folders_of_patients(tmp_path: Path, save_picture: Save) -> None:
    for patient in ("anna", "berta", "clara"):
        for label in ("Benign", "malignant"):
            save_picture(tmp_path / patient / label / "1.png")
    manifest = open_dataset(tmp_path, classes=CLASSES)
    assert by_image(manifest, "label")["berta/Benign/1.png"] == "benign"
    assert len(manifest.included) == 6
    assert clusters(manifest) == [
        {f"{patient}/{label}/1.png" for label in ("Benign", "malignant")} for patient in ("anna", "berta", "clara")
    ]
    assert "classes are folders below those of the first level" in said(manifest)


def test_a_mask_is_of_both_formats_of_its_image(tmp_path: Path, save_picture: Save) -> None:
    for label in CLASSES:
        for name in ("1.png", "1.bmp", "1_mask.png"):
            save_picture(tmp_path / label / name)
    assert set(open_dataset(tmp_path).table["mask"]) == {f"{label}/1_mask.png" for label in CLASSES}


def test_two_sub_folders_are_rather_two_sides_than_two_patients(tmp_path: Path, save_picture: Save) -> None:
    for label in CLASSES:
        for side in ("left", "right"):
            save_picture(tmp_path / label / side / "1.png")
    assert set(open_dataset(tmp_path).table["group"]) == {""}


def test_folders_of_somebody_elses_split_are_kept_aside(tmp_path: Path, save_picture: Save) -> None:
    for part in ("train", "val", "test"):
        for label in CLASSES:
            save_picture(tmp_path / part / label / "1.png")
    manifest = open_dataset(tmp_path, classes=CLASSES)
    assert manifest.table["label"].value_counts().to_dict() == {"benign": 3, "malignant": 3}
    assert sorted(set(manifest.table["official_split"])) == ["test", "train", "val"]
    assert set(manifest.table["split"]) == {""}
    assert "official_split" in said(manifest)


def test_the_only_folder_of_an_archive_is_entered(tmp_path: Path, save_picture: Save) -> None:
    for label in CLASSES:
        save_picture(tmp_path / "export" / label / "1.png")
    manifest = open_dataset(tmp_path, classes=CLASSES)
    assert list(manifest.table["image"]) == ["benign/1.png", "malignant/1.png"]
    assert manifest.notes[0].startswith("read export, the only folder of")


def test_links_are_followed(tmp_path: Path, save_picture: Save) -> None:
    for label in CLASSES:
        save_picture(tmp_path / "archive" / label / "1.png")
        (tmp_path / "farm" / label).mkdir(parents=True)
        (tmp_path / "farm" / label / "scan.png").symlink_to(tmp_path / "archive" / label / "1.png")
    (tmp_path / "farm" / "malignant" / "more").symlink_to(tmp_path / "archive" / "malignant")
    assert len(open_dataset(tmp_path / "farm").table) == 3


def test_series_folders_of_dicom_are_no_classes(tmp_path: Path, save_dicom: Save) -> None:
    for series in ("S001", "S002"):
        save_dicom(tmp_path / series / "IM1", series)
    manifest = open_dataset(tmp_path)
    assert set(manifest.table["label"]) == {""}
    assert "no image has a label" in said(manifest)
    with pytest.raises(InputError, match=r"2 images have no label; use `medsharp predict`.*neither class folders nor"):
        open_dataset(tmp_path, classes=CLASSES)


def test_a_picture_among_series_folders_makes_no_classes_of_them(
    tmp_path: Path, save_dicom: Save, save_picture: Save
) -> None:
    save_dicom(tmp_path / "S001" / "IM1")
    save_picture(tmp_path / "S002" / "screen.png")
    assert set(open_dataset(tmp_path).table["label"]) == {""}


def test_many_folders_of_other_names_are_rather_patients_than_classes(tmp_path: Path, save_picture: Save) -> None:
    for patient in range(12):
        save_picture(tmp_path / f"patient {patient}" / "1.png")
    manifest = open_dataset(tmp_path)
    assert set(manifest.table["label"]) == {""}
    assert manifest.table["group"].nunique() == 12


def test_a_mammogram_in_the_export_is_left_out(tmp_path: Path, save_dicom: Save) -> None:
    for label in CLASSES:
        save_dicom(tmp_path / label / "US1", label)
    save_dicom(tmp_path / "benign" / "MG1", "ID-3", Modality="MG")
    manifest = open_dataset(tmp_path)
    assert by_image(manifest, "exclude")["benign/MG1"] == "modality MG, not ultrasound"
    assert "1 images left out: modality MG, not ultrasound" in manifest.notes


def test_what_a_header_says_of_the_examination_is_carried(tmp_path: Path, save_dicom: Save) -> None:
    region = Dataset()
    region.RegionSpatialFormat = region.RegionDataType = 1
    region.PhysicalUnitsXDirection = region.PhysicalUnitsYDirection = 3
    region.PhysicalDeltaX, region.PhysicalDeltaY = 0.0071, -0.0071
    save_dicom(tmp_path / "benign" / "1", "a", SequenceOfUltrasoundRegions=Sequence([region]), StudyDate="20210304")
    save_dicom(tmp_path / "malignant" / "1", "b", PixelSpacing=["0.1", "0.2"], Laterality="L", StudyDate="20201231")
    table = open_dataset(tmp_path).table
    assert list(table["pixel_spacing"]) == ["0.071", "0.1 0.2"]
    assert list(table["laterality"]) == ["", "L"]
    assert list(table["study_date"]) == ["2021", "2020"]
    for kept, dates in (("none", None), ("month", ["2021-03", "2020-12"]), ("day", ["2021-03-04", "2020-12-31"])):
        table = open_dataset(tmp_path, reading=FolderReading(study_date=kept)).table  # type: ignore[arg-type]
        assert (list(table["study_date"]) if "study_date" in table else None) == dates


def test_patients_have_the_same_number_in_every_export_and_are_named_nowhere(
    tmp_path: Path, save_dicom: Save, own_key: Path
) -> None:
    for export, patients in (("first", ("MRN-0017", "MRN-22")), ("second", ("MRN-22", "mrn-0017 "))):
        for label, patient in zip(CLASSES, patients, strict=True):
            save_dicom(tmp_path / export / label / "IM1", patient, AccessionNumber="ACC-4711")
    assert not own_key.exists()
    first, second = (open_dataset(tmp_path / export) for export in ("first", "second"))
    assert list(first.table["patient"]) == list(second.table["patient"])[::-1]
    assert first.table["patient"].str.fullmatch(r"P[0-9a-f]{16}").all()
    assert stat.S_IMODE(own_key.stat().st_mode) == 0o600
    for manifest in (first, second):
        text = manifest.table.to_csv() + said(manifest)
        assert not any(word in text.lower() for word in ("mrn", "secretname", "anna", "4711", "1.2.3."))


def test_another_key_gives_other_numbers_and_a_wrong_one_is_a_sentence(
    tmp_path: Path, save_dicom: Save, monkeypatch: pytest.MonkeyPatch
) -> None:
    for label in CLASSES:
        save_dicom(tmp_path / "d" / label / "IM1", label)
    default = list(open_dataset(tmp_path / "d").table["patient"])
    (tmp_path / "key").write_text("0123456789abcdef0123456789abcdef\n", encoding="utf-8")
    given = list(open_dataset(tmp_path / "d", reading=FolderReading(key=PatientKey(tmp_path / "key"))).table["patient"])
    monkeypatch.setenv("MEDSHARP_PATIENT_KEY", str(tmp_path / "key"))
    assert list(open_dataset(tmp_path / "d").table["patient"]) == given != default
    monkeypatch.setenv("MEDSHARP_PATIENT_KEY", str(tmp_path / "missing"))
    with pytest.raises(InputError, match="cannot read or make the key that numbers patients"):
        open_dataset(tmp_path / "d")
    (tmp_path / "missing").write_text("short")
    with pytest.raises(InputError, match="shorter than 16 bytes"):
        open_dataset(tmp_path / "d")


def test_an_identifier_that_says_anonymous_gives_way_to_the_study(tmp_path: Path, save_dicom: Save) -> None:
    for number, label in enumerate(CLASSES):
        save_dicom(tmp_path / label / "IM1", "ANONYMOUS", StudyInstanceUID=f"1.2.3.{number}")
        save_dicom(tmp_path / label / "IM2", "", StudyInstanceUID=f"1.2.3.{number}")
    patients = by_image(open_dataset(tmp_path), "patient")
    assert patients["benign/IM1"] == patients["benign/IM2"] != patients["malignant/IM1"] != ""


def test_one_identifier_for_every_study_is_said(tmp_path: Path, save_dicom: Save) -> None:
    for number, label in enumerate(CLASSES):
        save_dicom(tmp_path / label / "IM1", "STUDY77", StudyInstanceUID=f"1.2.3.{number}")
    manifest = open_dataset(tmp_path)
    assert manifest.table["patient"].nunique() == 1
    assert "every DICOM file has the same PatientID" in said(manifest)


def test_names_in_paths_and_burned_into_pixels_are_warned_of_without_saying_them(
    tmp_path: Path, save_dicom: Save
) -> None:
    save_dicom(tmp_path / "benign" / "SECRETNAME_ANNA" / "IM1", "ID-1")
    save_dicom(tmp_path / "benign" / "scan_ID_12345", "ID-12345")
    save_dicom(tmp_path / "malignant" / "IM1", "ID-9", BurnedInAnnotation="YES")
    notes = said(open_dataset(tmp_path))
    assert "2 paths hold the patient's name or number" in notes
    assert "1 DICOM files say BurnedInAnnotation YES" in notes
    assert "secretname" not in notes.lower()
