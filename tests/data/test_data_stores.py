"""Images that lie in a store: which files a manifest there means, and which it may not."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from object_store import SECRET, ObjectStore, object_store, reach_by, without

from medsharp.data.duplicates import look
from medsharp.data.manifest import read_manifest
from medsharp.data.stores import Store
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


def test_what_is_said_of_copies_names_the_store_and_not_where_they_lay(put: Put) -> None:
    put({"m/manifest.csv": b"image,label\na.png,benign\nmissing.png,benign\n", "m/a.png": PNG})
    manifest = read_manifest("memory://m/manifest.csv", stored=True)
    with manifest.at_hand() as here:
        looks = [look(here, row) for row in here.table.to_dict("records")]
    assert [one.reason.partition(" ")[2].partition(" ")[0].rstrip(":") for one in looks] == [
        "memory://m/a.png",
        "memory://m/missing.png",
    ]
    # The same of an image that is fetched by itself.
    assert [look(manifest, row) for row in manifest.table.to_dict("records")] == looks
    with pytest.raises(InputError, match=r"^memory://m/a\.png is damaged"), manifest.at_hand() as here:
        raise InputError(f"{here.root}/a.png is damaged")


def test_copies_are_the_store_for_another_machine(put: Put) -> None:
    put({"m/manifest.csv": b"image,label\na.png,benign\n", "m/a.png": PNG})
    manifest = read_manifest("memory://m/manifest.csv", stored=True)
    with manifest.at_hand() as here:
        elsewhere = here.anywhere()
        assert (here.store, elsewhere.store, elsewhere.copy_of) == ("", "memory://m", "")
        with elsewhere.at_hand() as there:
            assert there.root != here.root
            assert there.path("a.png").read_bytes() == PNG
    assert manifest.anywhere().store == "memory://m"


def test_what_is_not_read_is_not_copied_but_its_masks_are(put: Put) -> None:
    put({"m/manifest.csv": b"image,label,mask\na.png,benign,b.png\nc.png,benign,\n"})
    put({f"m/{name}": PNG for name in ("a.png", "b.png", "c.png")})
    with read_manifest("memory://m/manifest.csv", stored=True).at_hand(without={"a.png"}) as here:
        assert sorted(path.name for path in here.root.iterdir()) == ["b.png", "c.png"]


@pytest.fixture(scope="module")
def store() -> Iterator[ObjectStore]:
    pytest.importorskip("moto")
    with object_store() as found:
        found.put({"set/a.png": PNG, "set/below/b.png": PNG + b"b", "other/c.png": PNG}, "bucket")
        yield found


PACKAGES = pytest.mark.parametrize("package", ["s3fs", "pyarrow"])


@PACKAGES
def test_files_of_a_store_are_copied_whichever_package_reaches_it(
    store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    reach_by(package, monkeypatch)
    told: list[tuple[int, int]] = []
    wanted = ("a.png", "below/b.png", "missing.png", "a.png")
    Store("s3://bucket/set/").get(wanted, tmp_path, lambda done, total, what: told.append((done, total)))
    assert {str(path.relative_to(tmp_path)): path.read_bytes() for path in tmp_path.rglob("*.png")} == {
        "a.png": PNG,
        "below/b.png": PNG + b"b",
    }
    assert told == [(1, 3), (2, 3), (3, 3)]


@PACKAGES
def test_who_may_read_is_found_by_the_signature_and_others_get_a_sentence(
    store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    bucket = f"guarded-{package}"
    store.put({"a.png": PNG}, bucket)
    reader, nobody = store.reader(bucket), store.reader(None if package == "s3fs" else "bucket")
    forged = reader | {SECRET: "0" * 40}
    with store.guarded():
        for number, given in enumerate((reader, forged, nobody)):
            reach_by(package, monkeypatch)
            for name, value in given.items():
                monkeypatch.setenv(name, value)
            to = tmp_path / str(number)
            if given is reader:
                Store(f"s3://{bucket}").get(["a.png"], to)
                assert (to / "a.png").read_bytes() == PNG
                continue
            words = rf"s3://{bucket}/a.png cannot be reached: .*(signature|[Dd]enied|DENIED)"
            with pytest.raises(InputError, match=words):
                Store(f"s3://{bucket}").get(["a.png"], to)


def test_store_that_refuses_one_file_is_not_asked_for_the_others(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[str] = []

    def refuse(self: Any, path: str, to: str, **options: Any) -> None:
        asked.append(path)
        raise PermissionError("Access Denied")

    monkeypatch.setattr(fsspec.get_filesystem_class("memory"), "get_file", refuse)
    with pytest.raises(InputError, match=r"memory://m/0\.png cannot be reached: Access Denied"):
        Store("memory://m").get([f"{number}.png" for number in range(1000)], tmp_path)
    assert len(asked) < 500


def test_disk_that_is_full_is_told_as_that_and_not_as_of_the_store(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def full(self: Any, path: str, to: str, **options: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), to)

    monkeypatch.setattr(fsspec.get_filesystem_class("memory"), "get_file", full)
    with pytest.raises(OSError, match="No space left on device"):
        Store("memory://m").get(["a.png"], tmp_path)


class Answers:
    """What pyarrow's file systems of other makers are asked for."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self.arguments, self.options = arguments, options


@pytest.mark.parametrize("protocol", ["az", "abfs"])
def test_containers_of_azure_are_of_the_account_in_the_environment(
    monkeypatch: pytest.MonkeyPatch, protocol: str
) -> None:
    fs: Any = pytest.importorskip("pyarrow.fs")
    monkeypatch.setattr(fs, "AzureFileSystem", Answers)
    monkeypatch.setattr("fsspec.implementations.arrow.ArrowFSWrapper", lambda files: files)
    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT_NAME", raising=False)
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", "secret")
    without(protocol, "adlfs", monkeypatch)
    with pytest.raises(InputError, match="name the account in the environment: AZURE_STORAGE_ACCOUNT_NAME"):
        Store(f"{protocol}://scans/set")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "hospital")
    store: Any = Store(f"{protocol}://scans/set")
    assert (store._files.arguments, store._files.options) == (("hospital",), {"account_key": "secret"})
    assert store._folder == "scans/set"


@pytest.mark.parametrize("protocol", ["gs", "gcs"])
def test_buckets_of_google_are_given_up_after_a_minute(monkeypatch: pytest.MonkeyPatch, protocol: str) -> None:
    fs: Any = pytest.importorskip("pyarrow.fs")
    monkeypatch.setattr(fs, "GcsFileSystem", Answers)
    monkeypatch.setattr("fsspec.implementations.arrow.ArrowFSWrapper", lambda files: files)
    without(protocol, "gcsfs", monkeypatch)
    store: Any = Store(f"{protocol}://scans/set")
    assert (store._files.arguments, store._folder) == ((), "scans/set")
    assert store._files.options["retry_time_limit"].total_seconds() == 60
