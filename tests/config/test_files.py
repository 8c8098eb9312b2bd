"""Files are written whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from medsharp.errors import InputError, nearest
from medsharp.files import atomic_folder, atomic_path, sha256_file, write_text


def test_failed_write_leaves_the_old_file_and_no_rubbish(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")

    def fails() -> None:
        with atomic_path(path) as temporary:
            temporary.write_text("half of the n")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fails()
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["a.txt"]


def test_full_disk_is_one_sentence_that_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    with pytest.raises(InputError, match=r"cannot write .*a\.txt: No space left"), atomic_path(path):
        raise OSError(28, "No space left on device")
    assert list(tmp_path.iterdir()) == []


def test_file_where_a_folder_must_be_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write"):
        write_text(tmp_path / "file" / "a.txt", "x")


def test_failed_folder_leaves_the_old_one_whole(tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    with atomic_folder(folder) as temporary:
        (temporary / "a").write_text("1")

    def fails() -> None:
        with atomic_folder(folder, overwrite=True) as temporary:
            (temporary / "a").write_text("2")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fails()
    assert (folder / "a").read_text() == "1"
    with atomic_folder(folder, overwrite=True) as temporary:
        (temporary / "b").write_text("3")
    assert [file.name for file in folder.iterdir()] == ["b"]
    assert [file.name for file in tmp_path.iterdir()] == ["bundle"]


def test_existing_folder_is_not_overwritten_unasked(tmp_path: Path) -> None:
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "mine").write_text("")
    with pytest.raises(InputError, match="exists already"), atomic_folder(tmp_path / "bundle"):
        pass


def test_sha256_is_the_known_one(tmp_path: Path) -> None:
    write_text(tmp_path / "abc", "abc")
    assert sha256_file(tmp_path / "abc").startswith("ba7816bf8f01cfea")


def test_nearest_offers_close_names_or_a_short_list() -> None:
    assert nearest("resnet81", ["resnet18", "vit"]) == "; did you mean resnet18?"
    assert nearest("zzz", ["sam", "sgd"]) == "; choose from sam, sgd"
    assert nearest("zzz", [f"name{i}" for i in range(50)]) == ""
