"""Zip archives: what is taken, what is left out, and what is refused with which status and sentence."""

from __future__ import annotations

import contextlib
import io
import random
import struct
import tracemalloc
import zipfile
from pathlib import Path

import pytest
from starlette.exceptions import HTTPException

from serve import Limits
from serve.engine.capacity import BusyError, Memory
from serve.uploads.archive import is_archive, read_archive


def packed(*files: tuple[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in files:
            archive.writestr(zipfile.ZipInfo(name), content, compress_type=method)
    return buffer.getvalue()


def refused(content: bytes, limits: Limits | None = None, name: str = "the archive") -> tuple[int, str]:
    with pytest.raises(HTTPException) as caught:
        read_archive(content, limits or Limits(), name)
    return caught.value.status_code, caught.value.detail


def test_files_come_with_their_paths_in_order_and_what_systems_add_is_left_out(tmp_path: Path) -> None:
    content = packed(
        ("benign/", b""),
        ("benign/b.png", b"bb"),
        ("__MACOSX/benign/._b.png", b"fork"),
        ("benign/.DS_Store", b"x"),
        ("benign/._b.png", b"fork"),
        ("malignant/Thumbs.db", b"x"),
        ("malignant\\a.png", b"a"),
        ("notes.txt", b"text"),
        ("empty.png", b""),
    )
    names, contents = read_archive(content, Limits())
    assert names == ["benign/b.png", "malignant/a.png", "notes.txt", "empty.png"]
    assert contents == [b"bb", b"a", b"text", b""]


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_bytes_are_those_that_were_packed(method: int) -> None:
    content = random.Random(0).randbytes(3_000_000)
    assert read_archive(packed(("a.png", content), method=method), Limits()) == (["a.png"], [content])


def test_archive_is_told_by_its_first_bytes() -> None:
    assert is_archive(packed(("a.png", b"a")))
    assert is_archive(packed())
    assert not is_archive(b"\x89PNG\r\n")
    # The preamble of a DICOM file may hold anything.
    assert not is_archive(b"PK\x03\x04".ljust(128, b"\0") + b"DICM")


@pytest.mark.parametrize(
    "name", ["../a.png", "a/../../b.png", "/etc/a.png", "C:\\a.png", "c:a.png", "..\\a.png", "//x/a"]
)
def test_path_that_leaves_the_archive_is_refused(name: str) -> None:
    status, sentence = refused(packed(("good.png", b"x"), (name, b"x")))
    assert status == 422
    assert "leaves the archive" in sentence
    assert name not in sentence


def test_names_are_harmless() -> None:
    (name,), _ = read_archive(packed(("pa\u202eth\n/sc\x1ban.png", b"x")), Limits())
    assert name == "path/scan.png"
    assert refused(packed(("a" * 400 + ".png", b"x")))[0] == 422
    assert refused(packed(("a/" * 40 + "b.png", b"x"))) == (
        422,
        "the archive holds a file whose path is too long; pack the images with shorter names",
    )


def test_names_in_utf8_are_read_with_and_without_the_flag_that_says_so() -> None:
    name = "Läsion 超音波.png"
    with_flag = packed((name, b"x"))
    assert read_archive(with_flag, Limits())[0] == [name]
    # The flag stands 6 bytes into the local header and 8 into the entry of the directory.
    without = bytearray(with_flag)
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        position = without.index(mark) + offset
        flags = struct.unpack_from("<H", without, position)[0]
        struct.pack_into("<H", without, position, flags & ~0x800)
    assert read_archive(bytes(without), Limits())[0] == [name]
    old = packed(("L?sion.png", b"x")).replace(b"L?sion", b"L\x84sion")
    assert read_archive(old, Limits())[0] == ["Läsion.png"]


def test_names_that_are_alike_are_refused_also_when_cleaning_makes_them_so() -> None:
    with pytest.warns(UserWarning, match="Duplicate"):
        twice = packed(("a.png", b"1"), ("b.png", b"1"), ("a.png", b"2"))
    assert refused(twice) == (422, "the archive holds a.png twice; give each file a name of its own")
    assert refused(packed(("a.png", b"1"), ("a\x01.png", b"2")))[0] == 422
    assert refused(packed(("x/a.png", b"1"), ("x/./a.png", b"2")))[0] == 422
    # The longest path that is taken, of names that differ at the end or in the middle.
    middle = "y" * 139
    long = [f"{'x' * 150}{which}.png" for which in ("1" + middle, "2" + middle, middle + "1", middle + "2")]
    assert {*map(len, long)} == {294}
    assert read_archive(packed(*((f"ward/{name}", b"1") for name in long)), Limits())[0] == [f"ward/{n}" for n in long]
    assert read_archive(packed(("x/a.png", b"1"), ("y/a.png", b"2")), Limits())[0] == ["x/a.png", "y/a.png"]


def test_too_many_files_are_413_and_exactly_as_many_are_taken() -> None:
    limits = Limits(max_archive_files=3)
    three = [(f"{i}.png", b"x") for i in range(3)]
    assert len(read_archive(packed(*three, ("folder/", b""), ("__MACOSX/._0.png", b"x")), limits)[0]) == 3
    status, sentence = refused(packed(*three, ("3.png", b"x")), limits)
    assert (status, sentence) == (413, "the archive holds more than 3 files; send several smaller ones")


def test_a_directory_of_a_hundred_thousand_entries_is_refused_before_it_is_parsed() -> None:
    entry = packed(("a", b""))
    start = entry.index(b"PK\x01\x02")
    end = entry.index(b"PK\x05\x06")
    count = 100_000
    directory = entry[start:end] * count
    tail = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 0xFFFF, 0xFFFF, len(directory), start, 0)
    content = entry[:start] + directory + tail
    tracemalloc.start()
    assert refused(content)[0] == 413
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**20


def test_sizes_are_limited_at_exactly_the_limit() -> None:
    limits = Limits(max_file_bytes=1000, max_unpacked_bytes=2000)
    noise = random.Random(0).randbytes
    assert read_archive(packed(("a", noise(1000)), ("b", noise(1000))), limits)[0] == ["a", "b"]
    assert refused(packed(("a", noise(1001))), limits) == (413, "a in the archive is larger than 0.977 KiB")
    status, sentence = refused(packed(("a", noise(1000)), ("b", noise(1000)), ("c", b"1")), limits)
    assert status == 413
    assert sentence.startswith("the archive unpacks to more than")


def test_size_that_an_entry_gives_is_not_believed() -> None:
    content = bytearray(packed(("a.png", bytes(5000))))
    for mark, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        struct.pack_into("<I", content, content.index(mark) + offset, 10)
    assert refused(bytes(content), Limits(max_file_bytes=1000))[0] == 422


def test_bomb_is_refused_and_blank_images_are_not() -> None:
    blank = [(f"{i}.bmp", bytes(2**20)) for i in range(15)]
    assert len(read_archive(packed(*blank), Limits())[0]) == 15
    status, sentence = refused(packed(*((f"{i}.bmp", bytes(10 * 2**20)) for i in range(3))))
    assert status == 413
    assert "200 times" in sentence


def test_entries_that_share_their_bytes_are_refused() -> None:
    """The bomb that needs no nesting: many entries of the directory point to one compressed file."""
    one = packed(("a", bytes(2**20)))
    start, end = one.index(b"PK\x01\x02"), one.index(b"PK\x05\x06")
    directory = b"".join(one[start:end].replace(b"a", bytes([97 + i])) for i in range(20))
    tail = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 20, 20, len(directory), start, 0)
    # The name of the local header is another but for one of them.
    assert refused(one[:start] + directory + tail)[0] in (413, 422)


def test_archive_in_an_archive_is_refused() -> None:
    status, sentence = refused(packed(("inner.zip", packed(("a.png", b"x")))), name="outer.zip")
    assert status == 422
    assert sentence == "inner.zip in outer.zip is an archive itself; put the images into one archive"


def test_encrypted_and_unusually_compressed_entries_are_refused() -> None:
    content = bytearray(packed(("a.png", b"secret")))
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(mark) + offset] |= 1
    assert refused(bytes(content)) == (422, "a.png in the archive is encrypted; pack it without a password")
    assert "ordinary zip" in refused(packed(("a.png", b"x" * 100), method=zipfile.ZIP_LZMA))[1]
    assert "ordinary zip" in refused(packed(("a.png", b"x" * 100), method=zipfile.ZIP_BZIP2))[1]


def test_empty_and_damaged_archives_are_one_sentence() -> None:
    assert refused(packed()) == (422, "the archive holds no file")
    assert refused(packed(("folder/", b""), ("__MACOSX/x", b"x"))) == (422, "the archive holds no file")
    whole = packed(("a.png", random.Random(0).randbytes(5000)))
    assert refused(whole[:-30]) == (422, "the archive is damaged; pack and send it again")
    changed = bytearray(whole)
    changed[2000] ^= 255
    assert refused(bytes(changed))[0] == 422


def test_any_damage_is_a_refusal_and_no_other_error() -> None:
    rng = random.Random(1)
    whole = packed(("folder/a.png", rng.randbytes(300)), ("b.png", bytes(900)))
    for _ in range(3000):
        changed = bytearray(whole)
        for _ in range(rng.randint(1, 6)):
            changed[rng.randrange(len(changed))] = rng.randrange(256)
        if rng.random() < 0.2:
            del changed[rng.randrange(len(changed)) :]
        with contextlib.suppress(HTTPException):
            assert all(name.isprintable() for name in read_archive(bytes(changed), Limits())[0])


def test_unpacked_bytes_are_counted_and_given_back() -> None:
    memory = Memory(2500)
    content = packed(*((f"{i}.png", bytes(1000)) for i in range(3)))
    with memory.reservation() as reserve, pytest.raises(BusyError):
        read_archive(content, Limits(), reserve=reserve)
    assert memory.held == 0
    with memory.reservation() as reserve:
        read_archive(packed(("a", bytes(1000)), ("b", bytes(500))), Limits(), reserve=reserve)
        assert memory.held == 1500
