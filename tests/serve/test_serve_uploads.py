from __future__ import annotations

from pathlib import Path

import pytest

from medsharp.errors import InputError
from serve import Limits
from serve.uploads import open_cache, private_cache, safe_name, take


@pytest.mark.parametrize(
    ("sent", "shown"),
    [
        ("scan.png", "scan.png"),
        ("/home/x/scan.png", "scan.png"),
        ("C:\\images\\scan.png", "scan.png"),
        ("../..", "image 2"),
        ("", "image 2"),
        (None, "image 2"),
        ("a\x00b\n\u202ec.png", "abc.png"),
        ("Läsion 3.dcm", "Läsion 3.dcm"),
    ],
)
def test_name_is_reduced_to_something_harmless(sent: str | None, shown: str) -> None:
    assert safe_name(sent, 2) == shown


def test_long_name_is_cut_but_keeps_its_suffix() -> None:
    name = safe_name("a" * 300 + ".png", 1)
    assert len(name) == 80
    assert name.endswith(".png")


def test_expired_upload_is_explained() -> None:
    gone = str(private_cache() / "abc" / "gone.png")
    with pytest.raises(InputError, match="choose the file again"):
        take([gone], {gone})


def test_one_missing_upload_still_deletes_the_others() -> None:
    folder = private_cache() / "some"
    folder.mkdir(parents=True)
    (folder / "there.png").write_bytes(b"x")
    paths = [str(private_cache() / "abc" / "gone.png"), str(folder / "there.png")]
    with pytest.raises(InputError):
        take(paths, paths)
    assert not folder.exists()


def test_file_in_the_folder_that_was_not_uploaded_is_refused() -> None:
    file = open_cache() / "leftover.png"
    file.write_bytes(b"x")
    with pytest.raises(InputError, match="only uploaded files"):
        take([str(file)], [])
    file.unlink()


def test_file_outside_the_folder_is_neither_read_nor_deleted(tmp_path: Path) -> None:
    file = tmp_path / "other.png"
    file.write_bytes(b"x")
    for uploaded in ([], [str(file)]):
        with pytest.raises(InputError, match="only uploaded files"):
            take([str(file)], uploaded)
    assert file.exists()


def test_limits_are_positive() -> None:
    with pytest.raises(InputError, match="at least 1"):
        Limits(max_files=0)
