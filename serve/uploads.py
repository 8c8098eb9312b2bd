"""What becomes of an upload: how much of it is taken, how it is named, and that nothing of it stays on the disk."""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import tempfile
import unicodedata
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

from medsharp.errors import InputError

_LONGEST_NAME = 80


@dataclass(frozen=True)
class Limits:
    """How much one request may bring.

    Attributes:
        max_files: Images in one request.
        max_file_bytes: Bytes of one image.
        max_request_bytes: Bytes of a whole request, with all its images.
    """

    max_files: int = 32
    max_file_bytes: int = 64 * 1024 * 1024
    max_request_bytes: int = 256 * 1024 * 1024

    def __post_init__(self) -> None:
        if min(self.max_files, self.max_file_bytes, self.max_request_bytes) < 1:
            raise InputError("max_files, max_file_bytes and max_request_bytes must be at least 1")


def safe_name(name: str | None, position: int) -> str:
    """Reduce the name that a client gave its file to something harmless to show: no folder, no control character.

    Args:
        name: The name as sent, possibly with a path of the client's machine, possibly missing.
        position: Which file of the request it is, from 1; names what has no name.

    Returns:
        At most 80 printable characters. Not escaped: HTML must escape it where it is shown.
    """
    base = PureWindowsPath(PurePosixPath(name or "").name).name
    # Category C holds control characters and the ones that reverse the reading direction.
    printable = "".join(character for character in base if unicodedata.category(character)[0] != "C").strip(" .")
    if len(printable) > _LONGEST_NAME:
        stem, suffix = os.path.splitext(printable)
        suffix = suffix[:8]
        printable = stem[: _LONGEST_NAME - len(suffix) - 1] + "…" + suffix
    return printable or f"image {position}"


@functools.cache
def private_cache() -> Path:
    """Make the one folder of this process through which the page's uploads pass, readable by this user only.

    Gradio is pointed to it, and by default would use a folder that every user of the machine shares. It is emptied
    after each request (`take`), and removed when the server stops or the process ends.
    """
    folder = Path(tempfile.mkdtemp(prefix="medsharp-serve-"))
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


def take(paths: Sequence[str], uploaded: Collection[str]) -> tuple[list[bytes], list[str]]:
    """Read uploaded files into memory and delete them from the disk at once.

    Args:
        paths: Files inside the private folder, as Gradio hands them to an event.
        uploaded: Paths at which uploads arrived; any other is refused, whoever asks for it.

    Returns:
        The bytes and the harmless name of each file.

    Raises:
        InputError: A file is gone already, since it was uploaded too long ago, or was never an upload.
    """
    cache = private_cache().resolve()
    files = [Path(path).resolve() for path in paths]
    if not all(path in uploaded and file.is_relative_to(cache) for path, file in zip(paths, files, strict=True)):
        raise InputError("only uploaded files can be assessed")
    try:
        contents = [file.read_bytes() for file in files]
    except FileNotFoundError as error:
        raise InputError("the upload has expired; please choose the file again") from error
    finally:
        for file in files:
            file.unlink(missing_ok=True)
            # Gradio puts every upload in a folder of its own, named after the content.
            if file.parent != cache:
                shutil.rmtree(file.parent, ignore_errors=True)
    return contents, [safe_name(file.name, position) for position, file in enumerate(files, start=1)]
