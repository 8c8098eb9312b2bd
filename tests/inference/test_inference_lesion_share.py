"""Lesion sizes come from the masks, and what cannot be measured is left unknown."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from medsharp.inference.lesion_share import lesion_shares


def mask(path: Path, rows: slice, columns: slice, shape: tuple[int, int] = (40, 50)) -> Path:
    pixels = np.zeros(shape, dtype=np.uint8)
    pixels[rows, columns] = 255
    Image.fromarray(pixels).save(path)
    return path


def test_masks_of_an_image_are_united(tmp_path: Path) -> None:
    one = mask(tmp_path / "a.png", slice(0, 20), slice(0, 10))
    two = mask(tmp_path / "b.png", slice(10, 20), slice(0, 20))
    assert lesion_shares([[one], [one, two]]) == [200 / 2000, 300 / 2000]


def test_missing_empty_broken_and_unlike_masks_are_unknown(tmp_path: Path) -> None:
    one = mask(tmp_path / "a.png", slice(0, 20), slice(0, 10))
    empty = mask(tmp_path / "empty.png", slice(0, 0), slice(0, 0))
    other = mask(tmp_path / "other.png", slice(0, 5), slice(0, 5), (30, 30))
    broken = tmp_path / "broken.png"
    broken.write_bytes(one.read_bytes()[:40])
    assert lesion_shares([[], [empty], [broken], [one, other], [one]]) == [None, None, None, None, 0.1]
