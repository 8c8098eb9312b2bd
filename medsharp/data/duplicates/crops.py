"""Parts of other images: crops, zooms and further frames, found by what is at their bright and dark spots."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy.fft import dctn
from scipy.ndimage import gaussian_filter, maximum_filter, minimum_filter

from medsharp.data.duplicates.index import same_keys
from medsharp.data.duplicates.matches import SIMILAR, Match, fine_structure

_SIDE = 256
_STEP = 2 ** (1 / 3)
_SPOTS = {1: 45, 2: 40, 3: 35, 4: 25, 5: 20}
"""Of each level, from 203 pixels on the longest side to 81; finer ones cost most and add little."""

_REACH = 8
"""Half the side in pixels of the patch around a spot, on its level."""

_BITS = 20
_PROBES = 3
_ALIKE = 0.85
_LEAST_VOTES = 12
_FAR = 24.0
_NEAR = 8.0
_MOST_IN_BUCKET = 200
_VERIFIED_SIDE = 128
_LEAST_OVERLAP = 0.3
_SCALES = (0.5, 2.0)
_SEARCH = (((1.0,), (0.0,)), ((0.97, 1.0, 1.03), (-2.0, 0.0, 2.0)), ((0.99, 1.0, 1.01), (-1.0, 0.0, 1.0)))
"""Zooms, and shifts in pixels of the small images: at a fit, around it, and around the best of these."""

_HOPEFUL = 0.25


@dataclass(frozen=True)
class Features:
    """Spots of an image and what is around them.

    Attributes:
        size: Width and height of the image in pixels.
        small: uint8 [h, w], the image with its longest side at 128 pixels.
        place: float32 [k, 2], x and y where the longest side is 256.
        level: int [k], how often the image was reduced by a third of an octave.
        content: float32 [k, 24], low frequencies of the patch around, of length 1.
        bright: bool [k], whether it is a bright spot.
    """

    size: tuple[int, int]
    small: np.ndarray
    place: np.ndarray
    level: np.ndarray
    content: np.ndarray
    bright: np.ndarray


def describe(pixels: np.ndarray) -> Features:
    """Find the strongest spots of an image on five scales and describe what is around each.

    Spots are extrema of a difference of Gaussians (Lowe, IJCV 60 (2004) 91, without the search across scales); a patch
    is told by the signs and sizes of its lowest cosine frequencies, which a change of gain leaves alone.

    Args:
        pixels: uint8 [H, W].
    """
    height, width = pixels.shape
    picture = Image.fromarray(pixels)
    places, levels, contents, brights = [], [], [], []
    for level, most in _SPOTS.items():
        side = _SIDE / _STEP**level
        scale = side / max(height, width)
        shape = max(1, round(width * scale)), max(1, round(height * scale))
        if min(shape) <= 2 * _REACH + 2:
            continue
        # Of the original each time: antialiased, and as fast as of the level before.
        reduced = np.asarray(picture.resize(shape, Image.Resampling.BILINEAR), dtype=np.float32)
        smooth = gaussian_filter(reduced, 1.2, truncate=3)
        band = smooth - gaussian_filter(reduced, 2.4, truncate=3)
        band[:_REACH] = band[-_REACH:] = 0
        band[:, :_REACH] = band[:, -_REACH:] = 0
        high = (band == maximum_filter(band, 5)) & (band > 1)
        low = (band == minimum_filter(band, 5)) & (band < -1)
        y, x = np.nonzero(high | low)
        strongest = np.argsort(-np.abs(band[y, x]), kind="stable")[:most]
        y, x = y[strongest], x[strongest]
        if not len(y):
            continue
        around = np.arange(-_REACH, _REACH, 2) + 1
        patches = smooth[(y[:, None] + around)[:, :, None], (x[:, None] + around)[:, None, :]]
        contents.append(_low_frequencies(patches))
        places.append(np.stack([x, y], axis=1) * np.float32(_SIDE / side))
        levels.append(np.full(len(y), level))
        brights.append(band[y, x] > 0)
    small_scale = _VERIFIED_SIDE / max(height, width)
    small_shape = max(1, round(width * small_scale)), max(1, round(height * small_scale))
    return Features(
        (width, height),
        np.asarray(picture.resize(small_shape, Image.Resampling.BOX)),
        np.concatenate(places).astype(np.float32) if places else np.empty((0, 2), dtype=np.float32),
        np.concatenate(levels) if levels else np.empty(0, dtype=np.int64),
        np.concatenate(contents) if contents else np.empty((0, 24), dtype=np.float32),
        np.concatenate(brights) if brights else np.empty(0, dtype=bool),
    )


@dataclass(frozen=True)
class CropSearch:
    """What was found among images, and what was not looked at.

    Attributes:
        matches: Of kind `crop`, ordered.
        spots: How many spots the images have.
        crowded: How many of them were not compared, because more than 200 look alike.
        unsearched: How many images have none that was compared.
    """

    matches: tuple[Match, ...]
    spots: int
    crowded: int
    unsearched: int

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences on what was not searched, for a person."""
        if not self.crowded:
            return ()
        images = f"; {self.unsearched} images have no other spots and were not searched" if self.unsearched else ""
        return (
            f"crops: {self.crowded} of {self.spots} spots look like more than {_MOST_IN_BUCKET} others and were not "
            f"compared{images}",
        )


def search_crops(features: Sequence[Features | None]) -> CropSearch:
    """Find pairs of images that show one scene at other borders or scales.

    Spots with the same signs vote for the two images they are in; pairs whose votes agree on one scale and shift are
    laid over each other, and count when the overlap agrees in its fine structure. Mirrored crops are not looked for.
    Spots that more than 200 share their signs with, such as those of one vendor's logo, are not compared, so that the
    time grows with the images and not with their square.

    Args:
        features: None where an image cannot be used.
    """
    used = [(number, about) for number, about in enumerate(features) if about is not None and len(about.level)]
    if len(used) < 2:
        return CropSearch((), sum(len(about.level) for _, about in used), 0, 0)
    owner = np.concatenate([np.full(len(about.level), place) for place, (_, about) in enumerate(used)])
    content = np.concatenate([about.content for _, about in used])
    place = np.concatenate([about.place for _, about in used])
    level = np.concatenate([about.level for _, about in used])
    bright = np.concatenate([about.bright for _, about in used])
    one, other, crowded = _alike(owner, content, bright)
    matches = []
    for votes in _ballots(owner, one, other):
        a, b = one[votes], other[votes]
        fitted = _fit(place[a], place[b], _STEP ** (level[a] - level[b]))
        if fitted is None:
            continue
        (first, about), (second, against) = used[owner[a[0]]], used[owner[b[0]]]
        similarity, overlap, scale = _verify(about.small, against.small, *fitted)
        if similarity >= SIMILAR:
            matches.append(Match(first, second, "crop", None, similarity, _lies(overlap, scale)))
    matches.sort(key=lambda match: (match.first, match.second))
    searched = len(np.unique(owner[~crowded]))
    return CropSearch(tuple(matches), len(owner), int(crowded.sum()), len(used) - searched)


def crop_matches(features: Sequence[Features | None]) -> list[Match]:
    """Return the matches of `search_crops`."""
    return list(search_crops(features).matches)


def _lies(overlap: float, scale: float) -> str:
    if overlap > 0.95 and abs(scale - 1) < 0.03:
        return "same view: a further frame, or drawn on"
    return f"{overlap:.0%} of one image is in the other, at scale {scale:.2f}"


def _low_frequencies(patches: np.ndarray) -> np.ndarray:
    frequencies = dctn(patches, axes=(1, 2), norm="ortho")[:, :5, :5].reshape(len(patches), -1)[:, 1:]
    length = np.sqrt((frequencies**2).sum(axis=1, keepdims=True))
    return (frequencies / np.maximum(length, 1e-6)).astype(np.float32)


def _alike(owner: np.ndarray, content: np.ndarray, bright: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return pairs of spots of two images whose surroundings agree, and bool [spots], which were not compared.

    The image of a pair's first spot comes first.

    A spot's key are the signs of its twenty lowest frequencies. It is also looked for with the signs of its three
    weakest ones turned, as these are what noise turns.
    """
    weight = 1 << np.arange(_BITS, dtype=np.int64)
    lowest = content[:, :_BITS]
    key = ((lowest > 0) * weight).sum(axis=1) + (bright.astype(np.int64) << _BITS)
    weakest = weight[np.argsort(np.abs(lowest), axis=1)[:, :_PROBES]]
    count = len(owner)
    found = []
    for probe in range(2**_PROBES):
        turned = key.copy()
        for place in range(_PROBES):
            if probe >> place & 1:
                turned ^= weakest[:, place]
        keys = key if probe == 0 else np.concatenate([key, turned])
        for first, second in same_keys(keys, most=_MOST_IN_BUCKET):
            if probe:
                # Spot number n with its signs turned is entry count + n.
                crossing = (first < count) != (second < count)
                first, second = first[crossing] % count, second[crossing] % count
            differ = owner[first] != owner[second]
            first, second = first[differ], second[differ]
            alike = np.einsum("ij,ij->i", content[first], content[second]) > _ALIKE
            first, second = first[alike], second[alike]
            swapped = owner[first] > owner[second]
            found.append((np.where(swapped, second, first), np.where(swapped, first, second)))
    pairs = np.concatenate([one * count + other for one, other in found]) if found else np.empty(0, dtype=np.int64)
    pairs = np.unique(pairs)
    _, back, sizes = np.unique(key, return_inverse=True, return_counts=True)
    return pairs // count, pairs % count, sizes[back] > _MOST_IN_BUCKET


def _ballots(owner: np.ndarray, one: np.ndarray, other: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the votes of every pair of images that has enough."""
    pair = owner[one] * (owner.max() + 1 if len(owner) else 1) + owner[other]
    order = np.argsort(pair, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(pair[order]) != 0]) if len(order) else np.empty(0, dtype=np.int64)
    ends = np.r_[starts[1:], len(order)]
    for start, end in zip(starts.tolist(), ends.tolist()):
        if end - start >= _LEAST_VOTES:
            yield order[start:end]


def _fit(here: np.ndarray, there: np.ndarray, scales: np.ndarray) -> tuple[float, np.ndarray] | None:
    """Return the scale and shift that takes places `here` to places `there`, on which most votes agree."""
    shifts = there - scales[:, None] * here
    # Each vote in turn says how the images lie; the one that most others agree with stands.
    apart = np.abs(shifts[:, None] + scales[:, None, None] * here[None] - there[None]).max(axis=-1)
    agreeing = apart < _FAR
    chosen = agreeing[np.argmax(agreeing.sum(axis=1))]
    for within in (_FAR, _NEAR):
        # Votes at one place are one: a scale cannot be told from them.
        if chosen.sum() < _LEAST_VOTES or _distinct(here[chosen]) < _LEAST_VOTES // 2:
            return None
        a, b = here[chosen].astype(np.float64), there[chosen].astype(np.float64)
        centred, target = a - a.mean(axis=0), b - b.mean(axis=0)
        scale = float((centred * target).sum() / max((centred**2).sum(), 1e-9))
        if not _SCALES[0] <= scale <= _SCALES[1]:
            return None
        shift = b.mean(axis=0) - scale * a.mean(axis=0)
        chosen = np.abs(scale * here + shift - there).max(axis=1) < within
    return (scale, shift) if chosen.sum() >= _LEAST_VOTES else None


def _distinct(places: np.ndarray) -> int:
    """Count places that are more than a few pixels apart: one spot is found again on other levels."""
    return len({(x, y) for x, y in (places / 6).round().astype(int).tolist()})


def _verify(one: np.ndarray, other: np.ndarray, scale: float, shift: np.ndarray) -> tuple[float, float, float]:
    """Lay `other` over `one`; return the best similarity near the fit, the share of the smaller image, the scale."""
    half = shift * _VERIFIED_SIDE / _SIDE
    height, width = one.shape
    picture = Image.fromarray(other)
    cover = Image.new("L", picture.size, 255)
    reference = fine_structure(one[None])[0]
    best = (-1.0, 0.0, scale)
    best_shift = (0.0, 0.0)
    for zooms, shifts in _SEARCH:
        centre, (left, up) = best[2], best_shift
        for zoom in zooms:
            near = centre * zoom
            # The middle of the overlap stays where it is.
            middle = np.clip((np.array(other.shape[::-1]) / 2 - half) / scale, 0, (width, height))
            offset = half + (scale - near) * middle
            for y in shifts:
                for x in shifts:
                    matrix = (near, 0, float(offset[0]) + left + x, 0, near, float(offset[1]) + up + y)
                    laid = picture.transform((width, height), Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)
                    over = np.asarray(cover.transform((width, height), Image.Transform.AFFINE, matrix)) > 0
                    area = over.sum()
                    smaller = min(height * width, other.size / near**2)
                    if area < _LEAST_OVERLAP * smaller:
                        continue
                    similarity = _masked(reference, fine_structure(np.asarray(laid)[None])[0], over)
                    if similarity > best[0]:
                        best, best_shift = (similarity, min(1.0, area / smaller), near), (left + x, up + y)
        if best[0] < _HOPEFUL:
            break
    return best


def _masked(one: np.ndarray, other: np.ndarray, over: np.ndarray) -> float:
    a, b = one[over], other[over]
    a, b = a - a.mean(), b - b.mean()
    norm = math.sqrt(float((a**2).sum()) * float((b**2).sum()))
    return float((a * b).sum()) / norm if norm > 1e-3 else 0.0
