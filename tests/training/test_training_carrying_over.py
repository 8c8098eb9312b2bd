"""Rules for operating points: each by its definition, on patients of several images, and at the hospital left out."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from scipy.special import expit, logit
from scipy.stats import binom

from training.crossvalidation.carrying_over import Carried, Scores, carry_over

AIM = 0.9


def hospital(seed: int, patients: int, shift: float, scale: float) -> Scores:
    rng = np.random.default_rng(seed)
    clusters = np.repeat(np.arange(patients), rng.integers(1, 4, patients))
    positive = (rng.random(patients) < 0.4)[clusters]
    values = shift + scale * (rng.normal(size=len(clusters)) + 1.5 * positive + rng.normal(size=patients)[clusters])
    return Scores(values, positive, clusters, rng.integers(0, 3, patients)[clusters])


DECIDING, LEFT = hospital(1, 130, 0.4, 1.0), hospital(2, 80, -0.7, 1.7)


def miss_rate(scores: Scores, threshold: float) -> list[float]:
    """The share of positives missed of each patient who has any, one patient after another."""
    rates = []
    for patient in np.unique(scores.clusters[scores.positive]):
        own = scores.values[(scores.clusters == patient) & scores.positive]
        rates.append(sum(value < threshold for value in own) / len(own))
    return rates


def largest(scores: Scores, holds: Callable[[list[float]], bool]) -> float:
    """The largest score of a positive at which the rates of patients hold."""
    return max((v for v in scores.values[scores.positive] if holds(miss_rate(scores, v))), default=-np.inf)


def half_way_down(scores: Scores) -> float:
    """What export chooses: in probabilities half way from the score that finds 90 % of positive images to the next."""
    scored = sorted(scores.values[scores.positive], reverse=True)
    least = scored[math.ceil(AIM * len(scored)) - 1]
    below = max(value for value in scores.values if value < least)
    return float(logit((expit(least) + expit(below)) / 2))


def part(scores: Scores, fold: int) -> Scores:
    rows = scores.folds == fold
    return Scores(scores.values[rows], scores.positive[rows], scores.clusters[rows], scores.folds[rows])


@pytest.fixture(scope="module")
def found() -> dict[str, Carried]:
    return {row.rule: row for row in carry_over(DECIDING, LEFT, AIM)}


@pytest.mark.parametrize(
    ("rule", "threshold"),
    [
        ("half", 0.0),
        ("out of fold", half_way_down(DECIDING)),
        ("conformal", largest(DECIDING, lambda r: (sum(r) + 1) / (len(r) + 1) <= 1 - AIM + 1e-12)),
        ("tolerance", largest(DECIDING, lambda r: binom.cdf(math.ceil(sum(r) - 1e-9), len(r), 1 - AIM) <= 0.05)),
    ],
)
def test_a_rule_by_its_definition(found: dict[str, Carried], rule: str, threshold: float) -> None:
    row = found[rule]
    assert row.threshold == pytest.approx(1 / (1 + np.exp(-threshold)), abs=1e-12)
    assert row.sensitivity[0] == pytest.approx(np.mean(LEFT.values[LEFT.positive] >= threshold), abs=1e-12)
    assert row.specificity[0] == pytest.approx(np.mean(LEFT.values[~LEFT.positive] < threshold), abs=1e-12)
    assert not row.unlabelled


def test_more_caution_gives_lower_thresholds(found: dict[str, Carried]) -> None:
    thresholds = [found[rule].threshold for rule in ("out of fold", "conformal", "tolerance")]
    assert thresholds == sorted(thresholds, reverse=True)  # type: ignore[type-var]
    assert len(set(thresholds)) == 3


def test_one_fold_is_the_mean_over_folds(found: dict[str, Carried]) -> None:
    own = [half_way_down(part(DECIDING, fold)) for fold in range(3)]
    expected = np.mean([np.mean(LEFT.values[LEFT.positive] >= threshold) for threshold in own])
    assert found["one fold"].sensitivity[0] == pytest.approx(expected, abs=1e-12)


def test_a_hospital_is_moved_to_what_decides(found: dict[str, Carried]) -> None:
    threshold = half_way_down(DECIDING)
    mean, spread = DECIDING.values.mean(), DECIDING.values.std()
    scaled = mean + (LEFT.values - mean) * spread / LEFT.values.std()
    moved = mean + (LEFT.values - LEFT.values.mean()) * spread / LEFT.values.std()
    for rule, values in (("same spread", scaled), ("same mean and spread", moved)):
        row = found[rule]
        assert row.threshold is None
        assert row.unlabelled
        assert row.sensitivity[0] == pytest.approx(np.mean(values[LEFT.positive] >= threshold), abs=1e-12)
        assert row.specificity[0] == pytest.approx(np.mean(values[~LEFT.positive] < threshold), abs=1e-12)


def test_intervals_come_from_patients(found: dict[str, Carried]) -> None:
    """Brute force: patients are drawn one by one, with all their images."""
    threshold = half_way_down(DECIDING)
    rng = np.random.default_rng(5)
    patients = np.unique(LEFT.clusters)
    rates = []
    for _ in range(1500):
        rows = np.concatenate([np.flatnonzero(LEFT.clusters == one) for one in rng.choice(patients, len(patients))])
        rates.append(np.mean(LEFT.values[rows][LEFT.positive[rows]] >= threshold))
    _, low, high = found["out of fold"].sensitivity
    assert (low, high) == pytest.approx(tuple(np.percentile(rates, [2.5, 97.5])), abs=0.02)
    images = np.sqrt(np.var(LEFT.values[LEFT.positive] >= threshold) / LEFT.positive.sum()) * 2 * 1.96
    assert high - low > 1.1 * images


def test_too_few_positives_for_a_guarantee_flag_everything() -> None:
    few = Scores(np.array([1.0, 2.0, 0.5]), np.array([True, True, False]), np.arange(3), np.zeros(3, dtype=int))
    rows = {row.rule: row for row in carry_over(few, LEFT, AIM)}
    assert rows["conformal"].threshold == 0
    assert rows["conformal"].sensitivity[0] == 1
    assert rows["conformal"].specificity[0] == 0
