"""A decoder that crashes or hangs at a frame ends its own process, and concerns that image alone."""

from __future__ import annotations

import errno
import io
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom.uid import JPEG2000Lossless
from typer.testing import CliRunner

from medsharp.cli import app
from medsharp.images import ImageError, apart, read_image

pytest.importorskip("openjpeg")

GREY = np.random.default_rng(3).integers(0, 256, (61, 83), dtype=np.uint8)

BROKEN = """
import os, signal, sys, time
from medsharp.images import apart

sound = apart.decode_frame

def decode(encoded, **about):
    if b"CRASH!" in encoded[-8:]:
        os.kill(os.getpid(), signal.SIGSEGV)
    if b"ENDED!" in encoded[-8:]:
        os._exit(7)
    if b"HANGS!" in encoded[-8:]:
        time.sleep(600)
    if b"TALKS!" in encoded[-8:]:
        print("a library prints this")
        os.write(1, b"and this")
        os.write(2, b"and this")
    if b"RAISE!" in encoded[-8:]:
        raise RuntimeError("Patient^Name")
    return sound(encoded, **about)

apart.decode_frame = decode
"""


@pytest.fixture(scope="module")
def scan(dicom: Callable[..., bytes]) -> Callable[..., bytes]:
    """Write a DICOM file in JPEG 2000, and something behind its end."""

    def write(grey: np.ndarray = GREY, end: bytes = b"") -> bytes:
        stream = io.BytesIO()
        Image.fromarray(grey).save(stream, "JPEG2000", no_jp2=True, irreversible=False)
        return dicom(grey, syntax=JPEG2000Lossless, encoded=[stream.getvalue() + end])

    return write


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Workers whose decoder does what a frame says at its end."""
    begin = apart._BEGIN.replace("; apart.serve()", "; exec(sys.argv[2]); apart.serve()")
    assert begin != apart._BEGIN
    apart._end_idle()
    monkeypatch.setattr(apart, "_BEGIN", begin)
    popen = subprocess.Popen
    monkeypatch.setattr(apart.subprocess, "Popen", lambda command, **settings: popen([*command, BROKEN], **settings))
    yield
    apart._end_idle()


@pytest.mark.parametrize(
    ("end", "words"),
    [
        (b"CRASH!", r"its decoder crashed \(Segmentation fault\)"),
        (b"ENDED!", r"its decoder crashed \(exit code 7\)"),
        (b"RAISE!", r"\(RuntimeError\)$"),
    ],
)
def test_crash_is_a_sentence_and_the_next_image_is_read(
    broken: None, scan: Callable[..., bytes], end: bytes, words: str
) -> None:
    for _ in range(2):
        with pytest.raises(ImageError, match=f"^scan.dcm is a DICOM object that cannot be decoded .*{words}"):
            read_image(scan(end=end), name="scan.dcm")
        np.testing.assert_array_equal(read_image(scan(end=b"TALKS!")).pixels, GREY)


def test_frame_that_takes_too_long_is_given_up(
    broken: None, scan: Callable[..., bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    read_image(scan())  # so that a worker runs
    monkeypatch.setattr(apart, "PATIENCE", 0.5)
    with pytest.raises(ImageError, match=r"its decoder was given up after 0\.5 s"):
        read_image(scan(end=b"HANGS!"))
    monkeypatch.setattr(apart, "PATIENCE", 60.0)
    np.testing.assert_array_equal(read_image(scan()).pixels, GREY)


def test_many_at_once_each_get_their_own_and_only_the_broken_ones_fail(
    broken: None, scan: Callable[..., bytes]
) -> None:
    pictures = [np.roll(GREY, number, axis=1) for number in range(12)]
    ends = [b"CRASH!" if number % 5 == 2 else b"" for number in range(12)]

    def read(number: int) -> np.ndarray | None:
        try:
            return read_image(scan(pictures[number], ends[number])).pixels
        except ImageError:
            return None

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(read, range(12)))
    for number, pixels in enumerate(found):
        assert (pixels is None) == bool(ends[number])
        if pixels is not None:
            np.testing.assert_array_equal(pixels, pictures[number])
    assert 1 <= len(apart._idle) <= 4


def test_worker_is_used_again_and_none_is_begun_for_other_images(
    dicom: Callable[..., bytes], scan: Callable[..., bytes]
) -> None:
    apart._end_idle()
    read_image(dicom(GREY))
    assert apart._idle == []
    read_image(scan())
    (worker,) = apart._idle
    read_image(scan())
    assert apart._idle == [worker]


def test_worker_that_died_meanwhile_costs_no_image(scan: Callable[..., bytes]) -> None:
    read_image(scan())
    (worker,) = apart._idle
    worker._process.kill()
    worker._process.wait()
    np.testing.assert_array_equal(read_image(scan()).pixels, GREY)
    assert worker not in apart._idle


def test_process_that_cannot_be_begun_is_no_fault_of_the_image(
    scan: Callable[..., bytes], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    apart._end_idle()

    def refuse(*_: object, **__: object) -> None:
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    with monkeypatch.context() as full:
        full.setattr(apart.subprocess, "Popen", refuse)
        with pytest.raises(apart.NoDecoderError):
            read_image(scan())
        (tmp_path / "scan.dcm").write_bytes(scan())
        command = ["predict", "models/busi-resnet18", str(tmp_path / "scan.dcm")]
        result = CliRunner().invoke(app, command, env={"COLUMNS": "200"})
        assert result.exit_code == 2, result.output
        assert "no decoder can be begun: Resource temporarily unavailable" in result.stderr
    np.testing.assert_array_equal(read_image(scan()).pixels, GREY)
    (worker,) = apart._idle

    def refuse_thread(_: object) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as full:
        full.setattr(apart.threading.Timer, "start", refuse_thread)
        with pytest.raises(apart.NoDecoderError, match="can't start new thread"):
            read_image(scan())
    assert not worker.is_alive


@pytest.mark.skipif(not hasattr(signal, "alarm"), reason="the system has no alarm")
def test_worker_whose_server_is_gone_ends_with_a_frame_that_never_does(
    broken: None, scan: Callable[..., bytes]
) -> None:
    code = apart._BEGIN.replace("apart.serve()", "apart.PATIENCE = -3.0; apart.serve()")
    command = [sys.executable, "-P", "-c", code, json.dumps([part for part in sys.path if part]), BROKEN]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        apart._send(process.stdin, b"{}")
        apart._send(process.stdin, b"HANGS!")
        assert process.wait(timeout=60) == -signal.SIGALRM


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_forked_process_has_workers_of_its_own(scan: Callable[..., bytes]) -> None:
    """As the workers of a data loader do."""
    read_image(scan())
    (worker,) = apart._idle
    child = os.fork()
    if child == 0:
        code = 1
        try:
            same = np.array_equal(read_image(scan()).pixels, GREY)
            code = 0 if same and worker not in apart._idle and len(apart._idle) == 1 else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    np.testing.assert_array_equal(read_image(scan()).pixels, GREY)
    assert apart._idle == [worker]


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks into /proc")
@pytest.mark.parametrize("how", ["ends", "is killed", "is told to stop"])
def test_workers_end_with_who_began_them(scan: Callable[..., bytes], tmp_path: Path, how: str) -> None:
    """And not before, though a signal goes to them too."""
    (tmp_path / "scan.dcm").write_bytes(scan())
    (tmp_path / "numpy.py").write_text("raise SystemExit('not this one')")
    code = f"""
        import os, sys, signal
        signal.signal(signal.SIGTERM, lambda *_: None)
        signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in what a shell began in the background
        from medsharp.images import apart, read_image
        read_image({str(tmp_path / "scan.dcm")!r})
        print(apart._idle[0]._process.pid, flush=True)
        sys.stdin.readline()
        read_image({str(tmp_path / "scan.dcm")!r})
        print(apart._idle[0]._process.pid, flush=True)
        sys.stdin.readline()
    """
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", textwrap.dedent(code)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(part for part in sys.path if part)},
        start_new_session=True,
    )
    with process:
        assert process.stdin is not None
        assert process.stdout is not None
        worker = int(process.stdout.readline())
        os.killpg(process.pid, signal.SIGTERM)
        process.stdin.write("\n")
        process.stdin.flush()
        assert int(process.stdout.readline()) == worker
        if how == "is killed":
            process.kill()
        elif how == "is told to stop":
            os.killpg(process.pid, signal.SIGINT)
        else:
            process.stdin.write("\n")
            process.stdin.flush()
        process.wait(timeout=60)
        deadline = time.monotonic() + 20
        while Path(f"/proc/{worker}").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not Path(f"/proc/{worker}").exists()
