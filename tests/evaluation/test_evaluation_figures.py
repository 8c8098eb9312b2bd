"""Each figure against scikit-learn, or against its definition written out in another way."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import class_likelihood_ratios, roc_auc_score, roc_curve

from medsharp.evaluation.statistics.calibration_error import equal_mass, expected_if_calibrated
from medsharp.evaluation.statistics.discrimination import WeightedRanks
from medsharp.evaluation.statistics.fixed_rates import at_fixed_rates
from medsharp.evaluation.statistics.selective import confidence_of, selective_risk
from medsharp.evaluation.statistics.smooth_calibration import SmoothCalibration


@pytest.mark.parametrize("ties", [False, True])
def test_partial_auroc_is_mcclish_standardised_as_in_scikit_learn(study: Callable, ties: bool) -> None:
    labels, scores, _ = study(ties=ties)
    weights = np.random.default_rng(1).integers(0, 3, size=(4, len(labels))).astype(float)
    found = at_fixed_rates(WeightedRanks(labels, scores).ranking(weights))["partial_auroc"]
    for row, value in zip(weights, found, strict=True):
        # Turned round, the sensitivities from 0.9 on are the false-positive rates up to 0.1.
        expected = roc_auc_score(~labels, -scores, max_fpr=0.1, sample_weight=row)
        assert value == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("ties", [False, True])
def test_rates_at_fixed_rates_are_the_best_attainable_thresholds(study: Callable, ties: bool) -> None:
    labels, scores, _ = study(ties=ties)
    found = at_fixed_rates(WeightedRanks(labels, scores).ranking(np.ones((1, len(labels)))))
    false, true, _ = roc_curve(labels, scores, drop_intermediate=False)
    for rate in (0.90, 0.95):
        assert found[f"sensitivity_at_specificity_{rate * 100:.0f}"][0] == pytest.approx(true[1 - false >= rate].max())
        assert found[f"specificity_at_sensitivity_{rate * 100:.0f}"][0] == pytest.approx(
            (1 - false[true >= rate]).max()
        )


def test_likelihood_ratios_equal_scikit_learn(study: Callable, table: Callable, evaluated: Callable) -> None:
    labels, scores, patients = study()
    figures = evaluated(table(labels, scores, patients))["figures"]
    positive, negative = class_likelihood_ratios(labels, scores >= 0.4)
    assert figures["lr_positive"]["value"] == pytest.approx(positive)
    assert figures["lr_negative"]["value"] == pytest.approx(negative)


def test_predictive_values_at_the_prevalence_of_the_data_are_those_of_the_data(
    study: Callable, table: Callable, evaluated: Callable
) -> None:
    labels, scores, patients = study()
    figures = evaluated(table(labels, scores, patients), prevalence=float(labels.mean()))["figures"]
    assert figures["ppv_at_prevalence"]["value"] == pytest.approx(figures["ppv"]["value"])
    assert figures["npv_at_prevalence"]["value"] == pytest.approx(figures["npv"]["value"])
    # Bayes' theorem by hand: of 1,000 women 10 have cancer.
    rare = evaluated(table(labels, scores, patients), prevalence=0.01)["figures"]
    found, alarmed = 10 * figures["sensitivity"]["value"], 990 * (1 - figures["specificity"]["value"])
    assert rare["ppv_at_prevalence"]["value"] == pytest.approx(found / (found + alarmed))


@pytest.mark.parametrize("ties", [False, True])
def test_brier_score_is_the_sum_of_its_parts(study: Callable, table: Callable, evaluated: Callable, ties: bool) -> None:
    labels, scores, patients = study(ties=ties)
    part = {key: value["value"] for key, value in evaluated(table(labels, scores, patients))["figures"].items()}
    assert part["brier"] == pytest.approx(np.mean((scores - labels) ** 2))
    rest = part["brier_reliability"] - part["brier_resolution"] + part["brier_uncertainty"] + part["brier_within_bins"]
    assert part["brier"] == pytest.approx(rest)
    assert part["brier_uncertainty"] == pytest.approx(labels.mean() * (1 - labels.mean()))
    assert part["brier_scaled"] == pytest.approx(1 - part["brier"] / part["brier_uncertainty"])


def test_brier_parts_of_constant_groups_leave_no_rest(table: Callable, evaluated: Callable) -> None:
    # Murphy's partition is exact where each bin holds one probability: 20 images at 0.2, 20 at 0.7.
    labels = np.r_[np.arange(20) < 6, np.arange(20) < 12]
    part = evaluated(table(labels, np.repeat([0.2, 0.7], 20)))["figures"]
    assert part["brier_within_bins"]["value"] == pytest.approx(0, abs=1e-12)
    assert part["brier_reliability"]["value"] == pytest.approx((0.1**2 + 0.1**2) / 2)
    assert part["brier_resolution"]["value"] == pytest.approx(0.15**2)
    assert part["ece"]["value"] == pytest.approx(0.1)
    debiased = 0.1**2 - (0.3 * 0.7 + 0.6 * 0.4) / 2 / 19
    assert part["calibration_error"]["value"] == pytest.approx(math.sqrt(max(0, debiased)))


def test_bias_of_the_ece_is_what_perfect_models_show() -> None:
    rng = np.random.default_rng(0)
    scores = np.sort(rng.beta(1, 2, 400))[::-1]
    starts = equal_mass(scores)
    shown = []
    for _ in range(400):
        labels = rng.random(400) < scores
        gaps = [
            abs(s.mean() - y.mean()) * len(y)
            for s, y in zip(np.split(scores, starts[1:]), np.split(labels, starts[1:]))
        ]
        shown.append(sum(gaps) / 400)
    expected = expected_if_calibrated(scores, np.arange(400), rng)
    assert expected["mean"] == pytest.approx(np.mean(shown), rel=0.03)
    assert expected["limit"] == pytest.approx(np.quantile(shown, 0.95), rel=0.05)


def test_debiased_calibration_error_of_perfect_models_is_about_zero_where_the_ece_is_not(
    table: Callable, evaluated: Callable
) -> None:
    rng = np.random.default_rng(1)
    squares, plain = [], []
    for _ in range(60):
        scores = rng.beta(1, 2, 300)
        figures = evaluated(table(rng.random(300) < scores, scores), resamples=1)["figures"]
        squares.append(figures["calibration_error"]["value"] ** 2)
        plain.append(figures["brier_reliability"]["value"])
    assert np.mean(squares) < 0.5 * np.mean(plain)


def test_calibration_error_of_a_wrong_model_has_an_interval_that_holds_the_truth(
    table: Callable, evaluated: Callable
) -> None:
    rng = np.random.default_rng(2)
    scores = rng.uniform(0.1, 0.9, 4000)
    # Every probability is 0.1 too high.
    figure = evaluated(table(rng.random(4000) < scores - 0.1, scores), resamples=400)["figures"]["calibration_error"]
    assert figure["low"] < 0.1 < figure["high"]
    assert figure["high"] - figure["low"] < 0.05


@pytest.mark.parametrize("ties", [False, True])
def test_risk_coverage_area_is_the_mean_risk_of_the_surest_images(study: Callable, ties: bool) -> None:
    labels, scores, _ = study(60, ties=ties)
    confidence, wrong = confidence_of(scores, 0.4), (scores >= 0.4) != labels
    found = selective_risk(labels, scores, 0.4)(np.ones((1, len(labels))))
    # Of images that are tied each is as wrong as all of them are, so that the order of the table cannot matter.
    mean = pd.Series(wrong).groupby(confidence).transform("mean").to_numpy()[np.argsort(-confidence, kind="stable")]
    assert found["aurc"][0] == pytest.approx(np.mean(np.cumsum(mean) / np.arange(1, len(labels) + 1)))
    assert found["risk_at_coverage"][0, -1] == pytest.approx(wrong.mean())


def test_risk_at_a_coverage_inside_the_surest_tied_images_is_theirs() -> None:
    scores = np.repeat([1.0, 0.6], 10)
    labels = np.r_[np.repeat([True, False], [6, 4]), np.ones(10, dtype=bool)]
    found = selective_risk(labels, scores, 0.5)(np.ones((1, 20)))["risk_at_coverage"][0]
    assert found[:10] == pytest.approx(0.4)
    assert found[-1] == pytest.approx(0.2)


def test_area_of_tied_images_is_the_mean_over_their_orders() -> None:
    """Two images are sure, one of them wrong; of three tied ones the last two are right: six orders, and by hand."""
    scores, labels = np.array([0.95, 0.95, 0.7, 0.7, 0.7]), np.array([True, False, False, True, True])
    found = selective_risk(labels, scores, 0.5)(np.ones((1, 5)))
    orders = {(first, third) for first in range(2) for third in range(3)}
    means = []
    for first, third in sorted(orders):
        wrong = np.zeros(5)
        wrong[[first, 2 + third]] = 1
        means.append(np.mean(np.cumsum(wrong) / np.arange(1, 6)))
    assert found["aurc"][0] == pytest.approx(np.mean(means))
    assert np.mean(means) == pytest.approx((1 / 2 + 1 / 2 + 4 / 9 + 5 / 12 + 2 / 5) / 5)


def test_area_is_the_share_of_errors_where_every_image_is_as_sure() -> None:
    labels = np.array([True, True, False, True, False, True, True])
    weights = np.array([[1.0, 1, 1, 1, 1, 1, 1], [0, 2, 3, 0, 1, 1, 0]])
    found = selective_risk(labels, np.full(7, 0.8), 0.5)(weights)
    assert found["aurc"] == pytest.approx([2 / 7, 4 / 7])
    # As far above the threshold as below it, but for the last digits of the logarithms: one block too.
    either = selective_risk(labels, np.where(labels, 0.1, 0.9), 0.5)(weights[:1])
    assert either["aurc"] == pytest.approx([1.0])


def test_distances_that_differ_by_rounding_alone_are_tied() -> None:
    odds = np.array([0.1, 0.3, 0.7, 1.3, 2.9])
    below, above = (1 / (1 + np.exp(sign * odds)) for sign in (1, -1))
    both = confidence_of(np.concatenate([below, above]), 0.5)
    np.testing.assert_array_equal(both[:5], both[5:])
    np.testing.assert_allclose(both[5:], odds, rtol=1e-11)
    np.testing.assert_allclose(confidence_of(np.array([0.2, 0.9]), 0.2), [0, np.log(9 / 0.25)], atol=1e-12)


@pytest.mark.parametrize("digits", [1, 2, 4, 6, 9])
def test_it_does_not_matter_which_class_is_called_positive(digits: int) -> None:
    rng = np.random.default_rng(digits)
    scores = np.round(1 / (1 + np.exp(-3 * rng.normal(size=400))), digits)
    scores[:40] = rng.integers(0, 2, 40)  # surest of all
    scores = scores[scores != 0.5]  # at the threshold an image is called positive, whichever class that is
    both = confidence_of(np.concatenate([scores, np.round(1 - scores, digits)]), 0.5).reshape(2, -1)
    np.testing.assert_array_equal(both[0], both[1])
    assert len(np.unique(both[0, :40])) == 1
    assert len(np.unique(both[0])) == len(np.unique(np.round(np.minimum(scores, 1 - scores), digits + 1)))
    labels = rng.random(len(scores)) < scores
    one = selective_risk(labels, scores, 0.5)(np.ones((1, len(scores))))
    other = selective_risk(~labels, np.round(1 - scores, digits), 0.5)(np.ones((1, len(scores))))
    assert one["aurc"] == pytest.approx(other["aurc"], abs=1e-12)
    assert one["risk_at_coverage"] == pytest.approx(other["risk_at_coverage"], abs=1e-12)


def test_answers_of_0_and_1_are_as_sure_as_each_other() -> None:
    labels = np.arange(1000) < 500
    scores = labels.astype(float)
    scores[:100] = 0  # positives that are missed, as sure as all
    for turned in (False, True):
        truth, given = (~labels, 1 - scores) if turned else (labels, scores)
        assert selective_risk(truth, given, 0.5)(np.ones((1, 1000)))["aurc"] == pytest.approx([0.1])


def test_risk_coverage_of_copies_equals_that_of_weights(study: Callable) -> None:
    labels, scores, _ = study(60)
    times = np.random.default_rng(0).integers(0, 3, len(labels))
    weighted = selective_risk(labels, scores, 0.4)(times[None].astype(float))
    copied = selective_risk(np.repeat(labels, times), np.repeat(scores, times), 0.4)(np.ones((1, times.sum())))
    assert weighted["aurc"] == pytest.approx(copied["aurc"])
    assert weighted["risk_at_coverage"] == pytest.approx(copied["risk_at_coverage"])


def test_smooth_calibration_is_weighted_least_squares_at_each_point(study: Callable) -> None:
    labels, scores, _ = study(150)
    order = np.argsort(-scores)
    labels, scores = labels[order], scores[order]
    smooth = SmoothCalibration(labels, scores)
    found = smooth.statistic(np.ones((1, len(labels))))["smooth_calibration"][0]
    for point in (0, 13, 39):
        distance = np.abs(scores - smooth.grid[point])
        reach = np.sort(distance)[int(0.75 * len(labels)) - 1]
        kernel = np.clip(1 - (distance / reach) ** 3, 0, None) ** 3
        level = np.polyfit(scores - smooth.grid[point], labels.astype(float), 1, w=np.sqrt(kernel))[1]
        assert found[point] == pytest.approx(np.clip(level, 0, 1), abs=1e-9)


def test_smooth_calibration_of_many_images_is_close_to_the_truth() -> None:
    rng = np.random.default_rng(0)
    scores = np.sort(rng.uniform(0, 1, 50_000))[::-1]
    labels = rng.random(50_000) < scores**2
    smooth = SmoothCalibration(labels, scores)
    fitted = smooth.statistic(np.ones((1, len(labels))))["smooth_calibration"][0]
    assert np.abs(fitted - smooth.grid**2).max() < 0.12
    assert np.corrcoef(fitted, smooth.grid**2)[0, 1] > 0.99


def test_decision_curve_worked_by_hand() -> None:
    # Ten patients, three with the disease. At a threshold of 0.25 the model treats 0.9, 0.7, 0.4 (ill) and 0.6, 0.3
    # (healthy): 3 true, 2 false positives; odds 1/3. Net benefit (3 - 2/3) / 10; treating all (3 - 7/3) / 10.
    from medsharp.evaluation.statistics.decision import net_benefit

    labels = np.array([1, 1, 1, 0, 0, 0, 0, 0, 0, 0], dtype=bool)
    scores = np.array([0.9, 0.7, 0.4, 0.6, 0.3, 0.2, 0.2, 0.1, 0.1, 0.05])
    found = net_benefit(np.array([0.25, 0.5]))(WeightedRanks(labels, scores).ranking(np.ones((1, 10))))
    assert found["net_benefit"][0] == pytest.approx([(3 - 2 / 3) / 10, (2 - 1) / 10])
    assert found["treat_all"][0] == pytest.approx([(3 - 7 / 3) / 10, (3 - 7) / 10])
    assert found["net_benefit_gain"][0] == pytest.approx([(3 - 2 / 3) / 10 - (3 - 7 / 3) / 10, 0.1])


def test_bins_hold_about_equally_many_images_and_never_split_ties() -> None:
    scores = np.sort(np.round(np.random.default_rng(0).random(200), 2))[::-1]
    starts = equal_mass(scores)
    assert starts[0] == 0
    assert len(starts) == 10
    assert all(scores[start] != scores[start - 1] for start in starts[1:])
    assert np.ptp(np.diff(np.r_[starts, 200])) < 12
    assert equal_mass(np.full(50, 0.3)).tolist() == [0]
