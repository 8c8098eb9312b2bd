"""The simulated data set on disk: a valid manifest, the same bytes for the same seed, a cache made once."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medsharp.data.manifest import read_manifest
from medsharp.data.phantom import phantom_dataset, write_phantom
from medsharp.errors import InputError


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*.png"))}


def test_what_is_written_reads_back_as_a_valid_manifest(tmp_path: Path) -> None:
    steps: list[tuple[int, int]] = []
    written = write_phantom(
        tmp_path / "b",
        hospital="B",
        patients=10,
        size=64,
        progress=lambda done, total, what: steps.append((done, total)),
    )
    manifest = read_manifest(tmp_path / "b")
    assert manifest.table.equals(written.table)
    assert manifest.root.resolve() == written.root.resolve() == (tmp_path / "b").resolve()
    assert manifest.info.classes == ("benign", "malignant")
    assert steps == [(done, 10) for done in range(1, 11)]
    table = manifest.table
    assert table["patient"].nunique() == 10
    assert 10 < len(table) <= 20
    assert set(table["site"]) == {"simulated hospital B"}
    assert set(table["birads"]) <= {"2", "3", "4", "5"}
    assert not (table[["image", "label", "patient", "site", "device", "view", "birads", "mask"]] == "").any(axis=None)
    for _, row in table.iterrows():
        with Image.open(manifest.path(row["image"])) as image, Image.open(manifest.path(row["mask"])) as mask:
            assert image.mode == mask.mode == "L"
            assert image.size == mask.size == (64, 64)
            assert set(np.unique(np.asarray(mask))) == {0, 255}
    assert sorted(path.name for path in (tmp_path / "b").iterdir()) == [
        "images",
        "manifest.csv",
        "manifest.yaml",
        "masks",
    ]


def test_views_of_a_patient_share_label_and_lesion_but_not_pixels(tmp_path: Path) -> None:
    manifest = write_phantom(tmp_path / "a", patients=8, size=64)
    shared = ["label", "birads", "shape", "margin", "orientation", "echo_pattern", "posterior", "size_mm"]
    pairs = [rows for _, rows in manifest.table.groupby("patient") if len(rows) == 2]
    assert pairs
    for rows in pairs:
        assert (rows[shared].nunique() == 1).all()
        assert rows["view"].nunique() == 2
        first, second = (manifest.path(name).read_bytes() for name in rows["image"])
        assert first != second


def test_patients_do_not_depend_on_how_many_follow(tmp_path: Path) -> None:
    few = write_phantom(tmp_path / "few", patients=4, size=64, seed=5)
    many = write_phantom(tmp_path / "many", patients=7, size=64, seed=5)
    written = contents(tmp_path / "many")
    for name, data in contents(tmp_path / "few").items():
        assert written[name] == data
    assert many.table.iloc[: len(few.table)].equals(few.table)


def test_another_seed_gives_other_images(tmp_path: Path) -> None:
    write_phantom(tmp_path / "0", patients=3, size=64, seed=0)
    write_phantom(tmp_path / "1", patients=3, size=64, seed=1)
    first, second = contents(tmp_path / "0"), contents(tmp_path / "1")
    assert not any(first[name] == second[name] for name in first.keys() & second.keys())


@pytest.mark.parametrize("share", [0.0, 0.3, 0.4, 1.0])
def test_the_share_of_malignant_patients_is_exact(tmp_path: Path, share: float) -> None:
    table = write_phantom(tmp_path / "a", patients=10, size=64, malignant_share=share).table
    labels = table.drop_duplicates("patient")["label"]
    assert (labels == "malignant").sum() == round(10 * share)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"hospital": "Z"}, "unknown simulated hospital 'Z'"),
        ({"patients": 0}, "patients is 0"),
        ({"seed": -1}, "seed is -1"),
        ({"malignant_share": 1.5}, "malignant_share is 1.5"),
        ({"size": 10, "patients": 2}, "size 10 is too small"),
    ],
)
def test_wrong_input_leaves_nothing_behind(tmp_path: Path, arguments: dict, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        write_phantom(tmp_path / "out", **arguments)
    assert list(tmp_path.iterdir()) == []


def test_an_interrupt_stops_at_once_and_leaves_nothing_behind(tmp_path: Path) -> None:
    def interrupt(done: int, total: int, what: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_phantom(tmp_path / "out", patients=10_000, size=64, progress=interrupt)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_something_in_it_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("mine")
    with pytest.raises(InputError, match="exists already"):
        write_phantom(tmp_path, patients=2, size=64)
    assert [path.name for path in tmp_path.iterdir()] == ["note.txt"]


def test_the_default_data_set_is_made_once_and_read_from_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    first = phantom_dataset("phantom:C", patients=2)
    (cached,) = (tmp_path / "medsharp").iterdir()
    os.utime(cached / "manifest.csv", (0, 0))
    again = phantom_dataset("phantom:C", patients=2)
    assert again.table.equals(first.table)
    assert (cached / "manifest.csv").stat().st_mtime == 0
    assert set(first.table["site"]) == {"simulated hospital C"}


def test_two_callers_at_once_get_the_same_whole_data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with ThreadPoolExecutor(2) as pool:
        manifests = list(pool.map(lambda spec: phantom_dataset(spec, patients=2), ["phantom", "phantom:A"]))
    assert manifests[0].table.equals(manifests[1].table)
    assert all(manifests[0].path(name).is_file() for name in manifests[0].table["image"])
    assert len(list((tmp_path / "medsharp").iterdir())) == 1


@pytest.mark.parametrize("spec", ["phantom:X", "fantom", "phantom:a"])
def test_an_unknown_data_set_is_refused(spec: str) -> None:
    with pytest.raises(InputError, match="simulated"):
        phantom_dataset(spec)
