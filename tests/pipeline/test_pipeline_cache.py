"""The cache of decoded images: a second start decodes nothing, and nothing wrong is ever read from it."""

from __future__ import annotations

import os
import pickle
import re
import resource
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydicom.pixels.decoders import gdcm, pillow, pyjpegls, pylibjpeg

import medsharp
from medsharp.data import Manifest, cache, cache_key, open_dataset
from medsharp.data import pipeline as module
from medsharp.data.pipeline import ImageDataset, image_recipe, make_dataset
from medsharp.errors import InputError
from medsharp.files import sha256_file
from medsharp.images import read_marks
from medsharp.preprocess import PreprocessSpec

SPEC = PreprocessSpec(32)
CLASSES = ("benign", "malignant")
PACKAGE = Path(medsharp.__file__).parent


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache/medsharp/images"


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    rng = np.random.default_rng(0)
    for label in CLASSES:
        (tmp_path / "data" / label).mkdir(parents=True)
        for number in range(6):
            pixels = rng.integers(40, 220, (48, 60), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "data" / label / f"{number}.png")
            Image.fromarray((pixels > 150).astype(np.uint8) * 255).save(
                tmp_path / "data" / label / f"{number}_mask.png"
            )
    return open_dataset(tmp_path / "data")


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that were decoded."""
    names: list[str] = []
    original = module.read_image

    def read(path: Path, **options: Any) -> object:
        names.append(Path(path).name)
        return original(path, **options)

    def read_mask(path: Path, **options: Any) -> object:
        names.append(Path(path).name)
        return read_marks(path, **options)

    monkeypatch.setattr(module, "read_image", read)
    monkeypatch.setattr("medsharp.data.lesion.read_marks", read_mask)
    return names


def dataset(manifest: Manifest, spec: PreprocessSpec = SPEC, masks: bool = False) -> ImageDataset:
    return make_dataset(manifest.table, manifest, spec=spec, classes=CLASSES, masks=masks, cache="disk")


def pixels(data: ImageDataset) -> np.ndarray:
    return np.stack(list(data.images))


def test_second_start_decodes_nothing_and_gives_the_same(manifest: Manifest, reads: list[str]) -> None:
    first = dataset(manifest, masks=True)
    assert len(reads) == 12 + 24  # for the images, and for the masks, whose place depends on their images
    reads.clear()
    second = dataset(manifest, masks=True)
    assert reads == []
    assert second.masks is not None
    assert first.masks is not None
    np.testing.assert_array_equal(pixels(second), pixels(first))
    np.testing.assert_array_equal(list(second.masks), list(first.masks))
    assert {int(level) for mask in second.masks for level in np.unique(mask)} == {0, 1}
    in_memory = make_dataset(manifest.table, manifest, spec=SPEC, classes=CLASSES)
    np.testing.assert_array_equal(pixels(in_memory), pixels(first))


def test_other_rows_of_the_same_images_decode_nothing(manifest: Manifest, reads: list[str]) -> None:
    whole = dataset(manifest)
    reads.clear()
    some = manifest.replace(table=manifest.table.iloc[[7, 2, 9]])
    np.testing.assert_array_equal(pixels(dataset(some)), pixels(whole)[[7, 2, 9]])
    assert reads == []


def test_changed_file_is_decoded_again(manifest: Manifest, reads: list[str]) -> None:
    dataset(manifest)
    reads.clear()
    Image.new("L", (60, 48), 90).save(manifest.path("benign/3.png"))
    assert (dataset(manifest).images[3] > 0).any()
    assert reads == ["3.png"]


def test_other_settings_are_decoded_again(manifest: Manifest, reads: list[str]) -> None:
    dataset(manifest)
    for spec in (PreprocessSpec(40), PreprocessSpec(32, crop="none"), PreprocessSpec(32, fit="stretch")):
        assert image_recipe(spec) != image_recipe(SPEC)
        reads.clear()
        dataset(manifest, spec)
        assert len(reads) == 12


def test_memory_writes_nothing(manifest: Manifest, empty_cache: Path) -> None:
    make_dataset(manifest.table, manifest, spec=SPEC, classes=CLASSES, cache="memory")
    assert not empty_cache.exists()


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-500] + b"\0" * 500,
        lambda data: data[:1000],
        lambda data: b"",
        lambda data: b"nonsense" * 500,
    ],
    ids=["pixels", "cut off", "empty", "other"],
)
def test_damaged_cache_is_noticed_and_made_again(
    damage: Callable[[bytes], bytes], manifest: Manifest, reads: list[str], empty_cache: Path
) -> None:
    before = pixels(dataset(manifest)).copy()
    (file,) = empty_cache.rglob("*.images")
    file.write_bytes(damage(file.read_bytes()))
    reads.clear()
    np.testing.assert_array_equal(pixels(dataset(manifest)), before)
    assert len(reads) == 12
    reads.clear()
    dataset(manifest)
    assert reads == []


def test_only_the_owner_may_read_the_cache(manifest: Manifest, empty_cache: Path) -> None:
    dataset(manifest)
    for folder in (empty_cache, *[path for path in empty_cache.iterdir() if path.is_dir()]):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_files_of_the_cache_are_private_whatever_the_umask(manifest: Manifest, empty_cache: Path) -> None:
    before = os.umask(0)
    try:
        dataset(manifest)
    finally:
        os.umask(before)
    assert {stat.S_IMODE(file.stat().st_mode) for file in empty_cache.rglob("*.images")} == {0o600}


@pytest.mark.parametrize("name", cache_key.DECODERS)
def test_another_version_of_a_decoder_is_another_recipe(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = image_recipe(SPEC)
    known = cache_key.version

    def other(distribution: str) -> str:
        return "999.0" if distribution == name else known(distribution)

    monkeypatch.setattr(cache_key, "version", other)
    assert image_recipe(SPEC) != before


def test_every_decoder_that_dicom_may_use_is_in_the_recipe() -> None:
    named = set()
    for decoder in (gdcm, pillow, pyjpegls, pylibjpeg):
        for needs in decoder.DECODER_DEPENDENCIES.values():
            named |= {re.split("[<>=~! ]", need)[0].lower() for need in needs}
    assert named
    assert named <= set(cache_key.DECODERS)


def test_a_library_that_pillow_is_built_with_is_in_the_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    before = image_recipe(SPEC)
    known = cache_key.features.version
    monkeypatch.setattr(cache_key.features, "version", lambda name: "0" if name == "jpg" else known(name))
    assert image_recipe(SPEC) != before


@pytest.mark.parametrize(
    "changed", ["images/read.py", "images/dicom.py", "preprocess/place.py", "data/lesion.py", "data/pipeline.py"]
)
def test_a_change_of_our_code_is_another_recipe(tmp_path: Path, changed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = tmp_path / "package"
    for part in ("images", "preprocess"):
        shutil.copytree(PACKAGE / part, copy / part)
    (copy / "data").mkdir()
    for part in ("data/lesion.py", "data/pipeline.py"):
        shutil.copy(PACKAGE / part, copy / part)
    monkeypatch.setattr(cache_key, "files", lambda name: copy)
    before = image_recipe(SPEC)
    assert image_recipe(SPEC) == before
    with (copy / changed).open("a") as stream:
        stream.write("# changed\n")
    assert image_recipe(SPEC) != before


FILL = """
import sys
import numpy as np
from medsharp.data import open_dataset
from medsharp.data.pipeline import make_dataset
from medsharp.preprocess import PreprocessSpec
m = open_dataset(sys.argv[1])
d = make_dataset(m.table, m, spec=PreprocessSpec(32), classes=("benign", "malignant"), cache="disk")
print(int(np.stack(list(d.images)).astype(np.int64).sum()))
"""


def test_two_processes_may_fill_it_at_once(manifest: Manifest, reads: list[str], empty_cache: Path) -> None:
    both = [
        subprocess.Popen([sys.executable, "-c", FILL, str(manifest.root)], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    sums = {process.communicate()[0] for process in both}
    assert [process.returncode for process in both] == [0, 0]
    assert sums == {f"{int(pixels(dataset(manifest)).astype(np.int64).sum())}\n"}
    assert reads == []
    assert not list(empty_cache.rglob("*.part"))


def test_cache_that_is_cleared_meanwhile_stops_no_training(
    manifest: Manifest, empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = pixels(make_dataset(manifest.table, manifest, spec=SPEC, classes=CLASSES, cache="memory"))
    read = cache._read_segment

    def cleared(path: Path) -> object:
        cache.clear_cache()
        return read(path)

    monkeypatch.setattr(cache, "_read_segment", cleared)
    np.testing.assert_array_equal(pixels(dataset(manifest)), expected)
    assert cache.cache_size() == (0, 0)


def test_broken_off_start_goes_on_where_it_was(
    manifest: Manifest, reads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "_SEGMENT_BYTES", 5 * 32 * 32)

    def interrupt(done: int, total: int, what: str) -> None:
        if done == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_dataset(manifest.table, manifest, spec=SPEC, classes=CLASSES, cache="disk", progress=interrupt)
    reads.clear()
    dataset(manifest)
    assert len(reads) == 7


def test_same_file_in_two_rows_is_decoded_once(manifest: Manifest, reads: list[str]) -> None:
    manifest.path("benign/1.png").write_bytes(manifest.path("benign/0.png").read_bytes())
    data = dataset(manifest)
    assert len(reads) == 11
    np.testing.assert_array_equal(data.images[0], data.images[1])


def test_what_was_used_longest_ago_goes_when_it_is_full(
    manifest: Manifest, empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "LIMIT_BYTES", 30_000)  # two sets of 12 images of 32 x 32 pixels, and not three
    sides = (30, 31, 32)
    for side in sides[:2]:
        dataset(manifest, PreprocessSpec(side))
    dataset(manifest, PreprocessSpec(30))
    dataset(manifest, PreprocessSpec(32))
    left = {path.parent.name for path in empty_cache.rglob("*.images")}
    assert left == {image_recipe(PreprocessSpec(side)) for side in (30, 32)}
    assert cache.cache_size()[0] == 2
    cache.clear_cache()
    assert cache.cache_size() == (0, 0)


def test_pixels_reach_a_worker_by_their_file(manifest: Manifest) -> None:
    data = dataset(manifest)
    assert len(pickle.dumps(data.images)) < 3000 < pixels(data).nbytes
    np.testing.assert_array_equal(list(pickle.loads(pickle.dumps(data.images))), pixels(data))


def test_unwritable_cache_is_a_sentence_with_the_remedy(
    manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(InputError, match=r"cannot make the cache .*set data\.cache=memory"):
        dataset(manifest)


def test_full_disk_is_a_sentence_and_leaves_nothing_half_written(manifest: Manifest, empty_cache: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    # No file may grow beyond this; the system's error is that of a full disk but for its number.
    resource.setrlimit(resource.RLIMIT_FSIZE, (4000, hard))
    try:
        with pytest.raises(InputError, match=r"cannot write .*free some space, .*or set data\.cache=memory"):
            dataset(manifest)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not [path for path in empty_cache.rglob("*") if path.is_file()]


def test_image_that_is_not_the_manifests_is_refused(manifest: Manifest) -> None:
    table = manifest.table.copy()
    table["sha256"] = [sha256_file(manifest.path(name)) for name in table["image"]]
    known = manifest.replace(table=table)
    dataset(known)
    Image.new("L", (60, 48), 90).save(known.path("benign/3.png"))
    with pytest.raises(InputError, match=r"row 5: benign/3\.png is another file"):
        dataset(known)


def test_image_that_two_segments_hold_is_that_whose_checksum_was_looked_at(empty_cache: Path) -> None:
    """As two trainings leave them that begin at once."""
    keys = [bytes([number]) * 32 for number in range(4)]
    images = [np.full((5, 7), 10 + number, dtype=np.uint8) for number in range(4)]

    def made(numbers: list[int]) -> list[int]:
        asked: list[int] = []

        def make(place: int) -> np.ndarray:
            asked.append(numbers[place])
            return images[numbers[place]]

        found = cache.cached_images([keys[number] for number in numbers], make, shape=(5, 7), recipe="recipe")
        assert [int(found[place][0, 0]) for place in range(len(numbers))] == [10 + number for number in numbers]
        return asked

    assert made([1, 2]) == [1, 2]
    (first,) = empty_cache.rglob(f"*{cache._SUFFIX}")
    kept = first.read_bytes()
    first.unlink()
    assert made([2, 3]) == [2, 3]
    (second,) = empty_cache.rglob(f"*{cache._SUFFIX}")
    for name, expected in {"0": [], "zzzz": [3]}.items():  # looked at before it and after it
        other = first.with_name(name + cache._SUFFIX)
        other.write_bytes(kept)
        whole = second.read_bytes()
        # Of the image that both hold, the second one's pixels are damaged.
        second.write_bytes(whole.replace(bytes([12]) * 35, bytes([99]) * 35))
        assert second.read_bytes() != whole
        assert made([1, 2, 3]) == expected
        second.write_bytes(whole)
        other.unlink()
