"""The cache: images by the hash of what they were made from, in memory, or memory-mapped from files on disk.

It holds decoded, placed images for training, and small pictures for the search for duplicates: pixels of patients.
Only their owner may read them, `medsharp data cache --clear` removes them, and `data.cache: memory` does without.
"""

from __future__ import annotations

import logging
import os
import shutil
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medsharp.errors import InputError
from medsharp.files import atomic_path, cache_folder
from medsharp.progress import Progress

LIMIT_BYTES = 20 * 2**30
"""The cache is kept below this: what was used longest ago goes first."""

_SEGMENT_BYTES = 64 * 2**20
_SEGMENT_IMAGES = 2048
"""A start that is broken off loses no more than so many."""

_SUFFIX = ".images"
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Segment:
    """Images that were written together.

    Attributes:
        keys: 32 bytes each, what the image was made from.
        checks: uint32 [n], CRC-32 of the pixels.
        pixels: uint8 [n, H, W].
        path: The file, or None in memory.
    """

    keys: list[bytes]
    checks: np.ndarray
    pixels: np.ndarray
    path: Path | None

    def __reduce__(self) -> tuple[Any, ...]:
        # A worker that is started afresh maps the file again instead of being sent its content.
        if self.path is None:
            return _Segment, (self.keys, self.checks, self.pixels, None)
        return _read_segment, (self.path,)


class CachedImages:
    """A sequence of uint8 [H, W] images of one size, some of them perhaps in the same place."""

    def __init__(self, segments: Sequence[_Segment], places: Sequence[tuple[int, int]]) -> None:
        self._segments = tuple(segments)
        self._places = tuple(places)

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> np.ndarray:
        segment, row = self._places[index]
        return self._segments[segment].pixels[row]

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self[index] for index in range(len(self)))


def image_cache() -> Path:
    """Return the folder of the cache on disk."""
    return cache_folder() / "images"


def cache_size() -> tuple[int, int]:
    """Return how many files the cache has, and their bytes."""
    sizes = [_size(file) for file in _files()]
    return len(sizes), sum(sizes)


def extracted_size() -> tuple[int, int]:
    """Return how many files lie beside the cache, such as images out of archives, and their bytes."""
    sizes = [_size(file) for folder in _extracted() for file in folder.rglob("*") if file.is_file()]
    return len(sizes), sum(sizes)


def clear_cache() -> None:
    """Remove all that the cache holds and what was extracted beside it, also what a killed process left half written.

    A training that is under way keeps what it has mapped; one that is writing just then is told that it cannot.
    """
    for file in image_cache().glob("*/*"):
        file.unlink(missing_ok=True)
    for folder in _extracted():
        shutil.rmtree(folder, ignore_errors=True)


def _extracted() -> list[Path]:
    """Return the other folders beside the cache: all that is there can be made again."""
    root = cache_folder()
    return sorted(p for p in root.iterdir() if p.is_dir() and p != image_cache()) if root.is_dir() else []


def cached_images(
    keys: Sequence[bytes],
    make: Callable[[int], np.ndarray],
    *,
    shape: tuple[int, int],
    recipe: str | None,
    progress: Progress | None = None,
    what: str = "decoding images",
) -> CachedImages:
    """Return the image of every key, making those that are not there yet.

    On disk the images lie in segments, files that are written once and never changed, each with the keys and a checksum
    of every image. Two processes that fill the cache at once write a segment each, of which either serves; a start
    that is broken off leaves whole segments behind. A segment that is damaged is removed and its images are made again.

    Args:
        keys: 32 bytes each, a digest of all that the image is made from but the recipe.
        make: Gives image number n, uint8 [H, W]; called from several threads.
        shape: H and W.
        recipe: Names how images are made; those of another recipe are not looked at. None keeps them in memory only.
        progress: Called with images done, images in all and `what`; only while images are made.
        what: What is being done, for `progress`.

    Raises:
        InputError: What `make` raises, or the cache cannot be written.
    """
    folder = None if recipe is None else _private_folder(recipe)
    segments = [] if folder is None else _sound_segments(folder, set(keys), shape)
    found: dict[bytes, tuple[int, int]] = {}
    for number, part in enumerate(segments):
        for row, key in enumerate(part.keys):
            found.setdefault(key, (number, row))  # the first one's checksum was looked at
    lacking = [number for number, key in enumerate(keys) if key not in found]
    if progress is not None and lacking and len(lacking) < len(keys):
        progress(len(keys) - len(lacking), len(keys), what)
    # Two rows may show the same file; it is made once.
    lacking = list({keys[number]: number for number in reversed(lacking)}.values())[::-1]
    for part in _made(keys, lacking, make, shape, progress, what):
        if folder is not None:
            part = _write_segment(folder, part)
        found |= {key: (len(segments), row) for row, key in enumerate(part.keys)}
        segments.append(part)
    if folder is not None and lacking:
        _prune({part.path for part in segments})
    return CachedImages(segments, [found[key] for key in keys])


def _made(
    keys: Sequence[bytes],
    numbers: list[int],
    make: Callable[[int], np.ndarray],
    shape: tuple[int, int],
    progress: Progress | None,
    what: str,
) -> Iterator[_Segment]:
    """Make images, a segment's worth at a time."""
    size = max(1, min(_SEGMENT_IMAGES, _SEGMENT_BYTES // (shape[0] * shape[1])))
    done = len(keys) - len(numbers)
    with ThreadPoolExecutor() as pool:
        for start in range(0, len(numbers), size):
            chosen = numbers[start : start + size]
            pixels = np.empty((len(chosen), *shape), dtype=np.uint8)
            try:
                for row, image in enumerate(pool.map(make, chosen)):
                    pixels[row] = image
                    done += 1
                    if progress is not None:
                        progress(done, len(keys), what)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)  # an interrupt must not wait for images not begun
                raise
            checks = np.array([zlib.crc32(pixels[row].data) for row in range(len(pixels))], dtype=np.uint32)
            yield _Segment([keys[number] for number in chosen], checks, pixels, None)


def _write_segment(folder: Path, part: _Segment) -> _Segment:
    """Write a segment in one step and return it mapped; as it is where another process has removed it already."""
    path = folder / f"{os.urandom(8).hex()}{_SUFFIX}"
    try:
        with atomic_path(path, private=True) as temporary, temporary.open("wb") as stream:
            np.save(stream, np.frombuffer(b"".join(part.keys), dtype=np.uint8).reshape(-1, 32))
            np.save(stream, part.checks)
            np.save(stream, part.pixels)
    except InputError as error:
        raise InputError(f"{error}; free some space, set XDG_CACHE_HOME elsewhere, or set data.cache=memory") from error
    try:
        return _read_segment(path)
    except FileNotFoundError:
        return part


def _read_segment(path: Path) -> _Segment:
    with path.open("rb") as stream:
        keys = np.load(stream, allow_pickle=False)
        checks = np.load(stream, allow_pickle=False)
        np.lib.format.read_magic(stream)
        shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
        mapped = np.memmap(path, dtype=dtype, mode="r", offset=stream.tell(), shape=shape)
    if keys.shape != (len(mapped), 32) or len(checks) != len(mapped) or mapped.ndim != 3 or dtype != np.uint8:
        raise ValueError("the arrays do not belong together")
    # As a plain array: a memmap makes a new one of itself for every row that is taken.
    return _Segment([row.tobytes() for row in keys], checks, np.asarray(mapped).view(np.ndarray), path)


def _sound_segments(folder: Path, wanted: set[bytes], shape: tuple[int, int]) -> list[_Segment]:
    """Map the segments that hold something wanted, each key once; remove those that are damaged."""
    segments = []
    missing = set(wanted)
    for path in sorted(folder.glob(f"*{_SUFFIX}")):
        try:
            part = _read_segment(path)
            rows = [row for row, key in enumerate(part.keys) if key in missing]
            sound = part.pixels.shape[1:] == shape and all(
                zlib.crc32(part.pixels[row].data) == part.checks[row] for row in rows
            )
            if sound and rows:
                os.utime(path)
        except FileNotFoundError:
            continue  # removed by another process since it was listed
        # NumPy raises these on a header or a length that is not what it should be.
        except (ValueError, EOFError, OSError, SyntaxError, TypeError):
            sound = False
        if not sound:
            _log.warning("%s is damaged; its images are decoded again", path)
            path.unlink(missing_ok=True)
        elif rows:
            missing -= {part.keys[row] for row in rows}
            segments.append(part)
    return segments


def _private_folder(recipe: str) -> Path:
    root = image_cache()
    folder = root / recipe
    try:
        for made in (root, folder):
            made.mkdir(parents=True, exist_ok=True)
            made.chmod(0o700)
    except OSError as error:
        raise InputError(
            f"cannot make the cache {folder} private: {error.strerror}; set XDG_CACHE_HOME elsewhere, or set "
            "data.cache=memory"
        ) from error
    return folder


def _prune(used: set[Path | None]) -> None:
    files = sorted((file for file in _files() if file not in used), key=_last_used)
    total = cache_size()[1]
    for file in files:
        if total <= LIMIT_BYTES:
            return
        total -= _size(file)
        file.unlink(missing_ok=True)


def _files() -> list[Path]:
    return sorted(image_cache().glob(f"*/*{_SUFFIX}"))


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return 0


def _last_used(file: Path) -> float:
    try:
        return file.stat().st_mtime
    except FileNotFoundError:
        return 0.0
