"""DeLong's and Obuchowski's variances against published numbers, their definitions and each other."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from medsharp.evaluation.statistics.delong import (
    area_intervals,
    delong_covariance,
    obuchowski_covariance,
    placements,
    two_sided,
)


def by_pairs(labels: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Placements of all pairs, compared one by one."""
    differences = scores[labels][:, None] - scores[~labels]
    wins = (differences > 0) + 0.5 * (differences == 0)
    return wins.mean(axis=1), wins.mean(axis=0)


def test_delong_gives_the_published_figures_of_hanley_and_mcneil() -> None:
    # Ratings of 109 CT images (Hanley and McNeil, Radiology 143, 1982, table I); Stata's manual gives for them, by
    # DeLong's method: area 0.8932, standard error 0.0307, 95 % interval 0.83295 to 0.95339.
    normal, abnormal = [33, 6, 6, 11, 2], [3, 2, 2, 11, 33]
    labels = np.repeat([False, True], [58, 51])
    scores = np.r_[np.repeat(np.arange(1, 6), normal), np.repeat(np.arange(1, 6), abnormal)]
    found = placements(labels, scores)
    error = delong_covariance(found)[0, 0] ** 0.5
    assert found.areas[0] == pytest.approx(0.8932, abs=5e-5)
    assert error == pytest.approx(0.0307, abs=5e-5)
    assert found.areas[0] - 1.959964 * error == pytest.approx(0.83295, abs=1e-5)
    assert found.areas[0] + 1.959964 * error == pytest.approx(0.95339, abs=1e-5)


@pytest.mark.parametrize("ties", [False, True])
def test_placements_and_covariance_are_those_of_all_pairs(study: Callable, ties: bool) -> None:
    labels, first, _ = study(ties=ties)
    second = np.random.default_rng(1).permutation(first) * 0.3 + first
    found = placements(labels, np.stack([first, second]))
    parts = [by_pairs(labels, scores) for scores in (first, second)]
    for row, (over, under) in enumerate(parts):
        assert found.of_positives[row] == pytest.approx(over)
        assert found.of_negatives[row] == pytest.approx(under)
    expected = (
        np.cov([part[0] for part in parts]) / labels.sum() + np.cov([part[1] for part in parts]) / (~labels).sum()
    )
    assert delong_covariance(found) == pytest.approx(expected)


def test_obuchowski_equals_delong_where_every_patient_has_one_image(study: Callable) -> None:
    labels, scores, _ = study()
    found = placements(labels, scores)
    alone = obuchowski_covariance(found, labels, np.arange(len(labels)))
    assert alone == pytest.approx(delong_covariance(found), rel=1e-12)


def test_obuchowski_of_copies_equals_delong_of_the_originals(study: Callable) -> None:
    labels, scores, _ = study()
    once = delong_covariance(placements(labels, scores))
    five = np.repeat(labels, 5)
    found = placements(five, np.repeat(scores, 5))
    assert obuchowski_covariance(found, five, np.repeat(np.arange(len(labels)), 5)) == pytest.approx(once, rel=1e-12)
    assert delong_covariance(found)[0, 0] < 0.25 * once[0, 0]


def test_obuchowski_worked_by_hand_where_patients_have_both_labels() -> None:
    # Two patients with a positive and a negative image each. A: 0.9 and 0.2; B: 0.4 and 0.6.
    # V10 = 1, 0.5; V01 = 1 (for 0.2), 0.5 (for 0.6); area 0.75. D = H = (0.25, -0.25) for A, B.
    labels = np.array([True, False, True, False])
    found = placements(labels, np.array([0.9, 0.2, 0.4, 0.6]))
    assert found.areas[0] == 0.75
    each = 2 / ((2 - 1) * 2) * 2 * 0.25**2
    both = 2 / (2 - 1) * 2 * 0.25**2
    expected = each / 2 + each / 2 + 2 * both / 4
    assert obuchowski_covariance(found, labels, np.array([0, 0, 1, 1]))[0, 0] == pytest.approx(expected)


def test_obuchowski_is_the_spread_of_simulated_studies() -> None:
    from medsharp.evaluation.statistics.simulated_study import Population

    areas, errors = [], []
    for seed in range(400):
        labels, scores, clusters = Population().draw(150, np.random.default_rng(seed))
        figure = area_intervals(labels, scores, clusters)["obuchowski"]
        areas.append(figure["value"])
        errors.append(figure["standard_error"])
    assert np.mean(errors) == pytest.approx(np.std(areas), rel=0.08)


def test_one_patient_or_a_perfect_ranking_has_no_variance() -> None:
    labels = np.array([True, True, False, False])
    perfect = area_intervals(labels, np.array([0.9, 0.8, 0.2, 0.1]), np.arange(4))
    assert perfect["delong"]["low"] is None
    alone = area_intervals(labels, np.array([0.9, 0.2, 0.3, 0.1]), np.zeros(4, dtype=int))
    assert alone["obuchowski"]["low"] is None
    assert alone["delong"]["low"] is not None


def test_p_value_is_that_of_the_normal_distribution() -> None:
    assert two_sided(1.959964, 1.0) == pytest.approx(0.05, abs=1e-6)
    assert two_sided(0.0, 0.0) == 1.0
    assert two_sided(0.1, 0.0) is None
