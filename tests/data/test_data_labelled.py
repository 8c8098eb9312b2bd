"""Labels are of the image that a row names, and of no other."""

from __future__ import annotations

import pytest

from medsharp.data.labelled import label_images
from medsharp.data.manifest import make_table
from medsharp.errors import InputError

CLASSES = ("benign", "malignant")


def given(text: str, *images: str) -> dict[str, tuple[str, str]]:
    """Return label and patient of each image that has a row."""
    manifest, places = label_images(text.encode(), "labels.csv", images, CLASSES, "batch")
    rows = manifest.table.to_dict("records")
    assert [row["image"] for row in rows] == [images[place] for place in places]
    return {row["image"]: (row["label"], row["patient"]) for row in rows}


def test_each_row_is_of_the_image_that_it_names_whatever_the_order() -> None:
    text = "image,label,patient\nb.png,malignant,P2\nc.png,benign,P3\na.png,benign,P1\n"
    assert given(text, "a.png", "b.png", "c.png") == {
        "a.png": ("benign", "P1"),
        "b.png": ("malignant", "P2"),
        "c.png": ("benign", "P3"),
    }


def test_folders_count_where_both_have_them() -> None:
    text = "image,label\nx/1.png,malignant\ny\\1.png,benign\n2.png,malignant\nhospital/z/3.png,benign\n"
    found = given(text, "data/x/1.png", "data/y/1.png", "data/y/2.png", "z/3.png")
    assert [label for label, _ in found.values()] == ["malignant", "benign", "malignant", "benign"]
    assert list(found) == ["data/x/1.png", "data/y/1.png", "data/y/2.png", "z/3.png"]
    with pytest.raises(InputError, match=r"row 2: no image called 'w/2.png' was sent"):
        given("image,label\nw/2.png,benign\n", "data/y/2.png")


def test_image_without_a_row_is_counted_and_left_out() -> None:
    manifest, places = label_images(b"image;label\nb.png;benign\n", "labels.csv", ["a.png", "b.png"], CLASSES, "batch")
    assert (len(manifest.table), places) == (1, [1])
    assert any("1 of 2 images have no row in labels.csv" in note for note in manifest.notes)


@pytest.mark.parametrize(
    ("text", "images", "sentence"),
    [
        ("image,label\n", ["a.png"], "labels.csv"),
        ("image,class\na.png,benign\n", ["a.png"], "label"),
        ("image,label\na.png,benin\n", ["a.png"], "labels.csv, row 2: label 'benin' is not one of benign, malignant"),
        ("image,label\na.png,\n", ["a.png"], "row 2: there is no label"),
        ("image,label\nc.png,benign\n", ["a.png"], "row 2: no image called 'c.png' was sent"),
        ("image,label\na.png,benign\na.png,benign\n", ["a.png"], "row 3: image 'a.png' stands in row 2 already"),
        ("image,label\n1.png,benign\n", ["x/1.png", "y/1.png"], "row 2: 2 of the images sent are called '1.png'"),
        ("image,label\na.png,benign\n", ["a.png", "a.png"], "two images are called a.png"),
    ],
)
def test_wrong_table_is_one_sentence(text: str, images: list[str], sentence: str) -> None:
    with pytest.raises(InputError) as caught:
        given(text, *images)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_cells_are_read_as_those_of_a_manifest() -> None:
    text = (
        "image,label,Patient ID,Site,Exclude\n"
        "a.png,benign,P1,North,0\nb.png,malignant,P1,north,FALSE\nc.png,benign,P2,North,doppler\n"
    )
    manifest, _ = label_images(text.encode(), "labels.csv", ["a.png", "b.png", "c.png"], CLASSES, "batch")
    table = manifest.table
    assert list(table["exclude"]) == ["", "", "doppler"]
    assert list(table["patient"]) == ["P1", "P1", "P2"]
    assert list(table["site"]) == ["North"] * 3
    assert any("exclude is '0', 'FALSE' in 2 rows, which are used" in note for note in manifest.notes)
    assert any("are one site, 'North'" in note for note in manifest.notes)


def test_merged_cells_are_filled_but_those_of_a_manifest_that_was_audited_are_not() -> None:
    images = [f"{number}.png" for number in range(6)]
    patients = ["P0", "", "P2", "", "P4", ""]
    rows = [{"image": name, "label": "benign", "patient": who} for name, who in zip(images, patients, strict=True)]
    for digest, wanted in (("", ["P0", "P0", "P2", "P2", "P4", "P4"]), ("a" * 64, patients)):
        text = make_table([row | {"sha256": digest} for row in rows]).to_csv(index=False)
        manifest, _ = label_images(text.encode(), "manifest.csv", images, CLASSES, "batch")
        assert list(manifest.table["patient"]) == wanted
