"""The audit log: what a line holds, that it is on the disk first, and what happens when it cannot be."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import hmac
import json
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from medsharp.errors import InputError
from medsharp.inference import Prediction
from medsharp.inference.checks import Finding
from serve.security.access import Access, request_id, who_asks
from serve.security.audit import AuditError, AuditLog

ANNA = Access("anna", "password", "0123456789abcdef", "192.0.2.7")
ABOVE = Prediction("Doe_Jane.png", {"benign": 0.3, "malignant": 0.7}, 0.7, threshold=0.5, frame=12)
REFUSED = Prediction("Doe_Jane2.png", findings=(Finding("dark", "refusal", "it is dark", 3.0, 10.0),))
FAILED = Prediction("Doe_Jane3.png", error="Doe_Jane3.png is no image")


def write(
    log: AuditLog,
    contents: Sequence[bytes] = (b"one",),
    predictions: Sequence[Prediction] = (ABOVE,),
    who: Access = ANNA,
) -> None:
    asyncio.run(log.record(who, contents, predictions, model="bus", digest="d" * 64, seconds=0.25))


def lines(path: Path) -> list[dict[str, Any]]:
    text = path.read_text(encoding="utf-8")
    assert text == "" or text.endswith("\n")
    return [json.loads(line) for line in text.splitlines()]


def test_a_line_for_each_image_says_who_what_and_when_in_the_order_sent(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    write(AuditLog(path), [b"one", b"two", b"three"], [ABOVE, REFUSED, FAILED])
    first, second, third = lines(path)
    assert first.pop("time").endswith("Z")
    assert first == {
        "request": "0123456789abcdef",
        "who": "anna",
        "by": "password",
        "image": 1,
        "of": 3,
        "input": f"sha256:{hashlib.sha256(b'one').hexdigest()}",
        "status": "answered",
        "probability": 0.7,
        "threshold": 0.5,
        "side": "above",
        "checks": [],
        "frame": 12,
        "model": "bus",
        "model_sha256": "d" * 64,
        "seconds": 0.25,
    }
    assert second["input"] == f"sha256:{hashlib.sha256(b'two').hexdigest()}"
    assert (second["status"], second["probability"], second["side"]) == ("refused", None, None)
    assert second["checks"] == ["refusal:dark"]
    assert (third["image"], third["status"]) == (3, "failed")
    assert third["input"] == f"sha256:{hashlib.sha256(b'three').hexdigest()}"


def test_no_name_of_a_file_and_no_address_unless_it_is_asked_for(tmp_path: Path) -> None:
    path, other = tmp_path / "a", tmp_path / "b"
    write(AuditLog(path), [b"1", b"2", b"3"], [ABOVE, REFUSED, FAILED])
    assert "Doe" not in path.read_text()
    assert "192.0.2.7" not in path.read_text()
    write(AuditLog(other, addresses=True))
    assert lines(other)[0]["address"] == "192.0.2.7"


def test_with_a_key_the_hash_says_nothing_to_who_has_the_image_only(tmp_path: Path) -> None:
    path, key = tmp_path / "a", b"k" * 32
    write(AuditLog(path, key=key))
    assert lines(path)[0]["input"] == f"hmac-sha256:{hmac.new(key, b'one', hashlib.sha256).hexdigest()}"
    with pytest.raises(InputError, match="31 bytes; give it 32"):
        AuditLog(path, key=b"k" * 31)


def test_images_and_answers_must_be_as_many(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="zip"):
        write(AuditLog(tmp_path / "a"), [b"1", b"2"], [ABOVE])


def test_only_its_owner_reads_it_and_what_was_there_stays(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    path.write_text('{"earlier": 1}\n')
    path.chmod(0o644)
    log = AuditLog(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    write(log)
    assert [*lines(path)[0]] == ["earlier"]
    assert len(lines(path)) == 2
    fresh = tmp_path / "fresh"
    AuditLog(fresh)
    assert stat.S_IMODE(fresh.stat().st_mode) == 0o600


def test_line_is_synchronised_to_the_disk_before_the_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a"
    log = AuditLog(path)
    sizes: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda file: sizes.append(os.fstat(file).st_size))
    write(log)
    assert sizes == [path.stat().st_size]
    assert sizes[0] > 0


@pytest.mark.parametrize("failing", ["write", "fsync"])
def test_full_disk_means_no_answer_and_leaves_no_half_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    path = tmp_path / "a"
    log = AuditLog(path)
    write(log)
    really = os.write

    def full(*arguments: Any) -> int:
        if len(arguments) == 2 and arguments[1][:1] == b"{":
            return really(arguments[0], arguments[1][:20])  # the first part fits
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, failing, full)
        with pytest.raises(AuditError, match=r"No space left on device.*no answer is given"):
            write(log)
    assert len(lines(path)) == 1
    write(log)
    assert len(lines(path)) == 2


def test_renamed_and_removed_files_are_opened_anew(tmp_path: Path) -> None:
    path, old = tmp_path / "a", tmp_path / "a.1"
    log = AuditLog(path)
    write(log)
    path.rename(old)
    write(log)
    assert (len(lines(old)), len(lines(path))) == (1, 1)
    path.rename(tmp_path / "a.2")
    path.touch(0o644)  # as log rotation does that makes the next file itself
    write(log)
    assert len(lines(path)) == 1
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.unlink()
    write(log)
    assert len(lines(path)) == 1
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_writing_goes_on_when_the_path_is_repaired(tmp_path: Path) -> None:
    path = tmp_path / "a"
    log = AuditLog(path)
    write(log)
    path.unlink()
    path.mkdir()  # nobody can write to it, root neither
    for _ in range(2):
        with pytest.raises(AuditError, match="Is a directory"):
            write(log)
    path.rmdir()
    write(log)
    write(log)
    assert len(lines(path)) == 2


def test_file_that_others_may_read_stays_none_of_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, really = tmp_path / "a", os.fchmod
    log = AuditLog(path)
    path.rename(tmp_path / "a.1")
    path.touch(0o666)

    def refuse(*_: Any) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")  # as for a file of another owner

    monkeypatch.setattr(os, "fchmod", refuse)
    for _ in range(2):
        with pytest.raises(AuditError, match="not permitted"):
            write(log)
    assert lines(path) == []
    monkeypatch.setattr(os, "fchmod", really)
    write(log)
    assert len(lines(path)) == 1
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_requests_at_one_moment_are_written_whole_and_synchronised_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a"
    log = AuditLog(path)
    count = 0
    really = os.fsync

    def counted(file: int) -> None:
        nonlocal count
        count += 1
        really(file)

    monkeypatch.setattr(os, "fsync", counted)

    async def many() -> None:
        one = Access(None, None)
        await asyncio.gather(
            *(log.record(one, [b"1", b"2"], [ABOVE, FAILED], model="m", digest="d", seconds=0) for _ in range(50))
        )

    asyncio.run(many())
    assert len(lines(path)) == 100
    assert count < 50


def test_line_of_a_client_who_left_is_written(tmp_path: Path) -> None:
    path = tmp_path / "a"

    async def left() -> None:
        log = AuditLog(path)
        task = asyncio.create_task(log.record(ANNA, [b"1"], [ABOVE], model="m", digest="d", seconds=0))
        while not log._waiting and log._writing is None:
            await asyncio.sleep(0)
        task.cancel()
        while log._writing is not None:
            await asyncio.sleep(0)

    asyncio.run(left())
    assert len(lines(path)) == 1


def test_what_cannot_be_a_log_is_one_sentence(tmp_path: Path) -> None:
    folder, link, pipe = tmp_path / "folder", tmp_path / "link", tmp_path / "pipe"
    folder.mkdir()
    link.symlink_to(tmp_path / "target")
    os.mkfifo(pipe)
    for path in (folder, link, pipe, tmp_path / "missing" / "a"):
        with pytest.raises(InputError, match="cannot write the audit log"):
            AuditLog(path)
    assert not (tmp_path / "target").exists()


@pytest.mark.parametrize("given", ["550e8400-e29b-41d4-a716-446655440000", "4bf92f3577b34da6a3ce929d0e0e4736"])
def test_a_clients_number_is_kept(given: str) -> None:
    assert request_id(given) == given


@pytest.mark.parametrize(
    "given", [None, "", "doe-jane-1961", "abc", "deadbeef" * 9, "0123456789abcdef\n", "0123456789abcdef x", "-" * 20]
)
def test_what_might_be_a_name_or_break_a_line_is_replaced(given: str | None) -> None:
    assert request_id(given) != given
    assert len(request_id(given)) == 32


def test_who_asks_is_found_in_requests_of_fastapi_and_gradio() -> None:
    request = SimpleNamespace(state=SimpleNamespace(who=ANNA))
    assert who_asks(request) is ANNA
    assert who_asks(SimpleNamespace(request=request)) is ANNA
    assert who_asks(SimpleNamespace(state=SimpleNamespace())).name is None
