"""The closed test of updates: against likelihoods written apart, and its error rates with several images a patient."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit
from scipy.stats import chi2

from medsharp.evaluation.statistics.calibration import recalibrate_log_odds
from medsharp.evaluation.statistics.closed_test import closed_test


def likelihood(y: np.ndarray, odds: np.ndarray) -> float:
    return float((y * odds - np.log1p(np.exp(odds))).sum())


def data(patients: int, *, intercept: float = 0.0, slope: float = 1.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Labels by `logit(P) = intercept + slope score` and scores, one image a patient."""
    rng = np.random.default_rng(seed)
    score = rng.normal(-0.6, 1.4, patients)
    return rng.random(patients) < expit(intercept + slope * score), score


def test_statistics_are_likelihood_ratios_where_patients_have_one_image() -> None:
    y, score = data(300, intercept=0.7, slope=0.5)
    found = closed_test(y, score, np.arange(len(y)))
    free = minimize(lambda v: -likelihood(y, v[0] + v[1] * score), [0, 1], tol=1e-10)
    alone = minimize(lambda v: -likelihood(y, v[0] + score), [0], tol=1e-10)
    first, second = found.tests
    assert first.statistic == pytest.approx(2 * (-free.fun - likelihood(y, score)), abs=1e-5)
    assert second.statistic == pytest.approx(2 * (alone.fun - free.fun), abs=1e-5)
    assert (first.design_effect, second.design_effect) == (1, 1)
    assert (first.p, second.p) == pytest.approx((chi2.sf(first.statistic, 2), chi2.sf(second.statistic, 1)))
    assert found.chosen == "slope"


def test_what_is_wrong_is_what_is_chosen() -> None:
    chosen = {}
    for name, wrong in {"none": {}, "intercept": {"intercept": -1.0}, "slope": {"slope": 0.4}}.items():
        y, score = data(600, seed=4, **wrong)
        chosen[name] = closed_test(y, score, np.arange(len(y))).chosen
    assert chosen == {"none": "none", "intercept": "intercept", "slope": "slope"}


def test_log_odds_are_taken_as_they_are_however_far_from_0() -> None:
    """Twenty times as extreme, they want a twentieth of the slope; cut off at 1e-7 they would want another."""
    y, score = data(300)
    found = closed_test(y, 20 * score, np.arange(300))
    free = minimize(lambda v: -likelihood(y, v[0] + v[1] * score), [0, 1], tol=1e-10)
    as_they_are = float((y * 20 * score - np.logaddexp(0, 20 * score)).sum())
    assert found.tests[0].statistic == pytest.approx(2 * (-free.fun - as_they_are), rel=1e-6)
    assert found.chosen == "slope"


def test_an_intercept_is_found_where_the_likelihood_has_no_curvature() -> None:
    y = np.repeat([False, True], 30)
    # A third of either class is far on the wrong side: no probability is near any other than 0 and 1.
    score = np.r_[np.full(20, -300.0), np.full(10, 500.0), np.full(20, 300.0), np.full(10, -700.0)]
    fit = recalibrate_log_odds(y, score, np.ones((1, 60)))
    assert expit(fit.in_the_large[0] + score).sum() == pytest.approx(30)
    assert closed_test(y, score, np.arange(60)).chosen == "slope"


def test_images_that_repeat_a_patient_add_no_evidence() -> None:
    y, score = data(120, intercept=0.6)
    once = closed_test(y, score, np.arange(120))
    rows = np.repeat(np.arange(120), 4)
    repeated = closed_test(y[rows], score[rows], rows)
    assert repeated.tests[0].statistic == pytest.approx(4 * once.tests[0].statistic, rel=1e-6)
    assert repeated.tests[0].design_effect == pytest.approx(4, rel=0.15)
    assert repeated.tests[0].p == pytest.approx(once.tests[0].p, rel=0.6)


def test_nothing_is_chosen_where_the_classes_are_separated() -> None:
    found = closed_test(np.array([0, 0, 1, 1], dtype=bool), np.array([-2.2, -1.4, 1.4, 2.2]), np.arange(4))
    assert (found.chosen, found.tests) == ("none", ())


@pytest.mark.parametrize(("patients", "images"), [(60, 1), (60, 3), (200, 3), (200, 0)])
def test_rates_of_errors_with_several_images_a_patient(patients: int, images: int) -> None:
    """Of a calibrated model the first test rejects about 5 %; where an intercept is right, about 5 % get a slope.

    All images of a patient are alike. `images` 0 is a geometric number, 2 in the mean.
    """
    rng = np.random.default_rng(1)
    rejected, plain, sloped, simulated = 0, 0, 0, 1000
    for _ in range(simulated):
        score = rng.normal(-0.7, 1.3, patients)
        y = rng.random(patients) < expit(score)
        rows = np.repeat(np.arange(patients), images or rng.geometric(0.5, patients))
        found = closed_test(y[rows], score[rows], rows)
        rejected += found.chosen != "none"
        plain += chi2.sf(found.tests[0].statistic, 2) < 0.05
        sloped += closed_test(y[rows], score[rows] - 0.8, rows).chosen == "slope"
    rates = ", ".join(f"{count / simulated:.3f}" for count in (rejected, plain, sloped))
    print(f"{patients} patients, {images or 'about 2'} images each: {rates}")
    assert 0.03 < rejected / simulated < 0.085
    assert sloped / simulated < 0.085
    assert images == 1 or plain / simulated > 0.2
