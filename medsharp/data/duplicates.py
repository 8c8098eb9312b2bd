"""Duplicates: exact ones, near ones and contradictory ones, found by hash and tied into groups."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import imagehash
import numpy as np
from PIL import Image

from medsharp.data.manifest import Manifest
from medsharp.errors import InputError
from medsharp.files import sha256_file
from medsharp.images import read_image

HASH_SIDE = 16
"""A difference hash of 16 x 16 comparisons: 256 bits."""

_BLOCK = 512


@dataclass(frozen=True)
class _Looked:
    digest: str
    bits: np.ndarray | None
    reason: str


def tie_duplicates(
    manifest: Manifest, *, distance: int = 10, progress: Callable[[int, int, str], None] | None = None
) -> Manifest:
    """Read every image once; exclude what cannot be used and tie what must not be split.

    - Unreadable and constant images are excluded with the reason.
    - The same picture again under the same label: the later copy is excluded.
    - Near-duplicates under the same label (Hamming distance of the 256-bit dHash at most `distance`, also mirrored)
      stay and share a group; so do the images of a patient.
    - Near-duplicates under different labels contradict each other: all of them are excluded, as nobody can tell which
      label is right.

    All pairs are compared, in blocks: 2,655 images take about a second, ten times as many a hundred times as long.

    Args:
        manifest: Rows that are excluded already stay as they are.
        distance: 0 ties only identical hashes.
        progress: Called with images done, images in all and what is being done.

    Returns:
        The manifest with `sha256`, `group` and `exclude` filled in, and notes that count each of these.

    Raises:
        InputError: No image can be read.
    """
    table = manifest.table.copy()
    names = table.index[table["exclude"] == ""]
    files = [manifest.path(table.at[row, "image"]) for row in names]
    looked: list[_Looked] = []
    with ThreadPoolExecutor() as pool:
        for result in pool.map(_look, files):
            looked.append(result)
            if progress is not None:
                progress(len(looked), len(files), "reading and hashing images")
    for row, result in zip(names, looked, strict=True):
        table.at[row, "sha256"] = result.digest
        table.at[row, "exclude"] = result.reason
    usable = [(row, result) for row, result in zip(names, looked, strict=True) if not result.reason]
    if not usable:
        first = table.at[names[0], "exclude"] if len(names) else "it lists no image that is not excluded"
        raise InputError(f"{manifest.info.name}: no image can be used; {first}")
    rows = [row for row, _ in usable]
    bits = np.stack([result.bits for _, result in usable if result.bits is not None])
    pairs = _near_pairs(bits, distance)

    labels = table["label"].to_dict()
    images = table["image"].to_dict()
    parents = {row: row for row in rows}
    contradictory: dict[int, int] = {}
    copies: dict[int, int] = {}
    near = set()
    for i, j in pairs:
        one, other = rows[i], rows[j]
        _join(parents, one, other)
        if labels[one] and labels[other] and labels[one] != labels[other]:
            contradictory.setdefault(one, other)
            contradictory.setdefault(other, one)
        elif table.at[one, "sha256"] == table.at[other, "sha256"]:
            copies.setdefault(other, one)
        else:
            near |= {one, other}
    for row, other in contradictory.items():
        table.at[row, "exclude"] = f"contradictory duplicate of {images[other]} ({labels[other]})"
    for row, other in copies.items():
        if row not in contradictory:
            table.at[row, "exclude"] = f"exact duplicate of {images[other]}"
    patients: dict[str, int] = {}
    for row in rows:
        if table.at[row, "patient"]:
            key = f"{table.at[row, 'site']}\x1f{table.at[row, 'patient']}"
            _join(parents, patients.setdefault(key, row), row)
    for row in rows:
        first = _root(parents, row)
        given = table.at[row, "group"]
        table.at[row, "group"] = given or _group_name(table.at[first, "patient"], images[first])
    kept = {row for row in near if not table.at[row, "exclude"]}
    clusters = Counter(_root(parents, row) for row in kept)
    return manifest.replace(
        table=table,
        notes=(
            *manifest.notes,
            *_notes(table.loc[names, "exclude"], len(names), sum(clusters.values()), len(clusters)),
        ),
    )


def _look(path: object) -> _Looked:
    digest = ""
    try:
        digest = sha256_file(str(path))
        pixels = read_image(str(path)).pixels
    except InputError as error:
        return _Looked(digest, None, f"unreadable: {error}")
    except OSError as error:
        return _Looked(digest, None, f"unreadable: {path}: {error.strerror}")
    if pixels.min() == pixels.max():
        return _Looked(digest, None, "constant image")
    picture = Image.fromarray(pixels)
    both = [imagehash.dhash(p, HASH_SIDE).hash for p in (picture, picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT))]
    return _Looked(digest, np.stack([np.packbits(bits.ravel()) for bits in both]), "")


def _near_pairs(bits: np.ndarray, distance: int) -> list[tuple[int, int]]:
    """Return index pairs i < j whose hashes, one of them mirrored or not, are near; `bits` is [n, 2, 32] uint8."""
    words = np.ascontiguousarray(bits).view(np.uint64)  # [n, 2, 4]
    pairs = []
    for start in range(0, len(words), _BLOCK):
        block = words[start : start + _BLOCK, :1]  # as it is, against both versions of all later ones
        later = words[start:]
        differing = np.bitwise_count(block[:, None] ^ later[None]).sum(axis=-1).min(axis=-1)
        pairs += [(start + int(i), start + int(j)) for i, j in np.argwhere(differing <= distance) if i < j]
    return pairs


def _root(parents: dict[int, int], row: int) -> int:
    while parents[row] != row:
        parents[row] = parents[parents[row]]
        row = parents[row]
    return row


def _join(parents: dict[int, int], one: int, other: int) -> None:
    # The earliest row leads, so that group names do not depend on the order of pairs.
    low, high = sorted((_root(parents, one), _root(parents, other)))
    parents[high] = low


def _group_name(patient: str, image: str) -> str:
    return f"patient {patient}" if patient else image


def _notes(reasons: object, total: int, tied: int, clusters: int) -> list[str]:
    kinds = Counter(str(reason).split(":")[0].split(" of ")[0] for reason in reasons if reason)  # type: ignore[attr-defined]
    notes = [f"{count} of {total} images left out: {kind}" for kind, count in sorted(kinds.items())]
    if tied:
        notes.append(f"{tied} near-duplicates tied into {clusters} groups, which no split divides")
    return notes
