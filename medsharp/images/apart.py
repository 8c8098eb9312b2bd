"""Decoders that may crash run in a process apart: a damaged file ends that process, and concerns itself alone.

The libraries behind JPEG-LS, lossless JPEG and JPEG 2000 inside DICOM are of C and C++, and a file can be made that
they do not survive. A process that reads images keeps some others, one for each frame that it decodes at once, and
sends them the compressed frames. They are begun when first needed, hear no signal, and end when their pipe is closed,
however that comes about. What they answer is samples and words, nothing that could be executed.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import json
import os
import signal
import struct
import subprocess
import sys
import threading
from typing import IO, Any

import numpy as np

PATIENCE = 120.0
"""Seconds after which a frame is given up; one of 40 megapixels takes some 20."""

_LENGTH = struct.Struct(">Q")

_BEGIN = "import sys, json; sys.path[:] = json.loads(sys.argv[1]); from medsharp.images import apart; apart.serve()"


class NoDecoderError(OSError):
    """The system has no process left, or no memory, for a decoder: no fault of the image."""


class DecoderError(Exception):
    """A decoder refuses a frame, or its process died or was given up at it; says which."""


def decode_apart(encoded: bytes, syntax: str, plugin: str, options: dict[str, Any]) -> tuple[np.ndarray, str]:
    """Decode a compressed frame of a DICOM object in another process.

    Args:
        encoded: The frame.
        syntax: UID of the transfer syntax.
        plugin: Of pydicom, that decodes it.
        options: Of pydicom's decoder.

    Returns:
        Integers [H, W] or [H, W, 3], and what they are, as PhotometricInterpretation says it.

    Raises:
        DecoderError: The decoder refuses the frame, dies at it, or takes too long.
        NoDecoderError: None can be begun.
    """
    worker = _taken()
    try:
        answer, samples = worker.ask({"syntax": syntax, "plugin": plugin, "options": options}, encoded)
    except BaseException:
        # Half an answer may lie in its pipe.
        worker.end()
        raise
    _given_back(worker)
    if "error" in answer:
        raise DecoderError(answer["error"])
    return np.frombuffer(samples, dtype=answer["dtype"]).reshape(answer["shape"]), answer["interpretation"]


def decode_frame(encoded: bytes, syntax: str, plugin: str, options: dict[str, Any]) -> tuple[np.ndarray, str]:
    """Decode a compressed frame of a DICOM object in this process, as `decode_apart` does in another.

    Raises:
        Exception: Whatever pydicom and its decoders raise at damage.
    """
    from pydicom.encaps import encapsulate
    from pydicom.pixels import get_decoder
    from pydicom.uid import UID

    decoder = get_decoder(UID(syntax))
    samples, about = decoder.as_array(encapsulate([encoded]), index=0, decoding_plugin=plugin, raw=True, **options)
    return samples, str(about["photometric_interpretation"])


class _Worker:
    """A process that decodes."""

    def __init__(self) -> None:
        where = [os.path.abspath(part) for part in sys.path]
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", _BEGIN, json.dumps(where)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )

    @property
    def is_alive(self) -> bool:
        """Whether it can be asked: the system may have ended it, where memory is short."""
        return self._process.poll() is None

    def ask(self, about: dict[str, Any], encoded: bytes) -> tuple[dict[str, Any], bytes]:
        """Send a frame; return what is said of it, and its samples.

        Raises:
            DecoderError: The process died, or takes too long.
        """
        given_up = threading.Event()

        def give_up() -> None:
            given_up.set()
            self._process.kill()

        late = threading.Timer(PATIENCE, give_up)
        late.daemon = True
        try:
            late.start()
        except RuntimeError as error:
            raise NoDecoderError(errno.EAGAIN, f"no decoder can be begun: {error}") from error
        try:
            assert self._process.stdin is not None
            assert self._process.stdout is not None
            _send(self._process.stdin, json.dumps(about).encode())
            _send(self._process.stdin, encoded)
            answer = json.loads(_received(self._process.stdout))
            return answer, _received(self._process.stdout)
        except (EOFError, OSError) as error:
            code = self._process.wait()
            if given_up.is_set():
                raise DecoderError(f"its decoder was given up after {PATIENCE:g} s") from error
            how = signal.strsignal(-code) if code < 0 else f"exit code {code}"
            raise DecoderError(f"its decoder crashed ({how})") from error
        finally:
            late.cancel()

    def end(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        self.leave()

    def leave(self) -> None:
        """Close the pipes: the process ends when all that have them do."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):  # what was left to send cannot be sent
                    pipe.close()


_idle: list[_Worker] = []
_lock = threading.Lock()


def _taken() -> _Worker:
    with _lock:
        while _idle:
            if (worker := _idle.pop()).is_alive:
                return worker
            worker.end()
    try:
        return _Worker()
    except OSError as error:
        raise NoDecoderError(error.errno, f"no decoder can be begun: {error.strerror}") from error


def _given_back(worker: _Worker) -> None:
    with _lock:
        _idle.append(worker)


def _forget() -> None:
    """Leave the workers to the process that this one was forked from, which may be using them."""
    global _lock
    _lock = threading.Lock()
    for worker in _idle:
        worker.leave()
    _idle.clear()


def _end_idle() -> None:
    while _idle:
        _idle.pop().end()


atexit.register(_end_idle)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def _send(pipe: IO[bytes], content: bytes) -> None:
    pipe.write(_LENGTH.pack(len(content)))
    pipe.write(content)
    pipe.flush()


def _received(pipe: IO[bytes]) -> bytes:
    (length,) = _LENGTH.unpack(_exactly(pipe, _LENGTH.size))
    return _exactly(pipe, length)


def _exactly(pipe: IO[bytes], count: int) -> bytes:
    content = pipe.read(count)
    if len(content) < count:
        raise EOFError
    return content


def _alarm(seconds: int) -> None:
    if hasattr(signal, "alarm"):
        signal.alarm(seconds)


def serve() -> None:
    """Decode what comes through the standard input until it is closed; what a worker does."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            # Whoever stops the command still waits for its last images.
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    # What a library prints must not come between the answers.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    while True:
        try:
            about, encoded = json.loads(_received(sys.stdin.buffer)), _received(sys.stdin.buffer)
        except EOFError:
            return
        answer: dict[str, Any]
        _alarm(int(PATIENCE) + 5)  # whoever asked may be gone, and not end what takes for ever
        try:
            samples, interpretation = decode_frame(encoded, **about)
        # Whatever pydicom and its decoders raise at damage, memory that is not there among it; what they say of it
        # may quote the object.
        except Exception as error:
            answer, content = {"error": type(error).__name__}, b""
        else:
            answer = {"dtype": samples.dtype.str, "shape": samples.shape, "interpretation": interpretation}
            content = samples.tobytes()
        _alarm(0)
        _send(answers, json.dumps(answer).encode())
        _send(answers, content)
