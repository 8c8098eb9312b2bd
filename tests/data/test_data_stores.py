"""Images that lie in a store: which files a manifest there means, and which it may not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from medsharp.data.manifest import read_manifest
from medsharp.errors import InputError

fsspec = pytest.importorskip("fsspec")
PNG = b"of a test"

Put = Callable[[dict[str, bytes]], None]


@pytest.fixture
def put() -> Iterator[Put]:
    files: Any = fsspec.filesystem("memory")
    files.store.clear()

    def put(content: dict[str, bytes]) -> None:
        for name, data in content.items():
            files.pipe_file(f"/{name}", data)

    yield put
    files.store.clear()


def test_an_image_may_have_a_semicolon_in_its_name_and_masks_are_several(put: Put) -> None:
    put({"m/manifest.csv": b"image,label,mask\na;b.png,benign,one.png;two.png\n"})
    put({f"m/{name}": PNG for name in ("a;b.png", "one.png", "two.png")})
    with read_manifest("memory://m/manifest.csv", stored=True).at_hand() as here:
        names = sorted(path.name for path in here.root.iterdir())
        assert names == ["a;b.png", "one.png", "two.png"]
    assert not here.root.exists()


@pytest.mark.parametrize("root", ["img", "./img/", "sub/../img"])
def test_root_is_a_folder_beside_the_manifest(put: Put, root: str) -> None:
    put({"m/set/manifest.csv": b"image,label\na.png,benign\n", "m/set/manifest.yaml": f"root: {root}\n".encode()})
    put({"m/set/img/a.png": PNG})
    manifest = read_manifest("memory://m/set/manifest.csv", stored=True)
    assert manifest.store == "memory://m/set/img"
    with manifest.at_hand() as here:
        assert here.path("a.png").read_bytes() == PNG


def test_root_may_be_beside_the_folder_of_the_manifest(put: Put) -> None:
    put({"m/set/manifest.csv": b"image,label\na.png,benign\n", "m/set/manifest.yaml": b"root: ../img\n"})
    assert read_manifest("memory://m/set/manifest.csv", stored=True).store == "memory://m/img"


@pytest.mark.parametrize("root", ["/etc", "C:\\scans", "../../other", "../..", "file:///etc", "local:///etc"])
def test_manifest_in_a_store_names_no_folder_of_this_machine_and_no_other_bucket(put: Put, root: str) -> None:
    put({"m/set/manifest.csv": b"image,label\na.png,benign\n", "m/set/manifest.yaml": f"root: '{root}'\n".encode()})
    with pytest.raises(InputError, match="is not in the store; give a folder there, or a URL"):
        read_manifest("memory://m/set/manifest.csv", stored=True)
