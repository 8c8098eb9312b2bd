"""A zip archive read in memory, with its limits checked before and while it is unpacked."""

from __future__ import annotations

import contextlib
import io
import re
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import PurePosixPath

from starlette.exceptions import HTTPException

from serve.security.gate import megabytes
from serve.uploads.uploads import Limits, harmless_name, printable

_FIRST_BYTES = (b"PK\x03\x04", b"PK\x05\x06")
"""Of an archive, and of one that holds nothing."""

HEAD = 132
"""First bytes of an upload that tell whether it is an archive."""

_DIRECTORY_ENTRY = b"PK\x01\x02"
_ENTRIES_PER_FILE = 4
_SPARE_ENTRIES = 100
"""Beside a file there are its folder and what macOS adds, so an archive has more entries than files."""

_MOST_RATIO = 200
_UNSUSPICIOUS_BYTES = 16 * 2**20
"""What an archive may unpack to whatever its own size: a few blank images shrink to almost nothing."""

_BLOCK = 2**20
_LONGEST_PATH = 300
_DEEPEST = 16
_ENCRYPTED = 0x1
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""The others need memory that the archive itself chooses, and no system's own tool writes them."""

_DAMAGE = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError, NotImplementedError, ValueError)
"""What `zipfile` raises at a damaged archive, as measured on thousands of them."""

_UNWANTED = re.compile(r"(?:^|/)(?:__MACOSX/|\._|\.DS_Store$|Thumbs\.db$|desktop\.ini$)", re.IGNORECASE)
"""What systems put beside the files of a person."""


def is_archive(content: bytes) -> bool:
    """Say whether an upload is a zip archive, by its first bytes; its name and type are the client's to choose."""
    return content.startswith(_FIRST_BYTES) and content[128:132] != b"DICM"


def read_archive(
    content: bytes, limits: Limits, name: str = "the archive", reserve: Callable[[int], None] = lambda count: None
) -> tuple[list[str], list[bytes]]:
    """Unpack an archive in memory; nothing of it touches the disk.

    Folders, and what macOS and Windows add on their own (`__MACOSX`, `.DS_Store`, `Thumbs.db`), are left out. All else
    is given, images or not, in the order of the archive. It takes as long as unpacking takes: call it in a thread.

        names, contents = await asyncio.to_thread(read_archive, content, limits, name, reserve)

    Args:
        content: The whole archive; see `is_archive`.
        limits: `max_archive_files`, `max_file_bytes` of each, `max_unpacked_bytes` of all.
        name: What to call the archive in an error, harmless to show.
        reserve: Called with the bytes of each file before it is kept, to count them; see `Memory.reservation`.

    Returns:
        The names, each its path inside the archive, of harmless characters, `/` between folders and no two alike; and
        the bytes of each.

    Raises:
        HTTPException: 413 for too many or too large files, for all of them together, or for what shrinks more than
            images do; 422 for an archive that is damaged, encrypted or empty, that holds another archive, or with a
            name that leaves the archive, is absolute, or stands twice.
        BusyError: From `reserve`.
    """
    # Counted before they are parsed, since each entry costs far more memory than it has bytes.
    if content.count(_DIRECTORY_ENTRY) > _ENTRIES_PER_FILE * limits.max_archive_files + _SPARE_ENTRIES:
        raise _too_many(limits, name)
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            entries = _wanted(archive, limits, name)
            most = min(limits.max_unpacked_bytes, max(_UNSUSPICIOUS_BYTES, _MOST_RATIO * len(content)))
            total = 0
            contents = []
            for entry, shown in entries:
                unpacked = _unpack(archive, entry, limits, f"{shown} in {name}")
                total += len(unpacked)
                if total > most:
                    raise _unpacks_too_large(limits, name, most)
                if is_archive(unpacked):
                    raise HTTPException(422, f"{shown} in {name} is an archive itself; put the images into one archive")
                reserve(len(unpacked))
                contents.append(unpacked)
    except _DAMAGE as error:
        # What is wrong inside may quote a name as it was sent.
        raise HTTPException(422, f"{name} is damaged; pack and send it again") from error
    return [shown for _, shown in entries], contents


def _wanted(archive: zipfile.ZipFile, limits: Limits, name: str) -> list[tuple[zipfile.ZipInfo, str]]:
    """Give each file's entry and what to call it, having checked all that the directory of the archive says."""
    entries = [(entry, _path(entry)) for entry in archive.infolist()]
    entries = [(entry, path) for entry, path in entries if not path.endswith("/") and _UNWANTED.search(path) is None]
    if not entries:
        raise HTTPException(422, f"{name} holds no file")
    if len(entries) > limits.max_archive_files:
        raise _too_many(limits, name)
    if sum(entry.file_size for entry, _ in entries) > limits.max_unpacked_bytes:
        raise _unpacks_too_large(limits, name, limits.max_unpacked_bytes)
    checked = []
    for position, (entry, path) in enumerate(entries, start=1):
        shown = _harmless(path, position, name)
        if entry.flag_bits & _ENCRYPTED:
            raise HTTPException(422, f"{shown} in {name} is encrypted; pack it without a password")
        if entry.compress_type not in _METHODS:
            raise HTTPException(422, f"{shown} in {name} is compressed in an unusual way; pack it as an ordinary zip")
        if entry.file_size > limits.max_file_bytes:
            raise _file_too_large(limits, f"{shown} in {name}")
        checked.append((entry, shown))
    twice = {shown for _, shown in checked}
    for _, shown in checked:
        if shown not in twice:
            raise HTTPException(422, f"{name} holds {shown} twice; give each file a name of its own")
        twice.remove(shown)
    return checked


def _path(entry: zipfile.ZipInfo) -> str:
    """Return an entry's path, with `/` between folders whatever packed it.

    Without the flag that says UTF-8 a name should be in code page 437; macOS and many programs write UTF-8 instead.
    """
    path = entry.orig_filename
    if not entry.flag_bits & 0x800:
        with contextlib.suppress(UnicodeError):
            path = path.encode("cp437").decode("utf-8")
    return path.replace("\\", "/")


def _harmless(path: str, position: int, name: str) -> str:
    """Return the path without control characters, whole: two that differ anywhere are two.

    Raises:
        HTTPException: 422 for a path that leaves the archive, is absolute, very long or very deep.
    """
    parts = PurePosixPath(path).parts
    if path.startswith("/") or ".." in parts or re.match("[A-Za-z]:", path):
        raise HTTPException(422, f"{name} holds a file whose path leaves the archive; pack the images again")
    if len(path) > _LONGEST_PATH or len(parts) > _DEEPEST:
        raise HTTPException(422, f"{name} holds a file whose path is too long; pack the images with shorter names")
    *folders, last = parts
    shown = [part for part in (printable(folder).strip() for folder in folders) if part.strip(".")]
    return "/".join([*shown, harmless_name(last, position)])


def _unpack(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, limits: Limits, shown: str) -> bytes:
    """Return one file's bytes; what its entry says of their number is not believed."""
    blocks, size = [], 0
    with archive.open(entry) as file:
        while block := file.read(_BLOCK):
            size += len(block)
            if size > limits.max_file_bytes:
                raise _file_too_large(limits, shown)
            blocks.append(block)
    return b"".join(blocks)


def _too_many(limits: Limits, name: str) -> HTTPException:
    return HTTPException(413, f"{name} holds more than {limits.max_archive_files} files; send several smaller ones")


def _file_too_large(limits: Limits, shown: str) -> HTTPException:
    return HTTPException(413, f"{shown} is larger than {megabytes(limits.max_file_bytes)}")


def _unpacks_too_large(limits: Limits, name: str, most: int) -> HTTPException:
    if most < limits.max_unpacked_bytes:
        return HTTPException(413, f"{name} unpacks to more than {_MOST_RATIO} times its size, as no images do")
    return HTTPException(413, f"{name} unpacks to more than {megabytes(most)}; send several smaller ones")
