"""The audit log: one line of JSON for each image that was assessed, on the disk before the answer leaves."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import errno
import hashlib
import hmac
import json
import math
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from medsharp.errors import InputError
from medsharp.inference import Prediction
from serve.security.access import Access

_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
"""A link is not followed, and a pipe without a reader does not keep the server waiting: both are refused."""

SHORTEST_KEY = 32
"""Bytes of a key for the hashes of images: as many as the hash has."""


class AuditError(Exception):
    """The log cannot be written, so that no answer may be given; says so in one sentence."""


class AuditLog:
    """Appends what was answered to a file that only its owner may read. There is no image in it, and no name of one.

    A line is written and synchronised to the disk before its answer leaves. When that fails, since the disk is full,
    there is no answer: a log that misses some would say that they were never given. What several requests write at one
    moment is synchronised together. A file that was renamed or removed, as log rotation does, is opened anew.

    Args:
        path: The file; made if it is missing, and taken from the reach of other users if it is there.
        key: With it the hash of an image is HMAC-SHA-256, and says nothing to who has not the key. Without it it is
            SHA-256, and whoever has an image can look whether it was sent.
        addresses: Write the client's address too.

    Raises:
        InputError: The file cannot be opened, is none, or the key is too short.
    """

    def __init__(self, path: str | Path, *, key: bytes | None = None, addresses: bool = False) -> None:
        if key is not None and len(key) < SHORTEST_KEY:
            raise InputError(f"the key of the audit log has {len(key)} bytes; give it {SHORTEST_KEY} or more")
        self.path = Path(path)
        self._key = key
        self._addresses = addresses
        self._file = -1
        self._waiting: list[tuple[bytes, asyncio.Future[None]]] = []
        self._writing: asyncio.Task[None] | None = None
        try:
            self._open()
        except OSError as error:
            raise InputError(f"cannot write the audit log {self.path}: {error.strerror}") from error

    async def record(
        self,
        who: Access,
        contents: Sequence[bytes],
        predictions: Sequence[Prediction],
        *,
        model: str,
        digest: str,
        seconds: float,
    ) -> None:
        """Write a line for each image of a request, and return when all are on the disk.

        Args:
            who: Who asked; see `who_asks`.
            contents: The bytes of each image as they were sent, those inside an archive unpacked.
            predictions: What was said of each, in the same order.
            model: Name of the bundle.
            digest: SHA-256 of its `bundle.yaml`.
            seconds: From the arrival of the request to its answer.

        Raises:
            AuditError: They cannot be written; the answer must not be given.
        """
        pairs = list(zip(contents, predictions, strict=True))
        if not pairs:
            return
        about = {"model": model, "model_sha256": digest, "seconds": round(seconds, 6)}
        text = await asyncio.to_thread(self._lines, who, pairs, about)
        done = asyncio.get_running_loop().create_future()
        self._waiting.append((text, done))
        if self._writing is None:
            self._writing = asyncio.create_task(self._write_waiting())
        # Cancelled, since its client has left, the line is written all the same.
        await done

    def close(self) -> None:
        """Close the file."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _lines(self, who: Access, pairs: list[tuple[bytes, Prediction]], about: dict[str, Any]) -> bytes:
        time = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        asked = {"time": time, "request": who.request_id, "who": who.name, "by": who.means}
        if self._addresses:
            asked["address"] = who.address
        entries = [
            {**asked, "image": number, "of": len(pairs), "input": self.fingerprint(content), **_result(one), **about}
            for number, (content, one) in enumerate(pairs, start=1)
        ]
        return "".join(json.dumps(entry, allow_nan=False) + "\n" for entry in entries).encode()

    def fingerprint(self, content: bytes) -> str:
        """Return the hash of an image's bytes, after the name of its method."""
        if self._key is None:
            return f"sha256:{hashlib.sha256(content).hexdigest()}"
        return f"hmac-sha256:{hmac.new(self._key, content, hashlib.sha256).hexdigest()}"

    async def _write_waiting(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting, []
                error: AuditError | None = None
                try:
                    await asyncio.to_thread(self._append, b"".join(text for text, _ in batch))
                except OSError as cause:
                    error = AuditError(f"the audit log cannot be written ({cause.strerror}), so no answer is given")
                for _, done in batch:
                    if done.cancelled():
                        continue
                    if error is None:
                        done.set_result(None)
                    else:
                        done.set_exception(error)
        finally:
            self._writing = None

    def _append(self, text: bytes) -> None:
        self._follow()
        with _only_writer(self._file):
            before = os.fstat(self._file).st_size
            try:
                written = os.write(self._file, text)
                while written < len(text):
                    written += os.write(self._file, text[written:])
                os.fsync(self._file)
            except OSError:
                # What was not written whole was not written: no half line stays, and no answer that was not given.
                os.ftruncate(self._file, before)
                raise

    def _follow(self) -> None:
        """Open the file anew where another, or none, has its name by now, or where none could be opened before."""
        if self._file >= 0:
            try:
                if os.path.samestat(os.stat(self.path), os.fstat(self._file)):
                    return
            except FileNotFoundError:
                pass
            self.close()
        self._open()

    def _open(self) -> None:
        self._file = os.open(self.path, _FLAGS, 0o600)
        try:
            if not stat.S_ISREG(os.fstat(self._file).st_mode):
                raise OSError(errno.EINVAL, "it is no ordinary file")
            os.fchmod(self._file, 0o600)
        except OSError:
            # Kept open, it would be taken for the log at the next line.
            self.close()
            raise


def _result(prediction: Prediction) -> dict[str, Any]:
    has_number = not math.isnan(prediction.positive_probability)
    result: dict[str, Any] = {
        "status": prediction.status,
        "probability": float(prediction.positive_probability) if has_number else None,
        "threshold": float(prediction.threshold) if has_number else None,
        "side": prediction.side,
        "checks": list(prediction.checks),
    }
    return result if prediction.frame is None else {**result, "frame": prediction.frame}


@contextlib.contextmanager
def _only_writer(file: int) -> Iterator[None]:
    """Keep other servers from the file, so that what is cut off after a failed write is ours."""
    import fcntl

    fcntl.flock(file, fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.flock(file, fcntl.LOCK_UN)
