"""Burned-in calipers and text are taken out, the tissue around them is left as it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from medsharp.images import read_image
from medsharp.preprocess import PreprocessSpec, find_drawings, find_overlays, preprocess, remove_overlays


def tissue(side: int = 256) -> np.ndarray:
    return np.clip(np.random.default_rng(0).gamma(4.0, 14.0, (side, side)), 0, 255).astype(np.uint8)


def with_caliper(pixels: np.ndarray, row: int, column: int, arm: int = 4, level: int = 250) -> np.ndarray:
    marked = pixels.copy()
    marked[row, column - arm : column + arm + 1] = level
    marked[row - arm : row + arm + 1, column] = level
    return marked


def test_caliper_is_found_whole_and_nothing_else() -> None:
    plain = tissue() // 2
    marked = with_caliper(plain, 100, 120)
    found = find_overlays(marked)
    assert found[marked != plain].all()
    assert np.abs(np.argwhere(found) - (100, 120)).max() <= 6


def test_removed_caliper_leaves_tissue_and_all_other_pixels() -> None:
    plain = tissue() // 2
    marked = with_caliper(plain, 100, 120)
    removed = remove_overlays(marked)
    found = find_overlays(marked)
    assert np.array_equal(removed[~found], marked[~found])
    assert removed[found].max() < 120
    assert abs(removed[found].mean() - plain.mean()) < 10


def test_tissue_without_graphics_is_left_alone() -> None:
    plain = tissue() // 2
    assert np.array_equal(remove_overlays(plain), plain)


@pytest.mark.parametrize("side", [64, 256, 900])
def test_scale_of_the_image_does_not_matter(side: int) -> None:
    plain = np.full((side, side), 60, dtype=np.uint8)
    marked = with_caliper(plain, side // 2, side // 2, arm=max(3, side // 60))
    assert (remove_overlays(marked) == 60).all()


def test_thin_coloured_lines_go_and_coloured_surfaces_stay() -> None:
    plain = np.full((200, 200), 60, dtype=np.uint8)
    coloured = np.zeros((200, 200), dtype=bool)
    coloured[50, 20:180] = True  # a line of a Doppler box
    coloured[100:140, 100:140] = True  # flow
    marked = plain.copy()
    marked[coloured] = 90
    removed = remove_overlays(marked, coloured)
    assert (removed[50] == 60).all()
    assert (removed[102:138, 102:138] == 90).all()


def test_image_all_of_graphics_ends() -> None:
    coloured = np.zeros((40, 40), dtype=bool)
    coloured[::3] = True
    assert remove_overlays(np.full((40, 40), 200, dtype=np.uint8), coloured).shape == (40, 40)


def test_simulated_text_and_calipers_are_mostly_removed_and_tissue_mostly_kept(simulated: Any) -> None:
    """Of hospital B, whose screens are typed on; the truth is the same screen without graphics."""
    drawn_found = drawn_all = tissue_found = tissue_all = 0
    for seed in range(24):
        screen, clean, _ = simulated("B", seed)
        graphics = np.abs(screen.astype(int) - clean) > 60
        found = find_overlays(screen)
        drawn_found, drawn_all = drawn_found + (found & graphics).sum(), drawn_all + graphics.sum()
        touching = ndimage.binary_dilation(screen != clean, iterations=2)  # strokes have soft edges
        tissue_found, tissue_all = tissue_found + (found & ~touching).sum(), tissue_all + (~touching).sum()
    assert drawn_all > 1000
    assert drawn_found > 0.7 * drawn_all
    assert tissue_found < 0.02 * tissue_all


def test_option_of_the_spec_removes_before_it_shrinks() -> None:
    marked = with_caliper(np.full((256, 256), 60, dtype=np.uint8), 100, 100)
    assert (preprocess(marked, PreprocessSpec(64, "none", inpaint=True)) == 60).all()
    assert preprocess(marked, PreprocessSpec(64, "none")).max() > 60


def test_real_calipers_are_found(real_data: Path) -> None:
    """BUSI's malignant (145) has measuring crosses, normal (10) has no graphics."""
    folder = real_data / "Dataset_BUSI_with_GT"
    marked = read_image(folder / "malignant" / "malignant (145).png")
    assert find_overlays(marked.pixels, marked.coloured).sum() > 60
    plain = read_image(folder / "normal" / "normal (10).png")
    assert find_overlays(plain.pixels, plain.coloured).mean() < 0.001


def test_ruler_is_found_by_its_equal_distances_and_scattered_ticks_are_not() -> None:
    plain = tissue() // 2
    ruler, scattered = plain.copy(), plain.copy()
    for tick in range(12):
        ruler[10 + 18 * tick, 236 : 236 + (8 if tick % 5 == 0 else 4)] = 230
        scattered[10 + 18 * tick + (tick * 7) % 11, 236:240] = 230
    assert find_drawings(ruler).ticks >= 10
    assert find_drawings(ruler).rulers[10, 237]
    assert find_drawings(scattered).ticks == find_drawings(plain).ticks == 0


def test_dots_between_two_calipers_go_with_them() -> None:
    marked = with_caliper(with_caliper(tissue() // 2, 100, 60), 100, 180)
    marked[100, 66:176:4] = 230
    found = find_drawings(marked)
    assert found.crosses == 2
    assert found.calipers[100, 70:172:4].mean() > 0.9
    assert found.calipers[100, 72:170:4].mean() < 0.5  # the gaps between dots are tissue


@pytest.mark.parametrize("side", [128, 256, 700, 1700])
@pytest.mark.parametrize("slanted", [False, True])
def test_upright_and_slanted_calipers_are_counted_at_any_scale(side: int, slanted: bool) -> None:
    plain = tissue(side) // 2
    marked, arm = plain.copy(), max(3, side // 60)
    thick = max(1, side // 400)
    for row, column in ((side // 3, side // 3), (side // 2, side // 2)):
        for step in range(-arm, arm + 1):
            beside = column + (step if slanted else 0)
            marked[row + step, beside : beside + thick] = 220
            above = row - (step if slanted else 0)
            marked[above : above + thick, column + step] = 220
    assert find_drawings(marked).crosses == 2
    assert find_drawings(plain).crosses == 0


def test_texture_full_of_crosses_has_no_calipers() -> None:
    lattice = np.full((256, 256), 60, dtype=np.uint8)
    for row in range(12, 250, 24):
        for column in range(12, 250, 24):
            lattice = with_caliper(lattice, row, column)
    found = find_drawings(lattice)
    assert found.crosses == 0
    assert not found.calipers.any()
