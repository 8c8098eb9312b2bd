"""What becomes of an upload: how much of it is taken, how it is named, and that it is kept in memory only."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import functools
import os
import re
import secrets
import shutil
import tempfile
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

from medsharp.errors import InputError
from serve.engine.capacity import Memory

UNASKED_SECONDS = 120
"""How long the page's uploads wait to be asked about."""

_LONGEST_NAME = 255
"""No file system in use has longer ones, so that a file is called in its answer as its client calls it."""

_LONGEST_SHOWN = 100
_PREFIX = "medsharp-serve-"
_AT_LEAST_ONE = (
    "max_files",
    "max_file_bytes",
    "max_archive_files",
    "max_unpacked_bytes",
    "max_request_bytes",
    "max_held_bytes",
)


@dataclass(frozen=True)
class Limits:
    """How much one request may bring, and all together.

    Attributes:
        max_files: Images in one request.
        max_file_bytes: Bytes of one image.
        max_archive_files: Files in a zip archive, folders and what systems add left out.
        max_unpacked_bytes: Bytes of all that an archive unpacks to.
        max_request_bytes: Bytes of a whole request, with all its images.
        max_held_bytes: Bytes of all requests and uploads that are in memory at once.
        max_waiting: Requests beside the first that are worked on or wait.
        body_seconds: How long a request's body may fall behind the slowest that is waited for; see `Gate`.
        deadline_seconds: A request that came whole and takes longer than that is given up.
    """

    max_files: int = 32
    max_file_bytes: int = 64 * 1024 * 1024
    max_archive_files: int = 500
    max_unpacked_bytes: int = 512 * 1024 * 1024
    max_request_bytes: int = 256 * 1024 * 1024
    max_held_bytes: int = 1024 * 1024 * 1024
    max_waiting: int = 64
    body_seconds: float = 60.0
    deadline_seconds: float = 120.0

    def __post_init__(self) -> None:
        for name in _AT_LEAST_ONE:
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 1")
        if self.max_waiting < 0 or not min(self.body_seconds, self.deadline_seconds) > 0:
            raise InputError("max_waiting must be at least 0, and body_seconds and deadline_seconds more")


def safe_name(name: str | None, position: int) -> str:
    """Reduce the name that a client gave its file to something harmless to show: no folder, no control character.

    Args:
        name: The name as sent, possibly with a path of the client's machine, possibly missing.
        position: Which file of the request it is, from 1; names what has no name.

    Returns:
        At most 255 printable characters; a longer one lacks its middle, since names of one series differ at the end.
        Not escaped: HTML must escape it where it is shown.
    """
    whole = harmless_name(name, position)
    if len(whole) <= _LONGEST_NAME:
        return whole
    end = _LONGEST_NAME // 2
    return whole[: _LONGEST_NAME - end - 1] + "…" + whole[-end:]


def harmless_name(name: str | None, position: int) -> str:
    """Do what `safe_name` does, however long the name is."""
    base = PureWindowsPath(PurePosixPath(name or "").name).name
    return printable(base).strip(" .") or f"image {position}"


def printable(text: str) -> str:
    """Leave control characters out, and the ones that reverse the reading direction."""
    return "".join(character for character in text if unicodedata.category(character)[0] != "C")


def shown(word: str) -> str:
    """Write a word that a client chose so that a sentence can repeat it: of harmless characters, and not at length."""
    text = repr(word[:_LONGEST_SHOWN])
    return f"{text} and so on" if len(word) > _LONGEST_SHOWN else text


class Uploads:
    """The page's uploads between their arrival and their assessment, in memory and nowhere else.

    A page sends a file first, and then asks for what is said of it. Each upload has a key of its own, which cannot be
    guessed: two visitors with the same file have two uploads, and nobody gets at another's. One that nobody asks about,
    since the page was closed, is forgotten after `seconds`.

    A page that is given a second file during an answer asks about both: the first one is left out then.

    Args:
        memory: Counts the bytes.
        seconds: How long an upload waits to be asked about.
    """

    def __init__(self, memory: Memory, seconds: float = UNASKED_SECONDS) -> None:
        self._memory = memory
        self._seconds = seconds
        self._waiting: dict[str, tuple[str, bytes, asyncio.TimerHandle]] = {}
        self._taken: set[str] = set()

    def keep(self, name: str, content: bytes) -> str:
        """Keep an upload, and return its key: to Gradio, the path of a file in its folder, where there is none.

        Must be called in an event loop.

        Raises:
            BusyError: Too many bytes are kept already.
        """
        self._memory.reserve(len(content))
        key = str(private_cache() / secrets.token_urlsafe(24))
        timer = asyncio.get_running_loop().call_later(self._seconds, self._forget, key)
        self._waiting[key] = (name, content, timer)
        return key

    def __contains__(self, key: object) -> bool:
        """Whether an upload of this key waits, or was taken a short while ago."""
        return key in self._waiting or key in self._taken

    @contextlib.contextmanager
    def take(self, keys: Sequence[str]) -> Iterator[tuple[list[str], list[bytes]]]:
        """Give names and contents of uploads, which are kept until the end of the context and no longer.

        Must be called in an event loop. Uploads that were taken before are left out where others were not.

        Raises:
            InputError: One was forgotten or never was, or all were taken before.
        """
        # All of them leave, whether or not one is missing.
        found = {key: self._waiting.pop(key, None) for key in keys}
        taken = [upload for upload in found.values() if upload is not None]
        missing = [key for key, upload in found.items() if upload is None and key not in self._taken]
        for key, upload in found.items():
            if upload is not None:
                upload[2].cancel()
                self._taken.add(key)
                asyncio.get_running_loop().call_later(self._seconds, self._taken.discard, key)
        try:
            if missing or (found and not taken):
                raise InputError("the upload has expired; please choose the file again")
            yield [name for name, _, _ in taken], [content for _, content, _ in taken]
        finally:
            self._memory.release(sum(len(content) for _, content, _ in taken))

    def clear(self) -> None:
        """Forget all of them."""
        for key in list(self._waiting):
            self._forget(key)

    def _forget(self, key: str) -> None:
        upload = self._waiting.pop(key, None)
        if upload is not None:
            _, content, timer = upload
            timer.cancel()
            self._memory.release(len(content))


@functools.cache
def private_cache() -> Path:
    """Make the one folder of this process that Gradio is pointed to, readable by this user only.

    Nothing is written there: uploads stay in memory. But Gradio wants a folder, and by default would use one that every
    user of the machine shares. It is removed when the server stops or the process ends; folders of processes that were
    killed are removed here.
    """
    _remove_stale_folders()
    folder = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-"))
    os.environ["GRADIO_TEMP_DIR"] = str(folder)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def open_cache() -> Path:
    """Make sure that the private folder exists and is private, and return it."""
    folder = private_cache()
    folder.mkdir(exist_ok=True)
    folder.chmod(0o700)
    return folder


def close_cache() -> None:
    """Remove the private folder with whatever is left in it."""
    shutil.rmtree(private_cache(), ignore_errors=True)


def _remove_stale_folders() -> None:
    if os.name != "posix":
        return  # Elsewhere asking whether a process lives ends it.
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        process = re.match(rf"{_PREFIX}(\d+)-", folder.name)
        if process is not None and folder.lstat().st_uid == os.getuid() and not _is_alive(int(process[1])):
            shutil.rmtree(folder, ignore_errors=True)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OverflowError:
        return False  # No system numbers a process so.
    except PermissionError:
        return True
    return True
