from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from PIL import Image

from medsharp.errors import InputError
from medsharp.images import Box
from medsharp.inference import Predictor, overlay
from medsharp.inference.heatmap import drawn_shape
from medsharp.inference.saliency import Places, Saliency, explain
from medsharp.preprocess import Placement, PreprocessSpec, placement, preprocess


def drawn(
    grid: np.ndarray, where: Placement, shape: tuple[int, int], size: int, longest_side: int = 10**6, margin: float = 0
) -> Saliency:
    """Draw a grid over the whole input, as that of a class activation map is."""
    height, width = grid.shape
    top, left, bottom, right = where.inner
    places = Places(
        grid.astype(np.float32), left * width / size, top * height / size, right * width / size, bottom * height / size
    )
    return explain(lambda: places, margin, where, shape, longest_side)


def centre(heatmap: np.ndarray) -> tuple[float, float]:
    """Return the centre of mass in pixels of the original."""
    rows, columns = np.indices(heatmap.shape)
    return float((rows * heatmap).sum() / heatmap.sum()), float((columns * heatmap).sum() / heatmap.sum())


@pytest.mark.parametrize("fit", ["letterbox", "stretch"])
@pytest.mark.parametrize(("shape", "border"), [((120, 300), 0), ((300, 120), 0), ((200, 320), 40)])
def test_evidence_at_a_blob_lands_on_the_blob_of_the_original(fit: str, shape: tuple[int, int], border: int) -> None:
    spec = PreprocessSpec(size=64, fit=fit)  # type: ignore[arg-type]
    pixels = np.full(shape, 60, dtype=np.uint8)
    pixels[:, :border] = 0
    row, column = shape[0] // 3, border + (shape[1] - border) * 3 // 4
    pixels[row - 8 : row + 8, column - 8 : column + 8] = 255
    # A network that sees brightness alone, on a grid of 16 x 16.
    seen = preprocess(pixels, spec).astype(np.float32)
    evidence = np.clip(seen - 100, 0, None).reshape(16, 4, 16, 4).mean(axis=(1, 3))
    saliency = drawn(evidence, placement(pixels, spec), shape, spec.size)
    assert saliency.shades.shape == shape
    assert saliency.shades.dtype == np.float32
    assert np.abs(saliency.shades).max() == 1
    assert not saliency.shades[:, :border].any()
    found = centre(np.clip(saliency.shades - 0.2, 0, None))
    cell = max(shape) / 16
    assert abs(found[0] - (row - 0.5)) < cell / 2
    assert abs(found[1] - (column - 0.5)) < cell / 2


@pytest.mark.parametrize("fit", ["letterbox", "stretch"])
@pytest.mark.parametrize(("shape", "border"), [((1200, 3000), 0), ((3000, 1200), 0), ((2000, 3200), 400)])
def test_map_drawn_small_is_the_full_map_made_small(fit: str, shape: tuple[int, int], border: int) -> None:
    spec = PreprocessSpec(size=64, fit=fit)  # type: ignore[arg-type]
    pixels = np.full(shape, 60, dtype=np.uint8)
    pixels[:, :border] = 0
    where = placement(pixels, spec)
    evidence = np.random.default_rng(0).random((8, 8)).astype(np.float32)
    full = drawn(evidence, where, shape, spec.size).values
    small = drawn(evidence, where, shape, spec.size, 300).values
    assert small.shape == drawn_shape(shape, 300)
    assert max(small.shape) == 300
    reduced = np.asarray(Image.fromarray(full).resize(small.shape[::-1], Image.Resampling.BOX))
    # The edge of what was cropped away may lie anywhere inside a pixel of the small map.
    assert np.abs(small - reduced)[:, border // 10 + 1 :].max() < 0.05


def test_images_are_drawn_no_larger_than_they_are_and_never_empty() -> None:
    assert drawn_shape((90, 120), 1024) == (90, 120)
    assert drawn_shape((5000, 4000), None) == (5000, 4000)
    assert drawn_shape((4000, 2000), 1000) == (1000, 500)
    assert drawn_shape((16, 16_384), 640) == (1, 640)


@pytest.mark.parametrize("edges", [(0, 16), (3, 5), (15, 16)])
def test_narrow_crop_keeps_a_place_in_a_small_map(edges: tuple[int, int]) -> None:
    where = Placement(Box(edges[0], 0, edges[1], 16_384), Box(0, 0, 64, 64))
    found = drawn(np.ones((4, 4)), where, (16, 16_384), 64, 640, margin=2.0).values
    assert found.shape == (1, 640)
    assert found.min() == 2


def test_small_map_of_a_huge_image_needs_no_memory_of_its_size() -> None:
    shape = (16_000, 2_500)
    where = Placement(Box(0, 0, *shape), Box(0, 0, 64, 64))
    tracemalloc.start()
    try:
        drawn(np.ones((4, 4)), where, shape, 64, 1024)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert most < 4 * 1024 * 1024


def test_colouring_a_large_image_needs_little_more_memory_than_the_picture() -> None:
    pixels = np.full((4000, 1000), 80, dtype=np.uint8)
    heatmap = np.zeros(pixels.shape, dtype=np.float32)
    tracemalloc.start()
    try:
        overlay(pixels, heatmap)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert most < 3 * pixels.size + 16 * 1024 * 1024


def test_overlay_of_many_rows_is_the_overlay_of_each() -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (700, 900), dtype=np.uint8)
    heatmap = 2 * rng.random((700, 900), dtype=np.float32) - 1
    whole = overlay(pixels, heatmap)
    rows = np.concatenate([overlay(pixels[i : i + 1], heatmap[i : i + 1]) for i in range(700)])
    assert np.array_equal(whole, rows)


def test_maps_are_drawn_at_display_size_and_no_larger_than_asked(predictor: Predictor) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (900, 1700), dtype=np.uint8)
    prediction = predictor.predict_pixels([pixels])[0]
    for side, shape in ((None, (542, 1024)), (85, (45, 85)), (4000, (900, 1700))):
        heatmap = prediction.heatmap() if side is None else prediction.heatmap(side)
        assert heatmap is not None
        assert heatmap.shape == shape
        assert -1 <= heatmap.min() < heatmap.max() <= 1


def test_overlay_is_the_image_where_there_is_no_evidence_warm_where_it_is_for_and_cold_where_against() -> None:
    pixels = np.full((40, 60), 100, dtype=np.uint8)
    heatmap = np.zeros((40, 60), dtype=np.float32)
    heatmap[10:20, 30:40], heatmap[30:, 50:] = 1, -1
    picture = overlay(pixels, heatmap)
    assert (picture.shape, picture.dtype) == ((40, 60, 3), np.uint8)
    assert (picture[0, 0] == 100).all()
    red, green, blue = (int(value) for value in picture[15, 35])
    assert red > 150
    assert min(red, green) > blue + 30
    red, green, blue = (int(value) for value in picture[35, 55])
    assert blue > 150
    assert blue > red + 20
    assert (overlay(pixels, None) == 100).all()


def test_overlay_of_another_size_is_refused() -> None:
    with pytest.raises(InputError, match="heat map"):
        overlay(np.zeros((40, 60), dtype=np.uint8), np.zeros((60, 40), dtype=np.float32))
