"""The index finds every pair that comparing all pairs finds, whatever the codes look like."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from PIL import Image

from medsharp.data.duplicates import Look, NearPairs, duplicate_matches, near_pairs, pairs_within, perceptual_hash
from medsharp.data.duplicates import index as engine
from medsharp.data.duplicates.look import look_at_pixels
from medsharp.data.duplicates.matches import fine_similarity


def all_pairs(codes: np.ndarray, distance: int) -> list[tuple[int, int, int]]:
    words = codes.view(np.uint64)
    apart = np.bitwise_count(words[:, None] ^ words[None]).sum(axis=-1)
    return [(i, j, int(apart[i, j])) for i, j in np.argwhere(apart <= distance).tolist() if i < j]


def planted(kind: str, count: int, seed: int = 0) -> np.ndarray:
    """Codes of a kind, a third of which are others with 0 to 14 bits changed."""
    rng = np.random.default_rng(seed)
    bits = rng.integers(0, 2, (count, 256), dtype=np.uint8)
    if kind == "black borders":
        bits[:, 120:] = 0
    elif kind == "some with black borders":
        bits[: count // 2, :150] = 0
    elif kind == "runs":
        bits = np.repeat(bits[:, ::16], 16, axis=1) ^ (rng.random((count, 256)) < 0.05)
    elif kind == "all alike":
        bits[:] = bits[0]
    for number in range(count // 3):
        bits[count - 1 - number] = bits[number]
        bits[count - 1 - number, rng.choice(256, rng.integers(0, 15), replace=False)] ^= 1
    return np.packbits(bits.astype(np.uint8), axis=1)


@pytest.mark.parametrize("distance", [0, 1, 10, 25])
@pytest.mark.parametrize("kind", ["even", "black borders", "some with black borders", "runs", "all alike"])
def test_finds_exactly_the_pairs_that_comparing_all_finds(kind: str, distance: int) -> None:
    codes = planted(kind, 600)
    found = list(zip(*(array.tolist() for array in pairs_within(codes, distance)), strict=True))
    assert found == all_pairs(codes, distance)
    assert len(found) > 5


@pytest.mark.parametrize("count", [0, 1, 2])
def test_few_codes_are_no_trouble(count: int) -> None:
    codes = np.zeros((count, 32), dtype=np.uint8)
    one, other, apart = pairs_within(codes, 10)
    assert (one.tolist(), other.tolist(), apart.tolist()) == (([0], [1], [0]) if count == 2 else ([], [], []))


def test_codes_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match="multiple of 8"):
        pairs_within(np.zeros((3, 30), dtype=np.uint8), 10)


@pytest.mark.parametrize("kind", ["even", "black borders", "some with black borders", "runs"])
def test_compares_few_pairs_also_where_most_codes_share_their_borders(kind: str) -> None:
    codes = planted(kind, 6000)
    compared = sum(len(one) for one, _ in engine._candidates(codes, codes.view(np.uint64), 10))
    assert compared < 0.1 * 6000 * 5999 / 2


def test_mirrored_images_are_pairs_and_an_image_is_none_with_itself() -> None:
    rng = np.random.default_rng(0)
    pixels = [
        np.asarray(Image.fromarray(rng.integers(0, 255, (12, 14), dtype=np.uint8)).resize((112, 96))) for _ in range(20)
    ]
    symmetric = np.concatenate([pixels[0], pixels[0][:, ::-1]], axis=1)
    bits = np.stack([perceptual_hash(p) for p in (*pixels, pixels[3][:, ::-1], symmetric)])
    pairs = near_pairs(bits, 10)
    assert (pairs.first.tolist(), pairs.second.tolist(), pairs.mirrored.tolist()) == ([3], [20], [True])


def speckled(seed: int, amplitude: float) -> Look:
    """A slope from left to right, whose hash is all ones, with grain of its own."""
    rng = np.random.default_rng(seed)
    slope = np.linspace(20, 220, 128)[None] + amplitude * rng.normal(size=(96, 128))
    return look_at_pixels(slope.clip(0, 255).astype(np.uint8))


def test_hashes_that_collide_are_no_duplicates() -> None:
    looks = [speckled(1, 3), speckled(2, 3), speckled(1, 3), speckled(1, 3.3)]
    assert all((one.bits == other.bits).all() for one, other in itertools.pairwise(looks) if one.bits is not None)
    found = {(match.first, match.second): match.kind for match in duplicate_matches(looks)}
    assert found == {(0, 2): "exact", (0, 3): "near", (2, 3): "near"}


def test_the_same_words_on_different_images_make_them_no_copies() -> None:
    thumbnails = np.random.default_rng(0).integers(20, 80, (2, 64, 64), dtype=np.uint8)
    words = np.random.default_rng(1).random((6, 40)) < 0.5
    thumbnails[:, 50:56, 12:52][:, words] = 255
    pair = NearPairs(np.array([0]), np.array([1]), np.array([0]), np.array([False]))
    assert fine_similarity(thumbnails, pair)[0] < 0.4
    thumbnails[1] = thumbnails[0] // 2 + 40  # a copy with another gain stays one
    assert fine_similarity(thumbnails, pair)[0] > 0.9


def test_images_that_cannot_be_used_are_in_no_match() -> None:
    blank = look_at_pixels(np.zeros((60, 60), dtype=np.uint8))
    assert blank.reason == "constant image"
    assert duplicate_matches([blank, speckled(1, 3), blank, speckled(1, 3)]) != []
    assert {(m.first, m.second) for m in duplicate_matches([blank, speckled(1, 3), blank, speckled(1, 3)])} == {(1, 3)}
