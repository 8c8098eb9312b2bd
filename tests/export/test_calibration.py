from __future__ import annotations

import numpy as np
import pytest
import torch

from medsharp.errors import InputError
from medsharp.evaluation.statistics.operating_point import _threshold, choose_operating_point, threshold_interval
from medsharp.export.calibration import estimate_temperature, fit_temperature


@pytest.mark.parametrize("temperature", [0.4, 1.0, 3.0])
@pytest.mark.parametrize("classes", [2, 3])
def test_temperature_of_overconfident_logits_is_found_again(temperature: float, classes: int) -> None:
    rng = np.random.default_rng(0)
    honest = rng.normal(scale=2, size=(20_000, classes))
    shares = np.exp(honest) / np.exp(honest).sum(axis=1, keepdims=True)
    labels = (shares.cumsum(axis=1) < rng.random((len(honest), 1))).sum(axis=1)
    assert fit_temperature(honest * temperature, labels) == pytest.approx(temperature, rel=0.05)


def test_temperature_is_the_minimum_of_torch_cross_entropy() -> None:
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 2, 60)
    logits = rng.normal(size=(60, 2)) * 3 + 2 * np.eye(2)[labels]

    def loss(temperature: float) -> float:
        return float(torch.nn.functional.cross_entropy(torch.tensor(logits / temperature), torch.tensor(labels)))

    found = fit_temperature(logits, labels)
    assert 0.5 < found < 10
    assert loss(found) <= min(loss(found * 1.01), loss(found / 1.01))


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
@pytest.mark.parametrize(
    ("right", "obstacle"), [(True, "perfectly separated"), (False, "told apart no better than by chance")]
)
def test_separated_and_reversed_classes_are_left_as_they_are(scale: float, right: bool, obstacle: str) -> None:
    labels = np.array([0, 1] * 15)
    margins = np.linspace(0.5, 1.5, 30) * scale * (1 if right else -1) * (2 * labels - 1)
    logits = np.stack([-margins, margins], axis=1)
    temperature = estimate_temperature(logits, labels)
    assert temperature.value == fit_temperature(logits, labels) == 1.0
    assert obstacle in temperature.obstacle


def test_one_hardly_wrong_image_among_separated_ones_does_not_make_probabilities_extreme() -> None:
    labels = np.array([0, 1] * 20)
    margins = 0.5 * (2.0 * labels - 1)
    margins[0] = 0.005
    temperature = estimate_temperature(np.stack([-margins, margins], axis=1), labels)
    assert temperature.value == 1.0
    assert "leave it open (95 % interval" in temperature.obstacle


@pytest.mark.parametrize(("images", "calibrated"), [(8, False), (19, False), (400, True)])
def test_few_images_fix_no_temperature(images: int, calibrated: bool) -> None:
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 2, images)
    odds = rng.normal(size=images) + 2 * labels - 1
    temperature = estimate_temperature(np.stack([-odds, odds], axis=1) * 3, labels)
    assert (temperature.obstacle == "") is calibrated
    assert (temperature.value == 1.0) is not calibrated
    if not calibrated:
        assert f"{images} validation images are too few" in temperature.obstacle


def test_few_images_may_take_confidence_away_where_it_is_surely_too_much() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 30)
    odds = 20 * (rng.normal(size=30) + 0.5 * (2 * labels - 1))
    temperature = estimate_temperature(np.stack([-odds / 2, odds / 2], axis=1), labels)
    assert temperature.obstacle == ""
    assert temperature.value > 3


def test_images_of_one_class_and_a_bound_are_no_estimate() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(50, 2))
    assert "of one class" in estimate_temperature(logits, np.zeros(50, dtype=int)).obstacle
    labels = (logits[:, 1] + rng.normal(size=50) > logits[:, 0]).astype(int)
    assert "where none is looked for" in estimate_temperature(logits * 1e-5, labels).obstacle
    assert "where none is looked for" in estimate_temperature(logits * 1e5, labels).obstacle


@pytest.mark.parametrize(
    ("positives", "negatives", "sensitivity", "threshold", "reached", "spared"),
    [
        # All four must be found: half way between the lowest, 0.6, and the next score below, 0.4.
        ([0.9, 0.8, 0.7, 0.6], [0.4, 0.3], 1.0, 0.5, 1.0, 1.0),
        # Three of four are enough; a negative at 0.65 lies between and is the next lower score.
        ([0.9, 0.8, 0.7, 0.6], [0.65, 0.3], 0.75, 0.675, 0.75, 1.0),
        # 0.7 asks for 2.8 of four, so for three.
        ([0.9, 0.8, 0.7, 0.6], [0.3, 0.2], 0.7, 0.65, 0.75, 1.0),
        # A negative of the same score cannot be told apart and counts against specificity.
        ([0.9, 0.8], [0.8, 0.2], 1.0, 0.5, 1.0, 0.5),
        # Tied positives come together: more are found than asked.
        ([0.9, 0.7, 0.7, 0.7], [0.5, 0.1], 0.5, 0.6, 1.0, 1.0),
        # Nothing lies below: half of the score.
        ([0.4], [0.9], 1.0, 0.2, 1.0, 0.0),
        # A perfect score of 1 with a negative at 0.
        ([1.0, 1.0], [0.0], 0.95, 0.5, 1.0, 1.0),
    ],
)
def test_threshold_is_the_largest_that_reaches_the_sensitivity(
    positives: list[float],
    negatives: list[float],
    sensitivity: float,
    threshold: float,
    reached: float,
    spared: float,
) -> None:
    scores = np.array(positives + negatives)
    positive = np.arange(len(scores)) < len(positives)
    point = choose_operating_point(scores, positive, sensitivity)
    assert point.threshold == pytest.approx(threshold)
    assert (point.sensitivity, point.specificity) == (reached, spared)
    assert (point.images, point.positives) == (len(scores), len(positives))
    assert f"sensitivity >= {sensitivity:g}" in point.rule


@pytest.mark.parametrize("seed", range(5))
def test_no_larger_threshold_reaches_the_sensitivity(seed: int) -> None:
    rng = np.random.default_rng(seed)
    positive = rng.random(200) < 0.4
    scores = np.round(rng.random(200) * 0.7 + positive * 0.3, 2)
    point = choose_operating_point(scores, positive, 0.95)
    assert point.sensitivity >= 0.95
    higher = np.unique(scores[scores > point.threshold])
    # The next score up is the last that still reaches it; the one after no longer does.
    assert (scores[positive] >= higher[0]).mean() == point.sensitivity
    assert (scores[positive] >= higher[1]).mean() < 0.95


def test_few_positives_are_said_in_the_rule() -> None:
    rng = np.random.default_rng(0)
    many = choose_operating_point(rng.random(100), np.arange(100) < 40, 0.95)
    few = choose_operating_point(rng.random(100), np.arange(100) < 7, 0.95)
    assert few.rule.endswith("; only 7 positives, so it is uncertain")
    scarce = choose_operating_point(rng.random(30), np.arange(30) < 25, 0.95)
    assert scarce.rule.endswith("; only 5 negatives, so it is uncertain")
    assert "only" not in many.rule


@pytest.mark.parametrize("positive", [np.ones(5, dtype=bool), np.zeros(5, dtype=bool)])
def test_one_class_has_no_operating_point(positive: np.ndarray) -> None:
    with pytest.raises(InputError, match="one class only"):
        choose_operating_point(np.linspace(0, 1, 5), positive, 0.95)


@pytest.mark.parametrize("sensitivity", [0.0, -0.1, 1.01])
def test_impossible_sensitivity_is_refused(sensitivity: float) -> None:
    with pytest.raises(InputError, match="sensitivity"):
        choose_operating_point(np.array([0.1, 0.9]), np.array([False, True]), sensitivity)


def test_interval_of_the_threshold_resamples_patients_with_all_their_images() -> None:
    rng = np.random.default_rng(4)
    positive = np.arange(120) % 3 == 0
    scores = 1 / (1 + np.exp(-(rng.normal(size=120) + 1.5 * positive)))
    alone = threshold_interval(scores, positive, 0.9)
    copies = np.repeat(np.arange(120), 4)
    # Four copies of each image: as images they are many, as patients no more than before.
    together = threshold_interval(scores[copies], positive[copies], 0.9, copies)
    apart = threshold_interval(scores[copies], positive[copies], 0.9)
    assert alone is not None
    assert together is not None
    assert apart is not None
    assert together == pytest.approx(alone, abs=1e-12)
    assert apart[1] - apart[0] < 0.75 * (together[1] - together[0])
    point = choose_operating_point(scores[copies], positive[copies], 0.9, clusters=copies)
    assert point.interval == together
    assert together[0] < point.threshold < together[1]


def test_threshold_of_resamples_is_that_of_the_repeated_images() -> None:
    rng = np.random.default_rng(7)
    positive = np.arange(40) % 2 == 0
    scores = rng.random(40)
    times = rng.multinomial(40, np.full(40, 1 / 40))
    repeated = np.repeat(np.arange(40), times)
    expected = choose_operating_point(scores[repeated], positive[repeated], 0.8).threshold
    assert _threshold(scores, positive, times, 0.8) == pytest.approx(expected, abs=1e-12)


def test_no_interval_stands_on_one_patient() -> None:
    scores, positive = np.array([0.1, 0.8, 0.9, 0.2]), np.array([False, True, True, False])
    assert threshold_interval(scores, positive, 0.9, np.array([0, 1, 1, 2])) is None
