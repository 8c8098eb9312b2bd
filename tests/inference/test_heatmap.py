from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from medsharp.errors import InputError
from medsharp.images import Box
from medsharp.inference import Predictor, overlay
from medsharp.inference.heatmap import drawn_shape, evidence_of_cam, evidence_of_occlusion, place
from medsharp.networks import Classifier
from medsharp.preprocess import Placement, PreprocessSpec, placement, preprocess


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
    heatmap = place(evidence, float(evidence.max()), placement(pixels, spec), shape, spec.size)
    assert heatmap.shape == shape
    assert heatmap.dtype == np.float32
    assert heatmap.min() >= 0
    assert heatmap.max() <= 1
    assert not heatmap[:, :border].any()
    found = centre(heatmap)
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
    full = place(evidence, 1.0, where, shape, spec.size)
    small = place(evidence, 1.0, where, shape, spec.size, 300)
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
    drawn = place(np.ones((4, 4), dtype=np.float32), 1.0, where, (16, 16_384), 64, 640)
    assert drawn.shape == (1, 640)
    assert drawn.min() == 1


def test_small_map_of_a_huge_image_needs_no_memory_of_its_size() -> None:
    shape = (16_000, 2_500)
    where = Placement(Box(0, 0, *shape), Box(0, 0, 64, 64))
    tracemalloc.start()
    try:
        place(np.ones((4, 4), dtype=np.float32), 1.0, where, shape, 64, 1024)
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
    heatmap = rng.random((700, 900), dtype=np.float32)
    whole = overlay(pixels, heatmap)
    rows = np.concatenate([overlay(pixels[i : i + 1], heatmap[i : i + 1]) for i in range(700)])
    assert np.array_equal(whole, rows)


def test_image_without_evidence_has_a_blank_map_and_much_evidence_a_full_one() -> None:
    where = placement(np.full((64, 64), 90, dtype=np.uint8), PreprocessSpec(size=64))
    assert not place(np.full((4, 4), -3.0), 1.0, where, (64, 64), 64).any()
    assert place(np.full((4, 4), 7.0), 1.0, where, (64, 64), 64).min() == 1
    half = place(np.full((4, 4), 0.5, dtype=np.float32), 1.0, where, (64, 64), 64)
    np.testing.assert_allclose(half, 0.5, atol=1e-6)


def test_evidence_of_cam_averages_to_the_margin_without_bias(
    predictor: Predictor, network: Classifier, images: np.ndarray
) -> None:
    outputs = predictor.session.run(images[:4])
    bias = network.backbone.get_classifier().bias.detach().numpy()  # type: ignore[operator]
    margin = outputs["logits"][:, 1] - outputs["logits"][:, 0] - (bias[1] - bias[0])
    evidence = evidence_of_cam(outputs["cam"], 1)
    np.testing.assert_allclose(evidence.mean(axis=(1, 2)), margin, atol=1e-4)


def test_prediction_gives_a_map_of_the_original_size(predictor: Predictor) -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (90, 170), dtype=np.uint8)
    prediction = predictor.predict_pixels([pixels])[0]
    heatmap = prediction.heatmap()
    assert prediction.heatmap_method == "class activation map"
    assert heatmap is not None
    assert heatmap.shape == (90, 170)
    small = prediction.heatmap(85)
    assert small is not None
    assert small.shape == (45, 85)
    assert heatmap.min() >= 0
    assert heatmap.max() <= 1


def test_strength_is_measured_against_the_validation_images(predictor: Predictor, images: np.ndarray) -> None:
    evidence = evidence_of_cam(predictor.session.run(images)["cam"], 1)
    assert predictor.spec.heatmap_reference == pytest.approx(max(np.percentile(evidence, 99), 1e-6), rel=1e-4)


class _BrightCentre:
    """Stands in for a session whose positive logit is the brightness of one place."""

    def run(self, images: np.ndarray) -> dict[str, np.ndarray]:
        score = images[:, 40:44, 8:12].mean(axis=(1, 2)) / 255
        return {"logits": np.stack([np.zeros_like(score), score], axis=1)}


def test_occlusion_finds_the_place_that_matters() -> None:
    image = np.full((48, 48), 20, dtype=np.uint8)
    image[40:44, 8:12] = 255
    evidence = evidence_of_occlusion(_BrightCentre(), image, 1)  # type: ignore[arg-type]
    assert evidence.shape == (12, 12)
    assert np.unravel_index(int(evidence.argmax()), evidence.shape) == (10, 2)
    assert (evidence > 0.1).sum() == 1


def test_network_without_exact_cam_is_explained_by_occlusion(
    make_network: Callable[[str, int], Classifier],
    make_bundle: Callable[..., Path],
    images: np.ndarray,
    tmp_path: Path,
) -> None:
    network = make_network("resnet10_w16", 2)
    network.exact_cam = False
    predictor = Predictor.load(make_bundle(network, tmp_path / "occluded"), device="cpu")
    assert predictor.session.outputs == ("logits", "features")
    assert predictor.spec.outputs == ("logits", "features")
    prediction = predictor.predict_pixels([images[0]])[0]
    heatmap = prediction.heatmap()
    assert prediction.heatmap_method == "occlusion"
    assert heatmap is not None
    with torch.inference_mode():
        expected = evidence_of_occlusion(predictor.session, images[0], 1)
    assert (heatmap > 0).any() == (expected > 0).any()


def test_overlay_is_the_image_where_there_is_no_evidence_and_warm_where_there_is() -> None:
    pixels = np.full((40, 60), 100, dtype=np.uint8)
    heatmap = np.zeros((40, 60), dtype=np.float32)
    heatmap[10:20, 30:40] = 1
    picture = overlay(pixels, heatmap)
    assert (picture.shape, picture.dtype) == ((40, 60, 3), np.uint8)
    assert (picture[0, 0] == 100).all()
    red, green, blue = (int(value) for value in picture[15, 35])
    assert red > 150
    assert min(red, green) > blue + 30
    assert (overlay(pixels, None) == 100).all()


def test_overlay_of_another_size_is_refused() -> None:
    with pytest.raises(InputError, match="heat map"):
        overlay(np.zeros((40, 60), dtype=np.uint8), np.zeros((60, 40), dtype=np.float32))
