"""Maps agree with the number: their mean is the distance to the operating point, whatever explains the network."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from medsharp.bundle import OperatingPoint
from medsharp.images import Box
from medsharp.inference import Prediction, Predictor
from medsharp.inference.heatmap import FAINT
from medsharp.inference.saliency import GRID, margins_of, places_of_cam, places_of_occlusion
from medsharp.networks import Classifier
from medsharp.preprocess import Placement, PreprocessSpec, placement

WIDE = Placement(Box(0, 0, 40, 64), Box(12, 0, 52, 64))
"""An image of 40 x 64 pixels, letterboxed to 64 x 64."""


def at_threshold(predictor: Predictor, threshold: float) -> Predictor:
    point = OperatingPoint(threshold=threshold, rule="", sensitivity=1, specificity=0, images=1, positives=1)
    spec = predictor.spec.model_copy(update={"operating_point": point})
    # Their pictures are crops of speckle, which no check takes for ultrasound.
    return Predictor(predictor.folder, spec, predictor.session, answer_anyway=True)


def mean_inside(predictor: Predictor, pixels: np.ndarray, prediction: Prediction) -> float:
    """Return the mean of a map over the part of the image that the network saw."""
    saliency = prediction.saliency(10_000)
    assert saliency is not None
    top, left, bottom, right = placement(pixels, predictor.preprocessing).crop
    return float(saliency.values[top:bottom, left:right].mean(dtype=np.float64))


@pytest.fixture(scope="module")
def pictures(images: np.ndarray) -> list[np.ndarray]:
    """Wide and tall images, one with dark borders that are cropped away."""
    bordered = np.zeros((64, 90), dtype=np.uint8)
    bordered[:, 20:70] = images[0][:, 14:]
    return [images[1][:40], images[2][:, :30], bordered, images[3]]


def occluding(make_network: Callable[..., Classifier], make_bundle: Callable[..., Path], out: Path) -> Predictor:
    network = make_network("resnet10_w16", 2)
    network.exact_cam = False
    return Predictor.load(make_bundle(network, out), device="cpu", answer_anyway=True)


@pytest.mark.parametrize("threshold", [0.1, 0.5, 0.93])
def test_mean_of_an_exact_map_is_the_distance_to_the_operating_point(
    predictor: Predictor, pictures: list[np.ndarray], threshold: float
) -> None:
    moved = at_threshold(predictor, threshold)
    for pixels, prediction in zip(pictures, moved.predict_pixels(pictures), strict=True):
        assert prediction.heatmap_method == "class activation map"
        assert mean_inside(moved, pixels, prediction) == pytest.approx(prediction.margin, abs=1e-4)
        saliency = prediction.saliency()
        assert saliency is not None
        if prediction.side == "above":
            assert saliency.values.max() > 0
        else:
            assert saliency.values.min() < 0


def test_an_image_just_above_a_low_threshold_is_never_drawn_as_if_nothing_spoke_for_it(
    predictor: Predictor, pictures: list[np.ndarray]
) -> None:
    # Each image counts as positive here although its probability is far below one half.
    for pixels in pictures:
        (plain,) = predictor.answering_anyway().predict_pixels([pixels])
        odds = plain.positive_probability / (1 - plain.positive_probability)
        low = odds * np.exp(-1.0)
        moved = at_threshold(predictor, low / (1 + low))
        (prediction,) = moved.predict_pixels([pixels])
        heatmap = prediction.heatmap()
        assert heatmap is not None
        assert prediction.margin == pytest.approx(1.0, abs=1e-4)
        assert heatmap.max() > FAINT


def test_places_differ_as_the_network_says_and_black_borders_show_nothing(
    predictor: Predictor, pictures: list[np.ndarray]
) -> None:
    pixels = pictures[2]
    (prediction,) = predictor.predict_pixels([pixels])
    outputs = predictor.session.run(np.stack([predictor.prepare(_decoded(pixels)).pixels]))
    saliency = prediction.saliency(10_000)
    assert saliency is not None
    assert not saliency.values[:, :20].any()
    assert not saliency.values[:, 70:].any()
    cam = (outputs["cam"][0, 1] - outputs["cam"][0, 0]) / predictor.spec.temperature
    # The spread of the drawn map is that of the network's own, in log odds; columns beside the image are not drawn.
    inside = saliency.values[:, 20:70]
    upper, lower = inside[:32].mean(), inside[32:].mean()
    assert upper - lower == pytest.approx(cam[0].mean() - cam[1].mean(), rel=0.4)


def _decoded(pixels: np.ndarray):  # type: ignore[no-untyped-def]
    from medsharp.images import DecodedImage

    return DecodedImage(pixels, "array")


def test_three_classes_are_explained_against_the_likelier_of_the_others() -> None:
    rng = np.random.default_rng(3)
    cam = rng.normal(size=(3, 4, 4)).astype(np.float32)
    bias, temperature = np.array([0.3, -0.2, 1.1]), 1.7
    logits = cam.mean(axis=(1, 2)) + bias
    where = Placement(Box(0, 0, 64, 64), Box(0, 0, 64, 64))
    places = places_of_cam(cam, logits, 1, temperature, where, 64)
    share = np.exp(logits / temperature) / np.exp(logits / temperature).sum()
    weights = share[[0, 2]] / (share[0] + share[2])
    constant = (bias[1] - weights @ bias[[0, 2]]) / temperature + (weights * np.log(weights)).sum()
    expected = np.log(share[1] / (1 - share[1]))
    assert places.effects.mean() + constant == pytest.approx(expected, abs=1e-6)
    margin = margins_of(logits[None], 1, temperature, 0.2)[0]
    assert margin == pytest.approx(expected - np.log(0.2 / 0.8), abs=1e-9)


def test_a_letterboxed_map_begins_where_the_image_does() -> None:
    cam = np.zeros((2, 8, 8), dtype=np.float32)
    places = places_of_cam(cam, np.zeros(2), 1, 1.0, WIDE, 64)
    assert (places.left, places.top, places.right, places.bottom) == (0, 1.5, 8, 6.5)


class _Linear:
    """Stands in for a session whose positive logit is a weighted mean of pixels, which occlusion explains exactly."""

    def __init__(self) -> None:
        self.weights = np.zeros((64, 64))
        self.weights[12:52] = np.random.default_rng(0).normal(size=(40, 64))
        self.inputs = 0

    def run(self, images: np.ndarray) -> dict[str, np.ndarray]:
        self.inputs += len(images)
        score = (images * self.weights).mean(axis=(1, 2)) / 10
        return {"logits": np.stack([np.zeros_like(score), score], axis=1)}


def test_occlusion_finds_the_place_that_matters_within_the_image() -> None:
    session = _Linear()
    image = np.zeros((64, 64), dtype=np.uint8)
    image[12:52] = 20
    image[32:36, 8:12] = 255
    session.weights[:] = 0
    session.weights[32:36, 8:12] = 1
    session.weights[:12] = 50  # beside the image, where nothing is covered
    places = places_of_occlusion(session, image, 1, 1.0, WIDE)  # type: ignore[arg-type]
    assert session.inputs == 1 + GRID * GRID
    assert places.effects.shape == (GRID, GRID)
    assert np.unravel_index(int(places.effects.argmax()), places.effects.shape) in {(6, 1), (6, 2)}
    assert (np.abs(places.effects) > 1e-6).sum() <= 6


def test_occlusion_of_a_linear_network_adds_up_to_its_answer() -> None:
    session, temperature = _Linear(), 2.0
    image = np.zeros((64, 64), dtype=np.uint8)
    image[12:52] = np.random.default_rng(1).integers(0, 256, (40, 64))
    grey = round(float(image[12:52].mean()))
    places = places_of_occlusion(session, image, 1, temperature, WIDE)  # type: ignore[arg-type]
    covered = np.where(np.arange(64)[:, None] // 1 < 12, 0, grey) * np.ones((64, 64))
    covered[52:] = 0
    fall = ((image - covered) * session.weights).mean() / 10 / temperature
    assert places.effects.mean() == pytest.approx(fall, rel=1e-4)


def test_network_without_exact_cam_is_explained_by_occlusion_and_agrees_with_its_number(
    make_network: Callable[[str, int], Classifier],
    make_bundle: Callable[..., Path],
    pictures: list[np.ndarray],
    tmp_path: Path,
) -> None:
    predictor = occluding(make_network, make_bundle, tmp_path / "occluded")
    assert predictor.session.outputs == predictor.spec.outputs == ("logits", "features")
    for pixels, prediction in zip(pictures, predictor.predict_pixels(pictures), strict=True):
        assert prediction.heatmap_method == "occlusion"
        assert mean_inside(predictor, pixels, prediction) == pytest.approx(prediction.margin, abs=1e-3)


def test_spec_of_the_fixture_letterboxes() -> None:
    assert placement(np.full((40, 64), 90, dtype=np.uint8), PreprocessSpec(size=64)) == WIDE
