"""Which images are copies of each other: near by hash, and confirmed by pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.ndimage import uniform_filter

from medsharp.data.duplicates.index import NearPairs, near_pairs
from medsharp.data.duplicates.look import THUMBNAIL_SIDE, Look

DISTANCE = 10
"""Bits of 256 in which the difference hashes of near-duplicates may differ."""

SIMILAR = 0.5
"""Least correlation of the fine structure of two thumbnails that are of one picture.

Of pairs of different breast ultrasound images it exceeds 0.3 hardly ever, and neighbouring frames of one scan have 0.7
and more, as the speckle stays."""

_SURROUNDINGS = 9
_SHIFTS = (-1, 0, 1)
_BATCH = 4096

Kind = Literal["exact", "near", "mirrored", "crop"]


@dataclass(frozen=True)
class Match:
    """Two images of one picture.

    Attributes:
        first: Index of the one that comes first.
        second: Index of the other.
        kind: `exact` for the same pixels, `near`, `mirrored`, or `crop` for a part of the other.
        distance: Differing bits of the hashes; None for a crop.
        similarity: Correlation of the fine structure, 1 for the same pixels.
        detail: How the images lie to each other, of a crop.
    """

    first: int
    second: int
    kind: Kind
    distance: int | None
    similarity: float
    detail: str = ""


def duplicate_matches(looks: Sequence[Look], *, distance: int = DISTANCE) -> list[Match]:
    """Find exact, near and mirrored duplicates among images that can be used.

    Candidates are all pairs whose hashes differ in at most `distance` bits; hashes of different pictures may collide,
    so that a pair counts only when the thumbnails agree in their fine structure too.

    Args:
        looks: Images with a reason against them are in no match.
        distance: 0 finds only identical hashes.

    Returns:
        Matches ordered by first, then second index into `looks`.
    """
    usable = [number for number, seen in enumerate(looks) if seen.bits is not None]
    if len(usable) < 2:
        return []
    bits = np.stack([seen.bits for seen in looks if seen.bits is not None])
    pairs = near_pairs(bits, distance)
    similarity = _similarity(looks, usable, pairs)
    matches = []
    for one, other, apart, mirrored, alike in zip(
        pairs.first.tolist(),
        pairs.second.tolist(),
        pairs.distance.tolist(),
        pairs.mirrored.tolist(),
        similarity.tolist(),
        strict=True,
    ):
        first, second = usable[one], usable[other]
        if looks[first].content == looks[second].content:
            matches.append(Match(first, second, "exact", 0, 1.0))
        elif alike >= SIMILAR:
            matches.append(Match(first, second, "mirrored" if mirrored else "near", apart, alike))
    return matches


def _similarity(looks: Sequence[Look], usable: Sequence[int], pairs: NearPairs) -> np.ndarray:
    """Return the similarity of pairs; of a data set's thumbnails only those of candidates are brought together."""
    kinds, places = np.unique(np.concatenate([pairs.first, pairs.second]), return_inverse=True)
    if not len(kinds):
        return np.zeros(0)
    thumbnails = np.stack([np.asarray(looks[usable[place]].thumbnail) for place in kinds.tolist()])
    first, second = places.reshape(2, -1)
    return fine_similarity(thumbnails, NearPairs(first, second, pairs.distance, pairs.mirrored))


def fine_similarity(thumbnails: np.ndarray, pairs: NearPairs) -> np.ndarray:
    """Return the correlation of two thumbnails' fine structure: what is left when the local mean is taken away.

    The coarse structure of all breast ultrasound images is alike, bright above and dark below, and correlates between
    any two. The better of shifts by up to a pixel of the thumbnail is taken.

    Args:
        thumbnails: uint8 [n, S, S].
        pairs: Indices into `thumbnails`; where `mirrored` is set, the second is mirrored first.

    Returns:
        float [p] from -1 to 1; 0 where a thumbnail has no fine structure.
    """
    similarity = np.zeros(len(pairs))
    margin = max(_SHIFTS)
    inside = slice(margin, THUMBNAIL_SIDE - margin)
    for start in range(0, len(pairs), _BATCH):
        chosen = slice(start, start + _BATCH)
        one = fine_structure(thumbnails[pairs.first[chosen]])[:, inside, inside]
        other = fine_structure(thumbnails[pairs.second[chosen]])
        mirrored = pairs.mirrored[chosen]
        other[mirrored] = other[mirrored][..., ::-1]
        shifted = [
            _correlation(
                one, other[:, margin + y : THUMBNAIL_SIDE - margin + y, margin + x : THUMBNAIL_SIDE - margin + x]
            )
            for y in _SHIFTS
            for x in _SHIFTS
        ]
        similarity[chosen] = np.max(shifted, axis=0)
    return similarity


def fine_structure(pictures: np.ndarray) -> np.ndarray:
    """Return float32 [n, H, W] less the mean of each pixel's surroundings, limited to twice its usual size.

    Burned-in text and calipers are far brighter than their surroundings; without the limit, two images with the same
    words would look alike.
    """
    values = pictures.astype(np.float32)
    values -= uniform_filter(values, (0, _SURROUNDINGS, _SURROUNDINGS))
    limit = 2 * np.abs(values).mean(axis=(1, 2), keepdims=True)
    return np.clip(values, -limit, limit)


def _correlation(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    one = one - one.mean(axis=(1, 2), keepdims=True)
    other = other - other.mean(axis=(1, 2), keepdims=True)
    norm = np.sqrt((one**2).sum(axis=(1, 2)) * (other**2).sum(axis=(1, 2)))
    return np.divide((one * other).sum(axis=(1, 2)), norm, out=np.zeros(len(one), dtype=np.float32), where=norm > 1e-3)
