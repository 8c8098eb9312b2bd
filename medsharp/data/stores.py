"""Images in an object store: a folder at a URL, and copies of some of its files for as long as they are read."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from medsharp.data.paths import refuse_outside
from medsharp.errors import InputError
from medsharp.progress import Progress

_URL = re.compile(r"[a-z][a-z0-9+.-]*://\S")
_AT_ONCE = 16
"""Files that are fetched at once: a store answers late, and many at a time."""

_PATIENCE = 5
"""Seconds in which a store must take a connection."""

_SLOWEST = 60
"""Seconds in which it must answer."""


def is_url(text: object) -> bool:
    """Whether this is a URL, such as `s3://bucket/folder`."""
    return isinstance(text, str) and _URL.match(text) is not None


class Store:
    """A folder of an object store, in whatever way fsspec reaches it: `s3://`, `gs://`, `az://`, `https://`, ...

    Who may read there is found out as its own tools do: by the environment, configuration files, or the machine's role.
    Stores whose package for fsspec (s3fs, gcsfs, adlfs) is not installed are reached by pyarrow.

    Args:
        url: The folder.

    Attributes:
        root: The URL, without a slash at its end.

    Raises:
        InputError: Nothing installed reaches URLs of this kind.
    """

    def __init__(self, url: str) -> None:
        self.root = url.rstrip("/")
        self._files, self._folder = _opened(self.root)

    def find(self, name: str) -> str | None:
        """Return the name, as `medsharp.data.paths.DataFolder.find` does; a file that lacks is told when it is read.

        Raises:
            InputError: The path leaves the folder.
        """
        refuse_outside(name)
        return name

    def notes(self, name: str) -> list[str]:
        """Return nothing: names are taken as they are."""
        return []

    def get(self, names: Iterable[str], folder: Path, progress: Progress | None = None) -> None:
        """Copy files into a folder, under their names; one that is not in the store is not there afterwards.

        Args:
            names: Of the files, from the store's folder.
            folder: Of this machine.
            progress: Called with files done, files in all and what is being done.

        Raises:
            InputError: The store cannot be reached, or refuses a file.
        """
        wanted = list(dict.fromkeys(names))
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="fetch") as pool:
            try:
                for done, _ in enumerate(pool.map(lambda name: self._get(name, folder / name), wanted), start=1):
                    if progress is not None:
                        progress(done, len(wanted), "copying from the store")
            except BaseException:
                # What a store refuses once it refuses a thousand times; those under way are waited for, as they write.
                pool.shutdown(cancel_futures=True)
                raise

    def _get(self, name: str, to: Path) -> None:
        to.parent.mkdir(parents=True, exist_ok=True)
        try:
            with _told(f"{self.root}/{name}"):
                self._files.get_file(f"{self._folder}/{name}", str(to))
        except FileNotFoundError:
            to.unlink(missing_ok=True)


@contextmanager
def copied(url: str, names: Iterable[str], progress: Progress | None = None) -> Iterator[Path]:
    """Give a folder with copies of some files of a URL; it is private, and removed afterwards.

    Raises:
        InputError: As `Store.get`.
    """
    with TemporaryDirectory(prefix="medsharp-") as folder:
        Store(url).get(names, Path(folder), progress)
        yield Path(folder)


def _opened(url: str) -> tuple[Any, str]:
    """Return what reads the files of a URL, and the path in it."""
    protocol, _, path = url.partition("://")
    try:
        import fsspec

        try:
            files, folder = fsspec.core.url_to_fs(url)
            return files, str(folder)
        except ImportError:
            if protocol not in _BY_ARROW:
                raise
        from fsspec.implementations.arrow import ArrowFSWrapper

        with _told(url):
            by_arrow = _BY_ARROW[protocol](path.partition("/")[0])
        return ArrowFSWrapper(by_arrow), path
    except ImportError as error:
        raise InputError(f"{url} needs more packages ({error}): pip install 'medsharp[cluster]'") from error
    except ValueError as error:
        raise InputError(f"{url}: {' '.join(str(error).split())}") from error


def _s3(bucket: str) -> Any:
    from pyarrow.fs import S3FileSystem, resolve_s3_region

    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    if region is None:
        region = "us-east-1" if endpoint else resolve_s3_region(bucket)
    return S3FileSystem(region=region, endpoint_override=endpoint, connect_timeout=_PATIENCE, request_timeout=_SLOWEST)


def _gs(bucket: str) -> Any:
    from pyarrow.fs import GcsFileSystem

    return GcsFileSystem(retry_time_limit=timedelta(seconds=_SLOWEST))


def _az(container: str) -> Any:
    from pyarrow.fs import AzureFileSystem

    account = os.environ.get("AZURE_STORAGE_ACCOUNT_NAME")
    if not account:
        raise InputError("name the account in the environment: AZURE_STORAGE_ACCOUNT_NAME")
    return AzureFileSystem(account, account_key=os.environ.get("AZURE_STORAGE_ACCOUNT_KEY"))


_OF_THIS_MACHINE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
"""Errors of writing a copy, and not of the store."""

_BY_ARROW = {"s3": _s3, "s3a": _s3, "gs": _gs, "gcs": _gs, "az": _az, "abfs": _az}


@contextmanager
def _told(url: str) -> Iterator[None]:
    """Tell in a sentence what a store answers, other than that a file is not there, or what this machine lacks."""
    try:
        yield
    except (FileNotFoundError, ImportError, InputError):
        raise
    # Each store's package raises what its maker's library does, of classes that have nothing in common.
    except Exception as error:
        if isinstance(error, OSError) and error.errno in _OF_THIS_MACHINE:
            raise
        said = " ".join(str(error).split()).rstrip(".") or type(error).__name__
        raise InputError(f"{url} cannot be reached: {said[:300]}") from error
