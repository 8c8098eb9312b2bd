"""Files are written whole or not at all."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
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
    assert nearest("jpeg", ["jpeg_compression", *(f"name{i}" for i in range(50))]) == "; did you mean jpeg_compression?"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_modes_follow_the_umask_and_private_ones_do_not(tmp_path: Path) -> None:
    """In a process of its own, whose umask the test may set."""
    program = """
import os, sys
from pathlib import Path
from medsharp.files import atomic_folder, atomic_path, write_text
root = Path(sys.argv[1])
for mask in (0o022, 0o002, 0o077):
    os.umask(mask)
    write_text(root / f"{mask:o}.txt", "open")
    with atomic_folder(root / f"{mask:o}") as folder:
        (folder / "a").write_text("1")
os.umask(0o000)
with atomic_path(root / "private.txt", private=True) as temporary:
    assert os.stat(temporary).st_mode & 0o777 == 0o600
    temporary.unlink()
    temporary.write_text("another file in its place")
with atomic_folder(root / "private", private=True) as folder:
    assert os.stat(folder).st_mode & 0o777 == 0o700
write_text(root / "22.txt", "open before, private now", private=True)
"""
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=True)
    assert {name: mode(tmp_path / name) for name in ("2.txt", "77.txt", "private.txt", "22.txt")} == {
        "2.txt": 0o664,
        "77.txt": 0o600,
        "private.txt": 0o600,
        "22.txt": 0o600,
    }
    assert {name: mode(tmp_path / name) for name in ("22", "2", "77", "private")} == {
        "22": 0o755,
        "2": 0o775,
        "77": 0o700,
        "private": 0o700,
    }


def test_writing_never_touches_the_umask_of_the_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def touched(mask: int) -> int:
        raise AssertionError("files that another thread makes meanwhile would be open to all")

    monkeypatch.setattr(os, "umask", touched)
    write_text(tmp_path / "a.txt", "x")
    with atomic_folder(tmp_path / "folder", overwrite=True) as folder:
        (folder / "a").write_text("1")
    with atomic_folder(tmp_path / "folder", overwrite=True) as folder:
        (folder / "b").write_text("2")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.txt", "folder"]


def test_taken_temporary_names_are_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = iter(["taken", "taken", "free1", "taken", "free2"])
    monkeypatch.setattr("medsharp.files.secrets.token_hex", lambda count: next(names))
    (tmp_path / ".a.txt.taken.part").write_text("of another process")
    (tmp_path / ".b.taken.part").mkdir()
    write_text(tmp_path / "a.txt", "mine")
    with atomic_folder(tmp_path / "b"):
        pass
    assert (tmp_path / "a.txt").read_text() == "mine"
    assert (tmp_path / ".a.txt.taken.part").read_text() == "of another process"
