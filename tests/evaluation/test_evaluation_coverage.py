"""The simulated studies have the truth they claim, and the benchmark of coverage counts right."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import norm

from medsharp.evaluation.benchmark import measure_usual
from medsharp.evaluation.statistics.bootstrap import affordable, bootstrap, draw, jackknife
from medsharp.evaluation.statistics.calibration import probability_scores
from medsharp.evaluation.statistics.coverage import THRESHOLD, measure_coverage
from medsharp.evaluation.statistics.discrimination import WeightedRanks, areas
from medsharp.evaluation.statistics.figures import Cases
from medsharp.evaluation.statistics.intervals import bca, normal, pivotal
from medsharp.evaluation.statistics.scalars import statistics_of
from medsharp.evaluation.statistics.simulated_study import Population


def test_truth_of_the_population_is_that_of_the_normal_distributions_behind_it() -> None:
    population = Population()
    labels, scores, _ = population.support()
    truth = population.truth(statistics_of(Cases(labels, scores, np.arange(len(labels)), THRESHOLD)))
    spread = math.hypot(population.patient, population.image)
    cut = math.log(THRESHOLD / (1 - THRESHOLD))
    assert truth["auroc"] == pytest.approx(norm.cdf(population.shift / spread / math.sqrt(2)), abs=1e-4)
    assert truth["sensitivity"] == pytest.approx(
        norm.sf((cut - population.centre - population.shift) / spread), abs=2e-3
    )
    assert truth["specificity"] == pytest.approx(norm.cdf((cut - population.centre) / spread), abs=2e-4)
    assert truth["prevalence"] == pytest.approx(population.prevalence)


def test_true_calibration_slope_is_that_of_the_normal_distributions() -> None:
    population = Population()
    labels, scores, _ = population.support()
    truth = population.truth([probability_scores(labels, scores, one_step_from=len(labels) + 1)])
    # Two normal distributions of one spread: log odds of the class are a line in the score, of slope shift / spread^2.
    assert truth["calibration_slope"] == pytest.approx(
        population.shift / (population.patient**2 + population.image**2), abs=1e-4
    )


def test_studies_come_from_the_population_and_images_of_a_patient_agree() -> None:
    population = Population(images=2)
    labels, scores, clusters = population.draw(40_000, np.random.default_rng(0))
    assert (np.diff(scores) <= 0).all()
    odds = np.log(scores / (1 - scores)) - population.centre - population.shift * labels
    pairs = np.flatnonzero(np.bincount(clusters) == 2)
    first = np.array([odds[clusters == patient] for patient in pairs[:3000]])
    assert odds.std() == pytest.approx(math.hypot(population.patient, population.image), rel=0.02)
    # Each pair in both orders, as the rows come sorted by score.
    assert np.corrcoef(np.r_[first, first[:, ::-1]].T)[0, 1] == pytest.approx(0.5, abs=0.05)


def test_coverage_of_a_few_studies_is_near_what_it_says() -> None:
    found = {(c.figure, c.method): c for c in measure_coverage(studies=60, patients=150, resamples=200)}
    for key in (
        ("auroc", "percentile"),
        ("auroc", "Obuchowski"),
        ("brier", "percentile"),
        ("sensitivity", "BCa"),
        ("calibration_slope", "percentile"),
    ):
        assert 0.85 < found[key].covered <= 1, key
        assert found[key].studies == 60
    # DeLong takes images as independent: its intervals are narrower than patients allow.
    assert found["auroc", "DeLong"].width < 0.9 * found["auroc", "Obuchowski"].width


def test_usual_benchmark_measures_what_it_names() -> None:
    ours, whole, loop = measure_usual(patients=60, images=100, resamples=50)
    assert "100 images of 60 patients, 50 resamples" in ours.what
    assert min(ours.seconds, whole.seconds, loop.seconds) > 0
    assert "times as long" in loop.note


def test_draws_are_multinomial_and_do_not_depend_on_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = draw(50, 400, np.random.default_rng(0))
    assert (drawn.sum(axis=1) == 50).all()
    assert drawn.var() == pytest.approx(1 - 1 / 50, rel=0.05)
    labels, scores, clusters = Population().draw(80, np.random.default_rng(0))
    ranks = WeightedRanks(labels, scores).statistic([areas])
    monkeypatch.setattr("medsharp.evaluation.statistics.bootstrap.usable_cores", lambda: 4)
    several = bootstrap([ranks], clusters, resamples=1500, rng=np.random.default_rng(1))
    monkeypatch.setattr("medsharp.evaluation.statistics.bootstrap.usable_cores", lambda: 1)
    alone = bootstrap([ranks], clusters, resamples=1500, rng=np.random.default_rng(1))
    assert np.array_equal(several["auroc"], alone["auroc"])


def test_jackknife_leaves_each_patient_out_in_turn() -> None:
    labels, scores, clusters = Population().draw(60, np.random.default_rng(0))
    found = jackknife([WeightedRanks(labels, scores).statistic([areas])], clusters)["auroc"]
    for patient in (0, 17, 59):
        kept = clusters != patient
        once = WeightedRanks(labels[kept], scores[kept]).auroc(np.ones((1, kept.sum())))[0]
        assert found[patient] == pytest.approx(once)


def test_bca_equals_scipy_for_independent_images() -> None:
    from scipy.stats import bootstrap as scipy_bootstrap

    sample = np.random.default_rng(0).exponential(size=60)
    other = scipy_bootstrap((sample,), np.mean, n_resamples=20_000, method="BCa", rng=np.random.default_rng(1))
    left_out = (sample.sum() - sample) / 59
    low, high = bca(float(sample.mean()), other.bootstrap_distribution, left_out)
    assert (low, high) == pytest.approx(tuple(other.confidence_interval), rel=1e-6)


def test_normal_and_pivotal_intervals_are_their_definitions() -> None:
    replicates = np.arange(101) / 100
    assert normal(0.5, replicates) == pytest.approx((0.5 - 1.959964 * 0.29300170647967224, 1.0742728), abs=1e-5)
    assert pivotal(0.4, 0.5, replicates) == pytest.approx((0.4 - (0.975 - 0.5), 0.4 - (0.025 - 0.5)))


def test_very_many_images_get_fewer_resamples_and_say_so() -> None:
    assert affordable(2000, 1875) == 2000
    assert affordable(2000, 100_000) == 2000
    assert affordable(2000, 500_000) == 400
    assert affordable(2000, 10**7) == 200
    assert affordable(150, 10**7) == 150


def test_interval_of_thinned_resamples_is_normal_and_said_in_words(
    table: Callable, evaluated: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels, scores, clusters = Population().draw(150, np.random.default_rng(0))
    monkeypatch.setattr("medsharp.evaluation.evaluate.affordable", lambda resamples, images: 200)
    entry = evaluated(table(labels, scores, clusters), resamples=2000)
    assert entry["figures"]["auroc"]["method"] == "patient bootstrap, normal"
    assert "standard deviations of 200 resamples (2000 were wished" in entry["intervals"]["method"]
    width = entry["figures"]["auroc"]["high"] - entry["figures"]["auroc"]["low"]
    obuchowski = entry["auroc_intervals"]["obuchowski"]
    assert width == pytest.approx(2 * 1.96 * obuchowski["standard_error"], rel=0.2)


def test_one_step_refit_of_many_images_is_close_to_the_full_one() -> None:
    from medsharp.evaluation.statistics.calibration import probability_scores, recalibrate

    labels, scores, _ = Population().draw(12_000, np.random.default_rng(0))
    weights = np.random.default_rng(1).poisson(1, size=(10, len(labels))).astype(float)
    short, full = probability_scores(labels, scores)(weights), recalibrate(labels, scores, weights)
    assert np.abs(short["calibration_slope"] - full.slope).max() < 0.1 * full.slope.std()
    assert np.abs(short["calibration_intercept"] - full.in_the_large).max() < 0.1 * full.in_the_large.std()
