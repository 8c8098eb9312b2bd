"""What was seen of images is kept: a second start decodes nothing, and a file that was changed is noticed."""

from __future__ import annotations

import shutil
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import medsharp
from medsharp.config import DataConfig
from medsharp.data import Manifest, cache_key, open_dataset, read_manifest, tie_duplicates, write_manifest
from medsharp.data.duplicates import look_at
from medsharp.data.prepare import prepare_manifest
from medsharp.errors import InputError
from medsharp.images import ImageLimits


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache/medsharp/images"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Forty images, a constant one, and one that is none."""
    rng = np.random.default_rng(0)
    root = tmp_path / "clinic"
    for label in ("benign", "malignant"):
        (root / label).mkdir(parents=True)
        for number in range(20):
            coarse = Image.fromarray(rng.integers(30, 220, (12, 14), dtype=np.uint8))
            coarse.resize((112, 96), Image.Resampling.BICUBIC).save(root / label / f"{number}.png")
    Image.new("L", (112, 96), 9).save(root / "benign/flat.png")
    (root / "benign/broken.png").write_bytes(b"not an image")
    return root


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that were decoded."""
    names: list[str] = []
    read = Manifest.read

    def noted(manifest: Manifest, row: Any, limits: ImageLimits = ImageLimits()) -> object:
        names.append(Path(row["image"]).name)
        return read(manifest, row, limits)

    monkeypatch.setattr(Manifest, "read", noted)
    return names


def prepared(folder: Path, **options: object) -> Manifest:
    return prepare_manifest(DataConfig.model_validate({"path": str(folder), **options}))


def test_second_start_decodes_nothing_and_prepares_the_same(folder: Path, reads: list[str]) -> None:
    first = prepared(folder)
    assert len(reads) == 42 + 1  # what cannot be read is tried again for its reason, which names the file
    reads.clear()
    second = prepared(folder)
    assert reads == ["broken.png"]
    assert second.table.equals(first.table)
    assert second.notes == first.notes
    reads.clear()
    assert prepared(folder, cache="memory").table.equals(first.table)
    assert len(reads) == 42


def test_memory_writes_nothing(folder: Path, empty_cache: Path) -> None:
    prepared(folder, cache="memory")
    assert not empty_cache.parent.exists()


def test_looks_from_the_cache_are_those_of_the_files(folder: Path) -> None:
    manifest = open_dataset(folder)
    places = [(manifest, row) for row in manifest.table.to_dict("records")]
    fresh = look_at(places)
    for _ in range(2):
        for one, other in zip(look_at(places, cache="disk"), fresh, strict=True):
            about = ("sha256", "reason", "size", "flags", "content")
            assert [getattr(one, name) for name in about] == [getattr(other, name) for name in about]
            assert (one.bits is None) == (other.bits is None)
            if one.bits is not None:
                np.testing.assert_array_equal(one.bits, other.bits)
                np.testing.assert_array_equal(one.thumbnail, other.thumbnail)


def test_only_the_owner_may_read_what_is_kept(folder: Path, empty_cache: Path) -> None:
    prepared(folder)
    assert {stat.S_IMODE(path.stat().st_mode) for path in empty_cache.rglob("*.images")} == {0o600}
    assert stat.S_IMODE(empty_cache.stat().st_mode) == 0o700


def test_other_limits_are_looked_at_anew(folder: Path, reads: list[str]) -> None:
    prepared(folder)
    reads.clear()
    with pytest.raises(InputError, match="no image can be used"):
        prepared(folder, limits={"max_pixels": 100})
    assert len(reads) >= 42


def test_frames_of_a_clip_are_kept_apart(folder: Path) -> None:
    (folder / "manifest.csv").write_text("image,label,frame\nbenign/0.png,benign,1\nbenign/1.png,benign,2\n")
    manifest = read_manifest(folder)
    places = [(manifest, row) for row in manifest.table.to_dict("records")]
    assert [bool(seen.reason) for seen in look_at(places, cache="disk")] == [False, True]
    again = [(manifest, {**row, "frame": ""}) for _, row in places]
    assert [bool(seen.reason) for seen in look_at(again, cache="disk")] == [False, False]


def test_image_that_was_replaced_after_the_manifest_was_made_is_named(folder: Path, tmp_path: Path) -> None:
    tied = tie_duplicates(open_dataset(folder))
    write_manifest(tied, tmp_path / "audited")
    assert prepared(tmp_path / "audited").included["image"].tolist() == tied.included["image"].tolist()
    rows = [row for row, image in tied.table["image"].items() if image in ("malignant/3.png", "malignant/7.png")]
    for row in rows:
        Image.new("L", (112, 96), 90).save(tied.path(tied.table.at[row, "image"]))
    with pytest.raises(InputError, match="is another file than when the manifest was made") as caught:
        prepared(tmp_path / "audited")
    assert f"row {rows[0] + 2}: malignant/3.png is another file" in str(caught.value)
    assert f"and so in row {rows[1] + 2}); audit and split the data set again" in str(caught.value)


@pytest.mark.parametrize("changed", ["our code", "a decoder"])
def test_other_code_or_decoders_look_anew(
    folder: Path, reads: list[str], tmp_path: Path, changed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared(folder)
    reads.clear()
    if changed == "a decoder":
        version = cache_key.version
        monkeypatch.setattr(cache_key, "version", lambda name: "999" if name == "pillow" else version(name))
    else:
        package = Path(medsharp.__file__).parent
        shutil.copytree(package / "images", tmp_path / "copy/images")
        shutil.copytree(package / "data/duplicates", tmp_path / "copy/data/duplicates")
        with (tmp_path / "copy/data/duplicates/look.py").open("a") as stream:
            stream.write("# changed\n")
        monkeypatch.setattr(cache_key, "files", lambda name: tmp_path / "copy")
    prepared(folder)
    assert len(reads) == 42 + 1


def test_images_that_are_rather_masks_are_counted(folder: Path) -> None:
    for label in ("benign", "malignant"):
        marked = np.zeros((96, 112), dtype=np.uint8)
        marked[20:50, 30:90] = 1
        Image.fromarray(marked * 255 if label == "benign" else marked * 9).save(folder / label / "0-r.png")
    for _ in range(2):  # the second time from the cache
        assert "2 of 44 images: two greys only, as a mask has" in prepared(folder).notes
