"""Writing files so that nobody ever sees half of one, and hashing them."""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from medsharp.errors import InputError

TABLE_SUFFIXES = (".csv", ".tsv", ".txt", ".xlsx", ".xlsm", ".parquet")
"""How names of files that may be tables end, the likeliest first; here, as telling them from images needs no pandas."""

_SURROGATE = re.compile("[\\ud800-\\udfff]")

_ATTEMPTS = 100
"""Random names that are tried before giving up; a second one is needed about never."""


@contextmanager
def atomic_path(path: str | Path, *, private: bool = False) -> Iterator[Path]:
    """Give a temporary path beside `path` to write to; rename it to `path` when the block ends well and it is on disk.

    When the block raises, what was there before stays and the temporary file is removed.

    Args:
        path: The file to write. Its folder is made if missing.
        private: Only its owner may read it, from its first byte on, as files with pictures of patients need; otherwise
            the process's umask says who.

    Raises:
        InputError: The folder or file cannot be written (permissions, disk full, a file where a folder must be).
    """
    path = Path(path)
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = _new_file(path, private)
        yield temporary
        if private:  # a writer may have put another file in its place
            temporary.chmod(0o600)
        to_disk(temporary)  # else the name may be there after a power cut, and the content not
        temporary.replace(path)
        _names_to_disk(path.parent)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def is_utf8(name: str) -> bool:
    """Whether a name can be written down: of bytes that are not UTF-8, Python makes halves of surrogate pairs."""
    return _SURROGATE.search(name) is None


def readable(name: str) -> str:
    """Return a name with a replacement character for each byte that is not UTF-8."""
    return _SURROGATE.sub("\N{REPLACEMENT CHARACTER}", name)


def not_utf8(name: str | Path, what: str = "file or folder") -> str:
    """Say that a name cannot stand in any table, and what to do.

    Args:
        name: Of a file or folder, as the system gives it.
        what: It is, such as `file`.
    """
    return f"the name of {what} '{readable(str(name))}' is not in UTF-8; rename it"


def assert_utf8(*names: str | Path | None, what: str = "file or folder") -> None:
    """Check that names can be written down, before anything is made that has them in it.

    Args:
        names: Of files or folders, as the system gives them; None is not looked at.
        what: They are, such as `file`.

    Raises:
        InputError: One cannot.
    """
    for name in names:
        if name is not None and not is_utf8(str(name)):
            raise InputError(not_utf8(name, what))


def url_of(path: Path) -> str | None:
    """Return the URL that became a path, as `s3://bucket/a.csv` becomes `s3:/bucket/a.csv`; None where none did."""
    scheme, *below = path.parts or ("",)
    # Letters of Windows' drives are one.
    return f"{scheme}//{'/'.join(below)}" if re.fullmatch(r"[a-z][a-z0-9+.-]+:", scheme, re.IGNORECASE) else None


def to_disk(file: Path) -> None:
    """Have the system write to the disk what it holds of a file.

    Raises:
        OSError: It cannot.
    """
    with file.open("rb+") as stream:
        os.fsync(stream.fileno())


def _names_to_disk(folder: Path) -> None:
    """Do the same with the names in a folder, where the system has a way; without it an old name may come back."""
    if os.name != "posix":
        return
    # A folder that may be written to and not read, and file systems of networks, have none; the files are whole.
    with suppress(OSError):
        opened = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)


def assert_other_file(out: Path, read: Iterable[str | Path]) -> None:
    """Check that what is written takes the place of nothing that is read.

    Args:
        out: What `--out` names.
        read: Files, or URLs.

    Raises:
        InputError: It is one of them, under whatever name.
    """
    if out.exists() and any(Path(one).exists() and out.samefile(one) for one in read):
        raise InputError(f"--out {out} is what is read here; choose another")


def write_text(path: str | Path, text: str, *, private: bool = False) -> None:
    """Write UTF-8 text to `path` in one step (see `atomic_path`)."""
    with atomic_path(path, private=private) as temporary:
        temporary.write_text(text, encoding="utf-8")


def json_text(content: Any) -> str:
    """Return content as the JSON of a file: a value a line, names in their own letters, no NaN that parsers refuse."""
    return json.dumps(content, indent=1, allow_nan=False, ensure_ascii=False) + "\n"


def check_settings(path: Path, settings: Mapping[str, Any], what: str) -> None:
    """Check that what a folder holds was made with the same settings, so that it can go on.

    Args:
        path: The JSON file of the settings in the folder.
        settings: Those of now; others in the file do not count.
        what: That it holds, such as `a run`.

    Raises:
        InputError: One differs, or the file is damaged.
    """
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(before, dict):
            raise ValueError("not an object")
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} is damaged; remove {path.parent} or choose another --out") from error
    for key, value in json.loads(json.dumps(settings)).items():
        if before.get(key) != value:
            raise InputError(
                f"{path.parent} holds {what} with other {key} ({_short(before.get(key))}, not {_short(value)}); "
                "choose another --out"
            )


def _short(value: Any) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if len(text) <= 60 else text[:57] + "..."


@contextmanager
def only_writer(lock: Path, busy: str, *, patience: float = 0.0) -> Iterator[None]:
    """Keep what a lock file stands for to this process.

    The lock is the operating system's, so that it goes when its process goes, however that ends.

    Args:
        lock: The lock file; its folder is there.
        busy: What to say where another process has it.
        patience: Seconds to wait for it.

    Raises:
        InputError: Another process has it, or removed its folder meanwhile, or it cannot be written.
    """
    from filelock import FileLock, Timeout  # takes longer to import than all else here

    held = FileLock(lock)
    try:
        held.acquire(timeout=patience)
    except (Timeout, FileNotFoundError) as error:
        raise InputError(busy) from error
    except OSError as error:
        raise InputError(f"cannot write in {lock.parent}: {error.strerror}") from error
    try:
        yield
    finally:
        held.release()


@contextmanager
def atomic_folder(path: str | Path, overwrite: bool = False, *, private: bool = False) -> Iterator[Path]:
    """Give a temporary folder beside `path` to fill; rename it to `path` when the block ends well.

    Args:
        path: The folder to make.
        overwrite: Replace an existing folder; otherwise an existing, non-empty one is an error.
        private: Only its owner may enter it, from the first; otherwise the process's umask says who.

    Raises:
        InputError: `path` exists and is not empty, or cannot be written.
    """
    path = Path(path)
    if path.exists() and not overwrite and (not path.is_dir() or any(path.iterdir())):
        raise InputError(f"{path} exists already; choose another folder or remove it first")
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = _new_folder(path, ".part", private)
        yield temporary
        if path.exists():
            # Moved aside first, so that a crash between the two renames still leaves one whole folder.
            aside = _new_folder(path, ".old", private=True)
            path.replace(aside / path.name)
            temporary.replace(path)
            shutil.rmtree(aside)
        else:
            temporary.replace(path)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        if temporary is not None and temporary.exists():
            shutil.rmtree(temporary, ignore_errors=True)


def cache_folder() -> Path:
    """Return the folder for what can be made again: `$XDG_CACHE_HOME/medsharp`, `~/.cache/medsharp` without it."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "medsharp"


def sha256_file(path: str | Path) -> str:
    """Return the SHA-256 of a file as 64 hexadecimal digits."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _new_file(path: Path, private: bool) -> Path:
    """Make an empty file beside `path`.

    The kernel applies the umask: a process could only learn it by changing it for all of its threads.
    """
    for name in _names_beside(path, ".part"):
        try:
            os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600 if private else 0o666))
        except FileExistsError:
            continue
        return name
    raise FileExistsError("no free name for a temporary file")


def _new_folder(path: Path, suffix: str, private: bool) -> Path:
    for name in _names_beside(path, suffix):
        try:
            name.mkdir(mode=0o700 if private else 0o777)
        except FileExistsError:
            continue
        return name
    raise FileExistsError("no free name for a temporary folder")


def _names_beside(path: Path, suffix: str) -> Iterator[Path]:
    return (path.parent / f".{path.name}.{secrets.token_hex(4)}{suffix}" for _ in range(_ATTEMPTS))
