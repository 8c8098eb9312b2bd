"""All pairs of binary codes within a Hamming distance, exactly, without comparing all pairs."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

_BLOCK = 1024
_MOST_AGREEING = 3
_PROBED = 3
_SORT_COST = 8.0
"""What sorting a code into its bucket costs, in comparisons of two codes."""


@dataclass(frozen=True)
class NearPairs:
    """Pairs of items whose codes are near, ordered by `first`, then `second`.

    Attributes:
        first: int64 [p], the smaller index.
        second: int64 [p].
        distance: int64 [p], bits that differ.
        mirrored: bool [p], whether one of the two was nearer when mirrored.
    """

    first: np.ndarray
    second: np.ndarray
    distance: np.ndarray
    mirrored: np.ndarray

    def __len__(self) -> int:
        return len(self.first)

    def where(self, kept: np.ndarray) -> NearPairs:
        """Return the pairs that a bool [p] chooses."""
        return NearPairs(self.first[kept], self.second[kept], self.distance[kept], self.mirrored[kept])


def near_pairs(bits: np.ndarray, distance: int) -> NearPairs:
    """Return every pair of images whose hashes are near, one of them mirrored or not.

    Args:
        bits: uint8 [n, 2, b], packed hashes of an image as it is and mirrored; b a multiple of 8.
        distance: Bits that may differ.
    """
    count = len(bits)
    codes = np.ascontiguousarray(bits).reshape(2 * count, bits.shape[-1])
    one, other, apart = pairs_within(codes, distance)
    mirrored = (one % 2) != (other % 2)
    # Two mirrored images are as far apart as the two as they are; that pair is there already.
    useful = (one // 2 != other // 2) & (mirrored | (one % 2 == 0))
    one, other, apart, mirrored = one[useful] // 2, other[useful] // 2, apart[useful], mirrored[useful]
    first, second = np.minimum(one, other), np.maximum(one, other)
    order = np.lexsort((mirrored, apart, second, first))
    first, second, apart, mirrored = first[order], second[order], apart[order], mirrored[order]
    nearest = np.ones(len(first), dtype=bool)
    nearest[1:] = (first[1:] != first[:-1]) | (second[1:] != second[:-1])
    return NearPairs(first[nearest], second[nearest], apart[nearest], mirrored[nearest])


def pairs_within(codes: np.ndarray, distance: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return all pairs of codes that differ in at most `distance` bits; none is missed.

    The bits are dealt into `distance + k` parts. `distance` differing bits spoil at most that many parts, so that two
    near codes agree in at least k of them (pigeonhole principle; multi-index hashing, Norouzi et al., CVPR 2012, with
    the search radius 0). For every choice of k parts the codes are sorted by them, and only codes that fall together
    are compared. A larger k means more sorting and fewer comparisons; it is chosen by the numbers of comparisons that
    a few choices would take, so that parts which many codes share (hashes of black borders are all zero) do not bring
    back all pairs. Bits are dealt by how evenly they are set, so that every part tells codes apart as well as the
    others; bits that never differ are in none.

    The cost is that of k sorts a choice and of the pairs that are found: a thousand copies of one image are half a
    million pairs.

    Args:
        codes: uint8 [n, b], packed bits, b a multiple of 8.
        distance: Bits that may differ.

    Returns:
        int64 arrays i < j and the distance of each pair, ordered by i, then j.

    Raises:
        ValueError: The shape is another.
    """
    if codes.ndim != 2 or codes.shape[1] % 8 or codes.dtype != np.uint8 or distance < 0:
        raise ValueError("codes must be uint8 [n, b] with b a multiple of 8, and distance at least 0")
    words = np.ascontiguousarray(codes).view(np.uint64)
    found = [
        (one[near], other[near], apart[near])
        for one, other in _candidates(codes, words, distance)
        if (near := (apart := _apart(words[one], words[other])) <= distance).any()
    ]
    if not found:
        return (np.empty(0, dtype=np.int64),) * 3
    one, other, apart = (np.concatenate(arrays) for arrays in zip(*found, strict=True))
    low, high = np.minimum(one, other), np.maximum(one, other)
    # One number a pair, so that a pair found by several parts stays once.
    _, kept = np.unique(low * len(codes) + high, return_index=True)
    return low[kept], high[kept], apart[kept]


def _apart(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return np.bitwise_count(one ^ other).sum(axis=-1, dtype=np.int64)


def _candidates(codes: np.ndarray, words: np.ndarray, distance: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield index arrays of pairs to compare; every near pair is in at least one."""
    count = len(codes)
    spread = _dealing_order(codes)
    cheapest = count * (count - 1) / 2
    keys: list[np.ndarray] | None = None
    for agreeing in range(1, _MOST_AGREEING + 1):
        parts = [spread[start :: distance + agreeing] for start in range(distance + agreeing)]
        if min(len(part) for part in parts) == 0:
            break
        choices = [np.concatenate(chosen) for chosen in itertools.combinations(parts, agreeing)]
        probed = choices[:: max(1, len(choices) // _PROBED)][:_PROBED]
        together = sum(_together(_key(codes, bits)) for bits in probed) / len(probed)
        cost = len(choices) * (together + _SORT_COST * count)
        if cost < cheapest:
            cheapest, keys = cost, choices
    if keys is None:
        yield from _all_pairs(count)
        return
    for bits in keys:
        yield from same_keys(_key(codes, bits))


def _dealing_order(codes: np.ndarray) -> np.ndarray:
    """Return the bits that differ at all, most evenly set first."""
    if not len(codes):
        return np.empty(0, dtype=np.int64)
    share = np.zeros(codes.shape[1] * 8)
    for start in range(0, len(codes), 65_536):
        share += np.unpackbits(codes[start : start + 65_536], axis=1).sum(axis=0)
    uneven = np.abs(share / len(codes) - 0.5)
    order = np.argsort(uneven, kind="stable")
    return order[uneven[order] < 0.5]


def _key(codes: np.ndarray, bits: np.ndarray) -> np.ndarray:
    """Put some bits of every code into one number; 64 at most, as more would add nothing but time."""
    key = np.zeros(len(codes), dtype=np.uint64)
    for bit in bits[:64].tolist():
        key = (key << np.uint64(1)) | ((codes[:, bit // 8] >> np.uint8(7 - bit % 8)) & np.uint8(1))
    return key


def _together(key: np.ndarray) -> float:
    _, sizes = np.unique(key, return_counts=True)
    sizes = sizes.astype(np.float64)
    return float((sizes * (sizes - 1) / 2).sum())


def same_keys(key: np.ndarray, *, most: int | None = None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield all pairs of equal keys as index arrays: neighbours in sorted order, then those two apart, and so on.

    Args:
        key: int [n].
        most: Keys that more than so many share are left out, as they tell nothing.
    """
    order = np.argsort(key, kind="stable")
    if most is not None:
        _, back, sizes = np.unique(key[order], return_inverse=True, return_counts=True)
        order = order[sizes[back] <= most]
    key = key[order]
    places = np.arange(len(key) - 1)
    for step in itertools.count(1):
        places = places[places + step < len(key)]
        places = places[key[places] == key[places + step]]
        if not len(places):
            return
        yield order[places], order[places + step]


def _all_pairs(count: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for start in range(0, count, _BLOCK):
        one, other = np.meshgrid(np.arange(start, min(start + _BLOCK, count)), np.arange(start, count), indexing="ij")
        later = other > one
        yield one[later], other[later]
