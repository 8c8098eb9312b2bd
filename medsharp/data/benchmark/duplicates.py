"""How the search for near-duplicates grows with the number of images, and that it misses none."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter

from medsharp.data.benchmark.section import Section
from medsharp.data.duplicates import DISTANCE, HASH_SIDE, NearPairs, near_pairs
from medsharp.progress import Progress

PLANTED_SHARE = 0.05
COMPARED = 5000
"""Up to so many images all pairs are compared too."""

_BATCH = 20_000


@dataclass(frozen=True)
class PlantedHashes:
    """Hashes of made images among which pairs are known.

    Attributes:
        bits: uint8 [n, 2, 32], as it is and mirrored.
        pairs: int64 [p, 2], indices of images that are at most `DISTANCE` bits apart.
    """

    bits: np.ndarray
    pairs: np.ndarray


def measure_duplicates(sizes: Sequence[int], *, seed: int = 0, progress: Progress | None = None) -> Section:
    """Search hashes with planted near-duplicates for all pairs within `DISTANCE` bits.

    Args:
        sizes: Numbers of images, each with two hashes.
        seed: Of the hashes.
        progress: Called with sizes done, sizes in all and what is being done.
    """
    rows = []
    for done, count in enumerate(sizes):
        if progress is not None:
            progress(done, len(sizes), "searching for near-duplicates")
        hashes = planted_hashes(count, np.random.default_rng([seed, count]))
        start = time.perf_counter()
        found = near_pairs(hashes.bits, DISTANCE)
        seconds = time.perf_counter() - start
        keys = set(zip(found.first.tolist(), found.second.tolist(), strict=True))
        recovered = sum((low, high) in keys for low, high in hashes.pairs.tolist())
        exact = _is_exact(hashes.bits, found) if count <= COMPARED else None
        rows.append(
            (
                f"{count:,}",
                f"{seconds:.2f}",
                f"{1e6 * seconds / count:.1f}",
                f"{len(found):,}",
                f"{recovered:,} of {len(hashes.pairs):,}",
                {True: "yes", False: "NO", None: "not compared"}[exact],
            )
        )
    if progress is not None:
        progress(len(sizes), len(sizes), "searching for near-duplicates")
    return Section(
        "duplicates",
        f"Near-duplicates: all pairs of 256-bit hashes, also mirrored, within {DISTANCE} bits",
        ("images", "seconds", "us an image", "pairs", "planted found", "same as all pairs"),
        tuple(rows),
        (
            f"made hashes of layered, grainy pictures, a third of them with black sides; {PLANTED_SHARE:.0%} are "
            f"copies of others with up to {DISTANCE} bits changed, half of those mirrored",
        ),
    )


def planted_hashes(count: int, rng: np.random.Generator) -> PlantedHashes:
    """Make hashes like those of breast ultrasound images, some of them near-duplicates of others.

    A picture is 16 rows of 17 fields: smooth tissue in layers with a little grain; a third have black sides, whose
    comparisons are zero as those of equal fields are. Their statistics are near those of BUSI and BUS-BRA together
    (made / real): 47 / 48 % of the bits are set, 55 / 58 % of horizontal and 65 / 67 % of vertical neighbours agree,
    two pictures differ in 127 / 127 bits in the median and in 78 / 100 in the lowest hundredth.
    """
    as_is = np.empty((count, HASH_SIDE, HASH_SIDE), dtype=bool)
    flipped = np.empty_like(as_is)
    for start in range(0, count, _BATCH):
        number = min(_BATCH, count - start)
        grain = rng.normal(size=(number, HASH_SIDE, HASH_SIDE + 1)).astype(np.float32)
        fields = 3 * gaussian_filter(grain, (0, 0.8, 1.6)) + 0.25 * rng.normal(size=grain.shape)
        width = np.where(rng.random(number) < 1 / 3, rng.integers(1, 5, number), 0)
        column = np.arange(HASH_SIDE + 1)
        dark = (column < width[:, None]) | (column > HASH_SIDE - width[:, None])
        fields = np.where(dark[:, None], -9.0, fields)
        as_is[start : start + number] = fields[..., 1:] > fields[..., :-1]
        mirrored = fields[..., ::-1]
        flipped[start : start + number] = mirrored[..., 1:] > mirrored[..., :-1]
    bits = np.packbits(np.stack([as_is, flipped], axis=1).reshape(count, 2, -1), axis=-1)

    copies = int(count * PLANTED_SHARE)
    shuffled = rng.permutation(count)
    sources, places = shuffled[:copies], shuffled[copies : 2 * copies]
    changed = np.zeros((copies, 256), dtype=np.uint8)
    for number in range(copies):
        changed[number, rng.choice(256, rng.integers(0, DISTANCE + 1), replace=False)] = 1
    versions = bits[sources]
    half = copies // 2
    versions[:half] = versions[:half, ::-1]
    bits[places] = versions ^ np.packbits(changed, axis=-1)[:, None]
    return PlantedHashes(bits, np.sort(np.stack([sources, places], axis=1), axis=1))


def _is_exact(bits: np.ndarray, found: NearPairs) -> bool:
    words = np.ascontiguousarray(bits).view(np.uint64)
    known = set(zip(found.first.tolist(), found.second.tolist(), found.distance.tolist(), strict=True))
    slow = set()
    for first in range(len(words)):
        later = words[first + 1 :]
        straight = np.bitwise_count(words[first, 0] ^ later).sum(axis=-1)  # [later, as it is or mirrored]
        crossed = np.bitwise_count(words[first, 1] ^ later[:, 0]).sum(axis=-1)
        apart = np.minimum(straight.min(axis=-1), crossed)
        slow |= {(first, first + 1 + int(j), int(apart[j])) for j in np.flatnonzero(apart <= DISTANCE)}
    return slow == known
