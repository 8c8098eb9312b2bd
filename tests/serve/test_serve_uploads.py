from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from medsharp.errors import InputError
from serve import Limits
from serve.engine.capacity import BusyError, Memory
from serve.uploads.uploads import Uploads, safe_name


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


def test_name_is_whole_as_long_as_files_may_have_it_and_a_longer_one_lacks_its_middle() -> None:
    longest = "a" * 245 + "_right.png"
    assert safe_name(longest, 1) == longest
    assert safe_name("b" + longest, 1) == "b" + "a" * 126 + "…" + "a" * 117 + "_right.png"
    assert len(safe_name("b" + longest, 1)) == len(longest) == 255


def test_each_upload_has_a_key_of_its_own_and_is_given_once() -> None:
    async def two_visitors() -> None:
        memory = Memory(100)
        uploads = Uploads(memory)
        one, two = (uploads.keep("same.png", b"same") for _ in range(2))
        assert one != two
        assert not Path(one).exists()
        assert memory.held == 8
        with uploads.take([one]) as (names, contents):
            assert (names, contents) == (["same.png"], [b"same"])
            assert memory.held == 8
            with pytest.raises(InputError, match="choose the file again"), uploads.take([one]):
                pass
        assert memory.held == 4
        assert two in uploads
        uploads.clear()
        assert two not in uploads
        assert memory.held == 0

    asyncio.run(two_visitors())


def test_one_missing_upload_still_forgets_the_others() -> None:
    async def half() -> None:
        memory = Memory(100)
        uploads = Uploads(memory)
        key = uploads.keep("there.png", b"there")
        with pytest.raises(InputError, match="expired"), uploads.take([key, key + "x"]):
            pass
        assert memory.held == 0
        with pytest.raises(InputError, match="expired"), uploads.take([key]):
            pass

    asyncio.run(half())


def test_uploads_that_were_taken_already_are_left_out_of_a_second_question() -> None:
    async def second_file_during_an_answer() -> None:
        uploads = Uploads(Memory(100))
        first, second = uploads.keep("first.png", b"1"), uploads.keep("second.png", b"2")
        with uploads.take([first]) as (names, _):
            assert names == ["first.png"]
            assert first in uploads
            with uploads.take([first, second]) as (names, _):
                assert names == ["second.png"]
        with pytest.raises(InputError, match="expired"), uploads.take([first, second]):
            pass
        with uploads.take([]) as (names, _):
            assert names == []

    asyncio.run(second_file_during_an_answer())


def test_failed_assessment_forgets_the_upload() -> None:
    async def failing() -> None:
        memory = Memory(100)
        uploads = Uploads(memory)
        with pytest.raises(ZeroDivisionError), uploads.take([uploads.keep("a.png", b"a")]):
            raise ZeroDivisionError
        assert memory.held == 0

    asyncio.run(failing())


def test_upload_that_nobody_asks_about_is_forgotten_when_its_time_is_up() -> None:
    async def closed_page() -> None:
        memory = Memory(100)
        uploads = Uploads(memory, seconds=0)
        later = asyncio.Event()
        key = uploads.keep("a.png", b"abc")
        asyncio.get_running_loop().call_later(0, later.set)
        await later.wait()
        assert key not in uploads
        assert memory.held == 0

    asyncio.run(closed_page())


def test_uploads_are_refused_when_all_together_are_too_large() -> None:
    async def three() -> None:
        uploads = Uploads(Memory(10))
        uploads.keep("a.png", b"12345")
        uploads.keep("b.png", b"12345")
        with pytest.raises(BusyError, match="the server is busy"):
            uploads.keep("c.png", b"1")

    asyncio.run(three())


@pytest.mark.skipif(os.name != "posix", reason="kills a process with a signal")
def test_folder_of_a_killed_server_is_removed_by_the_next_and_that_of_a_living_one_stays(tmp_path: Path) -> None:
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    start = "import os, sys; from serve.uploads.uploads import private_cache; folder = private_cache(); "

    def run(then: str) -> None:
        subprocess.run([sys.executable, "-c", start + then], env=environment, check=False)

    mine = tmp_path / f"medsharp-serve-{os.getpid()}-living"
    mine.mkdir()
    run("(folder / 'left.png').write_text('x'); os.kill(os.getpid(), 9)")
    assert len(list(tmp_path.iterdir())) == 2
    run("pass")
    assert list(tmp_path.iterdir()) == [mine]


def test_limits_are_positive() -> None:
    for wrong in ({"max_files": 0}, {"max_held_bytes": 0}, {"max_waiting": -1}, {"body_seconds": 0}):
        with pytest.raises(InputError, match="at least"):
            Limits(**wrong)  # type: ignore[arg-type]
