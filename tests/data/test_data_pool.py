"""Several hospitals as one manifest: names, sites, groups, masks and ranges of each, and ties between them."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from medsharp.config import DataConfig
from medsharp.data.manifest import Manifest, read_manifest, write_manifest
from medsharp.data.phantom import simulate_image
from medsharp.data.pipeline import make_dataset
from medsharp.data.pool import pool_manifests
from medsharp.data.prepare import open_tied, prepare_manifest
from medsharp.errors import InputError
from medsharp.preprocess import PreprocessSpec

CLASSES = ("benign", "malignant")
PATIENTS = 12


def hospital(
    folder: Path, seed: int, *, site: str = "", about: str = "", scale: int = 1, same: Path | None = None
) -> Path:
    """A manifest whose images and patients are called as every other's; `same`: whose first three it has, too."""
    rng = np.random.default_rng(seed)
    (folder / "images").mkdir(parents=True)
    rows = []
    for number in range(PATIENTS):
        label = CLASSES[number % 2]
        picture = simulate_image("A", label, rng, size=64)
        pixels = picture.pixels
        if same is not None and number < 3:
            pixels = np.asarray(Image.open(same / "images" / f"{number}.png"))
            if number == 1:
                pixels = np.clip(pixels.astype(int) + 6, 0, 255).astype(np.uint8)  # nearly the same
            if number == 2:
                label = CLASSES[1]  # where it is benign
        Image.fromarray(pixels.astype(np.uint16) * scale if scale > 1 else pixels).save(folder / f"images/{number}.png")
        Image.fromarray(picture.mask.astype(np.uint8) * 255).save(folder / f"images/{number}-mask.png")
        rows.append(
            {"image": f"images/{number}.png", "label": label, "patient": str(number), "site": site}
            | {"mask": f"images/{number}-mask.png", "group": "7" if number in (4, 6) else ""}
        )
    with (folder / "manifest.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    (folder / "manifest.yaml").write_text(f"name: {folder.name}\nclasses: [benign, malignant]\n{about}")
    return folder


@pytest.fixture(scope="module")
def hospitals(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    root = tmp_path_factory.mktemp("hospitals")
    north = hospital(root / "north", 1, about="licence: CC0\ncitation: North 2020\n")
    south = hospital(root / "south", 2, site="Porto", about="licence: MIT\n", same=north)
    return [north, south]


def tied(paths: list[Path]) -> Manifest:
    return open_tied(DataConfig(path=tuple(map(str, paths)), cache="memory"))


def test_names_patients_and_groups_of_hospitals_stay_apart(hospitals: list[Path]) -> None:
    table = tied(hospitals).table
    assert table["image"].is_unique
    assert table["image"].tolist() == [f"{name}/images/{n}.png" for name in ("north", "south") for n in range(PATIENTS)]
    assert table["mask"][PATIENTS] == "south/images/0-mask.png"
    assert list(dict.fromkeys(table["site"])) == ["north", "Porto"]  # where no site was named, the data set is the site
    groups = table.set_index("image")["group"]
    one, other = groups["north/images/4.png"], groups["south/images/4.png"]
    assert one == groups["north/images/6.png"] != other == groups["south/images/6.png"]
    assert groups["north/images/5.png"] != groups["south/images/5.png"]


def test_duplicates_between_hospitals_are_found(hospitals: list[Path]) -> None:
    table = tied(hospitals).table.set_index("image")
    assert table.at["north/images/0.png", "exclude"] == ""
    assert table.at["south/images/0.png", "exclude"] == "exact duplicate of north/images/0.png"
    assert table.at["north/images/1.png", "group"] == table.at["south/images/1.png", "group"]
    assert table.at["north/images/2.png", "exclude"] == ("contradictory duplicate of south/images/2.png (malignant)")
    assert table.at["south/images/2.png", "exclude"] == "contradictory duplicate of north/images/2.png (benign)"


def test_ties_between_hospitals_hold_where_one_is_left_out(hospitals: list[Path]) -> None:
    config = DataConfig(path=tuple(map(str, hospitals)), cache="memory", leave_site="porto", folds=2)
    split = prepare_manifest(config).table.set_index("image")
    assert split.at["south/images/1.png", "split"] == "test"
    assert split.at["north/images/1.png", "exclude"] == "its group is in the test split already"


def test_what_data_sets_say_of_themselves_is_joined(hospitals: list[Path]) -> None:
    manifest = tied(hospitals)
    assert manifest.info.name == "north + south"
    assert manifest.info.licence == "north: CC0; south: MIT"
    assert manifest.info.citation == "north: North 2020"


def test_joined_manifest_is_read_again_from_anywhere(hospitals: list[Path], tmp_path: Path) -> None:
    manifest = tied(hospitals)
    write_manifest(manifest, tmp_path / "run")
    again = read_manifest(tmp_path / "run")
    pd.testing.assert_frame_equal(again.table, manifest.table)
    row = again.table.iloc[PATIENTS + 3]
    assert again.path(row["image"]) == hospitals[1] / "images/3.png"
    assert again.masks(row) == [hospitals[1] / "images/3-mask.png"]
    assert (again.read(row).pixels == np.asarray(Image.open(hospitals[1] / "images/3.png"))).all()
    third = hospital(tmp_path / "third", 3)
    joined = tied([tmp_path / "run", third])
    assert [part.name for part in joined.parts] == ["north", "south", "third"]
    assert "south/images/3.png" in set(joined.table["image"])


def test_each_hospitals_range_reaches_its_pixels(tmp_path: Path) -> None:
    wide = hospital(tmp_path / "wide", 1, about="range: [0, 4080]\n", scale=16)
    narrow = hospital(tmp_path / "narrow", 1, about="range: [0, 510]\n", scale=2)
    plain = hospital(tmp_path / "plain", 1)
    opened = [read_manifest(folder) for folder in (wide, narrow, plain)]
    write_manifest(pool_manifests(opened), tmp_path / "run")
    pooled = read_manifest(tmp_path / "run")
    spec = PreprocessSpec(64, "none")
    rows = pooled.table[pooled.table["image"].str.endswith("/5.png")]
    images = make_dataset(rows, pooled, spec=spec, classes=CLASSES).images
    expected = np.asarray(Image.open(plain / "images/5.png"))
    for number in range(3):
        np.testing.assert_allclose(images[number], expected, atol=1)
        np.testing.assert_allclose(pooled.read(rows.iloc[number]).pixels, expected, atol=1)
    declared = make_dataset(rows, pooled.with_range(pooled.parts[0].range), spec=spec, classes=CLASSES).images
    assert declared[1].mean() == pytest.approx(expected.mean() / 8, abs=2)  # one for all goes before


def test_notes_say_of_which_hospital_they_are(hospitals: list[Path], tmp_path: Path) -> None:
    about = yaml.safe_dump({"name": "audited", "classes": list(CLASSES), "notes": ["audit: 3 of 12 images stay"]})
    other = hospital(tmp_path / "audited", 5)
    (other / "manifest.yaml").write_text(about)
    assert "audit: audited: 3 of 12 images stay" in tied([hospitals[0], other]).notes


def test_data_sets_of_one_name_are_refused(hospitals: list[Path], tmp_path: Path) -> None:
    other = hospital(tmp_path / "north", 9)
    with pytest.raises(InputError, match="two data sets are called north; give each once"):
        tied([hospitals[0], other])


def test_file_in_two_data_sets_is_refused(hospitals: list[Path], tmp_path: Path) -> None:
    north = read_manifest(hospitals[0])
    write_manifest(north, tmp_path / "again")
    about = (tmp_path / "again/manifest.yaml").read_text().replace("name: north", "name: again")
    (tmp_path / "again/manifest.yaml").write_text(about)
    with pytest.raises(InputError, match=r"north and again have the same file .*0\.png \(12 such files\)"):
        tied([hospitals[0], tmp_path / "again"])


def test_hospital_of_one_class_is_refused_by_name(hospitals: list[Path], tmp_path: Path) -> None:
    other = hospital(tmp_path / "healthy", 4)
    table = pd.read_csv(other / "manifest.csv", dtype=str)
    table["label"] = "benign"
    table.to_csv(other / "manifest.csv", index=False)
    with pytest.raises(InputError, match="healthy has no images of class 'malignant'; it has benign"):
        tied([hospitals[0], other])
