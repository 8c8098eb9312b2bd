"""Obuchowski and Rockette's analysis with Hillis' degrees of freedom, against published figures and simulated studies.

Mutants that must die: the variance of readers halved, the covariance of readers left out or not kept from below 0,
J for J - 1, and model and reader swapped in the difference.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.special import ndtr

from medsharp.evaluation.statistics.delong import obuchowski_covariance, placements
from medsharp.evaluation.statistics.mrmc import mean_over_readers, model_less_readers

# Van Dyke et al., Radiology 189 (1993): five readers of 114 patients under two modalities. Areas, mean covariances by
# the jackknife and all results as the book of RJafroc (Chakraborty) prints them; each mean alone as MRMCaov does
# (Smith and Hillis, Proc. SPIE 11316, 2020), which takes the unbiased covariance.
AREAS = np.array([
    [0.9196457, 0.8587762, 0.9038647, 0.9731079, 0.8297907],
    [0.9478261, 0.9053140, 0.9217391, 0.9993559, 0.9299517],
])  # fmt: skip
VARIANCE, COV1, COV2, COV3 = 0.0008022883, 0.0003466137, 0.0003440748, 0.0002390284


def two_modalities() -> tuple[np.ndarray, np.ndarray]:
    """Differences of the modalities by reader [5], and their covariance [5, 5]."""
    same, other = np.full((5, 5), COV2), np.full((5, 5), COV3)
    np.fill_diagonal(same, VARIANCE)
    np.fill_diagonal(other, COV1)
    return AREAS[0] - AREAS[1], 2 * (same - other)


def test_two_modalities_of_five_readers_give_the_published_interval() -> None:
    found = mean_over_readers(*two_modalities())
    assert found is not None
    assert found.value == pytest.approx(-0.04380032, abs=1e-7)
    assert (found.value / found.standard_error) ** 2 == pytest.approx(4.456319, rel=1e-5)
    assert found.mean_square == pytest.approx(2 * 0.0005510306, rel=1e-5)
    assert found.degrees_of_freedom == pytest.approx(15.25967, rel=1e-5)
    assert found.p == pytest.approx(0.05166569, rel=1e-5)
    assert (found.low, found.high) == pytest.approx((-0.0879594986, 0.0003588544), abs=1e-7)


@pytest.mark.parametrize(
    ("modality", "covariance", "error", "freedom", "low", "high"),
    [(0, 0.00047718, 0.033071, 12.588, 0.82535, 0.96872), (1, 0.00020095, 0.021491, 12.534, 0.89423, 0.98744)],
)
def test_the_mean_of_one_modality_is_the_published_one(
    modality: int, covariance: float, error: float, freedom: float, low: float, high: float
) -> None:
    found = mean_over_readers(AREAS[modality], np.full((5, 5), covariance))
    assert found is not None
    assert found.standard_error == pytest.approx(error, rel=1e-4)
    assert found.degrees_of_freedom == pytest.approx(freedom, rel=1e-4)
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-5)


def test_the_model_is_the_first_and_the_readers_are_taken_from_it() -> None:
    rng = np.random.default_rng(0)
    spread = rng.normal(size=(4, 9))
    covariance = spread @ spread.T * 1e-4
    areas = np.array([0.9, 0.8, 0.7, 0.85])
    found = model_less_readers(areas, covariance)
    assert found is not None
    assert found.value == pytest.approx(0.9 - (0.8 + 0.7 + 0.85) / 3)
    assert found.mean_square == pytest.approx(np.var([0.1, 0.2, 0.05], ddof=1))
    pairs = [(j, k) for j in (1, 2, 3) for k in (1, 2, 3) if j != k]
    covered = np.mean([covariance[0, 0] - covariance[0, k] - covariance[j, 0] + covariance[j, k] for j, k in pairs])
    assert found.covariance == pytest.approx(covered)
    assert found.fixed_error**2 == pytest.approx(
        covariance[0, 0] - 2 * covariance[0, 1:].mean() + covariance[1:, 1:].mean()
    )


def test_a_covariance_below_zero_counts_as_none() -> None:
    figures, covariance = np.array([0.1, 0.2, 0.4]), np.array([[1, -1, -1], [-1, 1, -1], [-1, -1, 1]]) * 1e-3
    found = mean_over_readers(figures, covariance)
    assert found is not None
    assert found.standard_error == pytest.approx(np.std(figures, ddof=1) / math.sqrt(3))
    assert found.degrees_of_freedom == pytest.approx(2)


def test_readers_who_agree_leave_the_variance_of_cases_and_without_that_none() -> None:
    same = mean_over_readers(np.array([0.1, 0.1]), np.full((2, 2), 4e-4))
    assert same is not None
    assert same.degrees_of_freedom == math.inf
    assert (same.low, same.high) == pytest.approx((0.1 - 1.959964 * 0.02, 0.1 + 1.959964 * 0.02), abs=1e-6)
    assert mean_over_readers(np.array([0.0, 0.0]), np.zeros((2, 2))) is None


def test_intervals_hold_the_true_difference_over_new_readers_and_patients() -> None:
    rng = np.random.default_rng(11)
    skill, spread = 1.5, 0.5
    # The mean area of readers whose separations are normal; the model's separation gives the same area.
    model = skill * math.sqrt(2 / (2 + spread**2))
    assert ndtr(model / math.sqrt(2)) == pytest.approx(ndtr(skill / math.sqrt(2 + spread**2)))
    held = []
    for _ in range(400):
        who = np.repeat(np.arange(80), rng.integers(1, 4, 80))
        labels = (np.arange(80) % 3 == 0)[who]
        separations = np.r_[model, skill + spread * rng.normal(size=5)]
        patient, image = rng.normal(size=80)[who], rng.normal(size=len(who))
        own = rng.normal(size=(6, len(who)))
        scores = (
            separations[:, None] * labels + math.sqrt(0.4) * patient + math.sqrt(0.2) * image + math.sqrt(0.4) * own
        )
        found = placements(labels, scores)
        mean = model_less_readers(found.areas, obuchowski_covariance(found, labels, who))
        assert mean is not None
        held.append(mean.low < 0 < mean.high)
    assert 0.925 <= np.mean(held) <= 0.98
