"""Looks at many images, which the cache on disk keeps: whoever starts again decodes nothing."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from medsharp.config import Cache
from medsharp.cores import usable_cores
from medsharp.data.cache import cached_images
from medsharp.data.cache_key import cache_recipe
from medsharp.data.duplicates.look import THUMBNAIL_SIDE, Look, Seen, look
from medsharp.data.manifest import Manifest, frame_of
from medsharp.files import sha256_file
from medsharp.images import ImageLimits
from medsharp.progress import Progress

_WHAT = "reading and hashing images"
_SOURCES = ("images", "data/duplicates/look.py", "data/duplicates/looks.py")
_HASH_ROW = THUMBNAIL_SIDE
_TEXT_ROW = THUMBNAIL_SIDE + 1
_TEXT_ROWS = 7
_SHAPE = (_TEXT_ROW + _TEXT_ROWS, THUMBNAIL_SIDE)
"""A look as one picture: the thumbnail, a row of the two hashes, and rows of text with the rest."""


def look_at(
    places: Sequence[tuple[Manifest, Any]],
    progress: Progress | None = None,
    limits: ImageLimits = ImageLimits(),
    *,
    cache: Cache = "memory",
    seen: Seen | None = None,
) -> list[Look]:
    """Look at rows of manifests, several at once, in their order.

    Args:
        places: A manifest and a row of it as a mapping, each.
        progress: Called with images done, images in all and what is being done.
        limits: Images beyond them count as unreadable.
        cache: `disk` keeps looks for the next time. What cannot be read is tried anew each time.
        seen: Is given what is decoded, of which a cache on disk leaves little.

    Raises:
        InputError: The cache cannot be written.
    """
    if cache == "memory":
        return _all(lambda place: look(place[0], place[1], limits, seen), places, progress)
    digests = _all(_digest, places, None)
    known = [number for number, digest in enumerate(digests) if digest]
    images = cached_images(
        [_key(places[number], digests[number]) for number in known],
        lambda number: _packed(look(*places[known[number]], limits, seen)),
        shape=_SHAPE,
        recipe=cache_recipe({"kind": "looks", "limits": asdict(limits)}, _SOURCES),
        progress=progress,
        what=_WHAT,
    )
    looks = {number: _unpacked(image, digests[number]) for number, image in zip(known, images, strict=True)}
    return [looks.get(number) or look(*place, limits, seen) for number, place in enumerate(places)]


def _all(see: Callable[[Any], Any], places: Sequence[Any], progress: Progress | None) -> list[Any]:
    seen: list[Any] = []
    # More threads than cores wait for the interpreter's lock between the short parts of a small image.
    with ThreadPoolExecutor(max(2, usable_cores())) as pool:
        try:
            for one in pool.map(see, places):
                seen.append(one)
                if progress is not None:
                    progress(len(seen), len(places), _WHAT)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)  # an interrupt must not wait for images not begun
            raise
    return seen


def _digest(place: tuple[Manifest, Any]) -> str:
    manifest, row = place
    try:
        return sha256_file(manifest.path(row["image"]))
    except OSError:
        return ""  # which `look` tells with its reason


def _key(place: tuple[Manifest, Any], digest: str) -> bytes:
    """Return what a look is made from but the recipe: the file, the frame and how its values are scaled."""
    manifest, row = place
    return hashlib.sha256(f"look {digest} {frame_of(row)} {manifest.range_of(row)!r}".encode()).digest()


def _packed(seen: Look) -> np.ndarray:
    """Return a look as uint8 [72, 64]; of one that failed only that it did, as its reason names the file."""
    image = np.zeros(_SHAPE, dtype=np.uint8)
    about: dict[str, Any] = {"size": seen.size, "flags": seen.flags, "content": seen.content.hex(), "why": seen.reason}
    text = json.dumps(about).encode()
    failed = seen.bits is None and seen.size == (0, 0)
    if failed or len(text) > _TEXT_ROWS * THUMBNAIL_SIDE:
        return image
    if seen.bits is not None and seen.thumbnail is not None:
        image[:_HASH_ROW], image[_HASH_ROW] = seen.thumbnail, seen.bits.ravel()
    image[_TEXT_ROW:].ravel()[: len(text)] = np.frombuffer(text, dtype=np.uint8)
    return image


def _unpacked(image: np.ndarray, digest: str) -> Look | None:
    """Return the look that was packed; None where it must be taken again."""
    text = image[_TEXT_ROW:].tobytes().rstrip(b"\0")
    if not text:
        return None
    about = json.loads(text)
    seen = Look(digest, about["why"], tuple(about["size"]), tuple(about["flags"]), bytes.fromhex(about["content"]))
    if seen.reason:
        return seen
    return replace(seen, bits=image[_HASH_ROW].reshape(2, -1), thumbnail=image[:_HASH_ROW])
