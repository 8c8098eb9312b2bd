from __future__ import annotations

import numpy as np
import pytest
import torch

from medsharp.errors import InputError
from medsharp.export.calibration import choose_operating_point, fit_temperature


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


@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_temperature_of_separated_classes_stays_finite(scale: float) -> None:
    logits = np.array([[scale, -scale], [-scale, scale]] * 5)
    found = fit_temperature(logits, np.array([0, 1] * 5))
    assert 0.04 < found < 25
    wrong = fit_temperature(logits, np.array([1, 0] * 5))
    assert 15 < wrong < 25


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
    assert "only 7 positives" in few.rule
    assert "only" not in many.rule


@pytest.mark.parametrize("positive", [np.ones(5, dtype=bool), np.zeros(5, dtype=bool)])
def test_one_class_has_no_operating_point(positive: np.ndarray) -> None:
    with pytest.raises(InputError, match="one class only"):
        choose_operating_point(np.linspace(0, 1, 5), positive, 0.95)


@pytest.mark.parametrize("sensitivity", [0.0, -0.1, 1.01])
def test_impossible_sensitivity_is_refused(sensitivity: float) -> None:
    with pytest.raises(InputError, match="sensitivity"):
        choose_operating_point(np.array([0.1, 0.9]), np.array([False, True]), sensitivity)
