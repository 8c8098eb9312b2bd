"""Influences: each figure's are the derivatives, by the weight of an image, of what an evaluation computes."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import multivariate_normal, norm

from medsharp.evaluation.frozen import FrozenThreshold
from medsharp.evaluation.planning import FIGURES, binormal, from_predictions
from medsharp.evaluation.planning.anticipated import Anticipated, intraclass_correlation
from medsharp.evaluation.planning.figures import precision
from medsharp.evaluation.statistics.bootstrap import Statistic
from medsharp.evaluation.statistics.calibration import probability_scores
from medsharp.evaluation.statistics.decision import net_benefit_at
from medsharp.evaluation.statistics.delong import obuchowski_covariance, placements
from medsharp.evaluation.statistics.discrimination import WeightedRanks, areas
from medsharp.evaluation.statistics.thresholded import decisions

THRESHOLD = 0.35


def table_of(patients: int = 60, seed: int = 3) -> pd.DataFrame:
    """One to four images a patient, miscalibrated, rounded so that there are ties, a few patients with both labels."""
    rng = np.random.default_rng(seed)
    who = np.repeat(np.arange(patients), rng.integers(1, 5, patients))
    positive = (rng.random(patients) < 0.35)[who]
    positive[::17] = ~positive[::17]
    odds = -0.9 + 1.3 * positive + 0.7 * rng.normal(size=patients)[who] + 0.6 * rng.normal(size=len(who))
    scores = np.round(1 / (1 + np.exp(-odds)), 2)
    return pd.DataFrame(
        {
            "image": [f"{n}.png" for n in range(len(who))],
            "patient": [f"P{n}" for n in who],
            "label": np.where(positive, "malignant", "benign"),
            "p_benign": 1 - scores,
            "p_malignant": scores,
        }
    )


def anticipated_of(table: pd.DataFrame, **options: float) -> Anticipated:
    frozen = FrozenThreshold(pd.Series(THRESHOLD, index=table.index), "stated")
    return from_predictions(table, "table.csv", positive="malignant", frozen=frozen, **options)


def evaluated(labels: np.ndarray, scores: np.ndarray) -> dict[str, Statistic]:
    """What an evaluation computes, from weights."""
    ranks = WeightedRanks(labels, scores).statistic([areas, decisions(THRESHOLD), net_benefit_at(THRESHOLD)])
    fit = probability_scores(labels, scores)
    return {
        "auroc": lambda w: ranks(w)["auroc"],
        "sensitivity": lambda w: ranks(w)["sensitivity"],
        "specificity": lambda w: ranks(w)["specificity"],
        "oe": lambda w: (w @ labels) / (w @ scores),
        "intercept": lambda w: fit(w)["calibration_intercept"],
        "slope": lambda w: fit(w)["calibration_slope"],
        "net_benefit_gain": lambda w: ranks(w)["net_benefit_gain_at_threshold"],
        "net_benefit": lambda w: ranks(w)["net_benefit_at_threshold"] * w.sum(axis=1) / (w @ labels),
    }


@pytest.mark.parametrize("key", list(FIGURES))
def test_an_influence_is_the_derivative_of_the_evaluated_figure(key: str) -> None:
    table = table_of()
    labels, scores = (table["label"] == "malignant").to_numpy(), table["p_malignant"].to_numpy()
    statistic = evaluated(labels, scores)[key]
    count, step = len(labels), 1e-4
    ones = np.ones((1, count))
    value = float(statistic(ones)[0])
    sides = [statistic(ones + sign * step * np.eye(count)) for sign in (1, -1)]
    if FIGURES[key].logarithm:
        sides = [np.log(side) for side in sides]
    expected = (sides[0] - sides[1]) / (2 * step) * count
    found, influence = FIGURES[key].influence(anticipated_of(table))
    assert found == pytest.approx(value, rel=1e-9, abs=1e-9)
    np.testing.assert_allclose(influence, expected, rtol=1e-4, atol=1e-4)


def test_the_gain_is_over_the_better_of_treating_all_and_none() -> None:
    table = table_of()
    labels, scores = (table["label"] == "malignant").to_numpy(), table["p_malignant"].to_numpy()
    gains = []
    for threshold in (0.2, 0.6):
        frozen = FrozenThreshold(pd.Series(threshold, index=table.index), "stated")
        anticipated = from_predictions(table, "table.csv", positive="malignant", frozen=frozen)
        gains.append(precision(FIGURES["net_benefit_gain"], anticipated))
    spared, missed = float((~labels & (scores < 0.2)).mean()), float((labels & (scores < 0.2)).mean())
    found, alarms = float((labels & (scores >= 0.6)).mean()), float((~labels & (scores >= 0.6)).mean())
    assert gains[0].value == pytest.approx(spared * 0.25 - missed)  # over treating all, who have cancer in 36 %
    assert gains[1].value == pytest.approx(found - alarms * 1.5)  # over treating none
    assert gains[1].image_variance == pytest.approx(found + alarms * 2.25 - gains[1].value ** 2)


@pytest.mark.parametrize("key", list(FIGURES))
def test_the_variance_is_that_of_patients_sums(key: str) -> None:
    table = table_of()
    anticipated = anticipated_of(table)
    _, influence = FIGURES[key].influence(anticipated)
    sums = pd.Series(influence).groupby(table["patient"]).sum().to_numpy()
    images = len(table) / len(sums)
    assert precision(FIGURES[key], anticipated).variance(anticipated) == pytest.approx((sums**2).mean() / images**2)


def test_the_variance_of_auroc_is_obuchowskis_for_many_patients() -> None:
    table = table_of(2000)
    labels, scores = (table["label"] == "malignant").to_numpy(), table["p_malignant"].to_numpy()
    clusters = pd.factorize(table["patient"])[0]
    covariance = obuchowski_covariance(placements(labels, scores), labels, clusters)[0, 0]
    anticipated = anticipated_of(table)
    assert precision(FIGURES["auroc"], anticipated).variance(anticipated) / 2000 == pytest.approx(covariance, rel=0.005)


@pytest.mark.parametrize("prevalence", [0.1, 0.6])
def test_a_prevalence_weighs_patients_as_if_there_were_more_of_them(prevalence: float) -> None:
    table = table_of(200)
    weighted = anticipated_of(table, prevalence=prevalence)
    with_cancer = table.groupby("patient")["label"].transform(lambda part: (part == "malignant").any()).to_numpy()
    ratio = weighted.patient_weights.max() / weighted.patient_weights.min()
    more, fewer = round(ratio * 20), 20
    times = np.where(with_cancer == (prevalence > 0.3), more, fewer)
    rows = np.repeat(np.arange(len(table)), times)
    copy = np.concatenate([np.arange(count) for count in times])
    repeated = table.iloc[rows].assign(
        image=[f"{n}.png" for n in range(len(rows))],
        patient=[f"P{p}-{n}" for p, n in zip(table["patient"].iloc[rows], copy)],
    )
    counted = anticipated_of(repeated)
    assert float(weighted.weights @ weighted.labels) == pytest.approx(prevalence)
    assert weighted.share_of_patients == pytest.approx(counted.share_of_patients, rel=0.02)
    assert weighted.images == pytest.approx(counted.images, rel=0.01)
    for figure in FIGURES.values():
        ours, theirs = precision(figure, weighted), precision(figure, counted)
        assert ours.value == pytest.approx(theirs.value, rel=0.02, abs=0.02)
        assert ours.variance(weighted) == pytest.approx(theirs.variance(counted), rel=0.04)


def test_a_binormal_population_is_as_stated() -> None:
    anticipated = binormal(0.87, 0.2, sensitivity=0.93)
    values = {key: precision(figure, anticipated).value for key, figure in FIGURES.items()}
    assert values["auroc"] == pytest.approx(0.87, abs=1e-4)
    assert values["sensitivity"] == pytest.approx(0.93, abs=2e-4)
    assert values["specificity"] == pytest.approx(norm.cdf(norm.ppf(0.07) + np.sqrt(2) * norm.ppf(0.87)), abs=2e-4)
    assert (values["oe"], values["slope"], values["intercept"]) == pytest.approx((1, 1, 0), abs=5e-4)
    assert float(anticipated.weights @ anticipated.labels) == pytest.approx(0.2)
    at_threshold = binormal(0.87, 0.2, threshold=anticipated.threshold)
    assert precision(FIGURES["sensitivity"], at_threshold).value == pytest.approx(0.93, abs=2e-4)


def test_sensitivity_and_specificity_that_are_both_stated_are_kept() -> None:
    anticipated = binormal(0.8, 0.3, sensitivity=0.95, specificity=0.25, threshold=0.1)
    assert precision(FIGURES["sensitivity"], anticipated).value == pytest.approx(0.95, abs=2e-4)
    assert precision(FIGURES["specificity"], anticipated).value == pytest.approx(0.25, abs=2e-4)
    expected = 0.95 - 0.7 / 0.3 * 0.1 / 0.9 * 0.75
    assert precision(FIGURES["net_benefit"], anticipated).value == pytest.approx(expected, abs=5e-4)


@pytest.mark.parametrize("icc", [0.0, 0.3, 0.9])
def test_decisions_on_images_of_a_patient_agree_as_two_normal_variables_do(icc: float) -> None:
    anticipated = binormal(0.85, 0.3, sensitivity=0.9, images=2, icc=icc)
    found = precision(FIGURES["sensitivity"], anticipated)
    place = norm.ppf(0.9)
    both = multivariate_normal.cdf([place, place], cov=[[1, icc], [icc, 1]])
    assert found.patient_covariance / found.image_variance == pytest.approx((both - 0.81) / 0.09, abs=3e-3)


def test_images_that_are_the_same_count_once() -> None:
    anticipated = binormal(0.85, 0.3, threshold=0.2, images=3, icc=1.0)
    for figure in FIGURES.values():
        found = precision(figure, anticipated)
        assert found.variance(anticipated) == pytest.approx(found.image_variance, rel=1e-6)


def test_a_mean_that_is_not_whole_lies_between_its_neighbours() -> None:
    assert binormal(0.8, 0.3, images=2.25, icc=0.5).pairs == pytest.approx(0.75 * 2 + 0.25 * 6)
    assert binormal(0.8, 0.3, images=3, icc=0.5).pairs == 6


def test_the_intraclass_correlation_is_that_of_the_simulation() -> None:
    rng = np.random.default_rng(0)
    patients = np.repeat(np.arange(4000), rng.integers(1, 4, 4000))
    labels = (rng.random(4000) < 0.3)[patients]
    values = 2 * labels + 0.8 * rng.normal(size=4000)[patients] + 0.6 * rng.normal(size=len(patients))
    assert intraclass_correlation(values, labels, patients) == pytest.approx(0.64, abs=0.03)
    assert intraclass_correlation(values, labels, np.arange(len(values))) is None
