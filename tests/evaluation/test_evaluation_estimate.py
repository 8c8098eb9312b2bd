"""The registry of figures, and the one estimate: rules of intervals, differences and means."""

from __future__ import annotations

import numpy as np
import pytest

from medsharp.evaluation.statistics.estimate import (
    ALWAYS_THE_SAME,
    FEWEST_FOR_PERCENTILES,
    ONE_PATIENT,
    Estimate,
    Limits,
    independent_difference,
)
from medsharp.evaluation.statistics.figures import Cases, estimates_of, measure
from medsharp.evaluation.statistics.registry import (
    ALL,
    COMPARED,
    DECIDED,
    FIGURES,
    HEADLINE,
    SECTIONS,
    figure_named,
    names_of,
)
from medsharp.evaluation.statistics.scalars import statistics_of
from medsharp.inference.glance import FIGURES as AT_A_GLANCE

RNG = np.random.default_rng(7)
SKEWED = RNG.gamma(2.0, 0.02, 2000) + 0.5


def cases() -> Cases:
    labels = np.arange(90) % 3 == 0
    scores = np.clip(0.3 + 0.25 * labels + RNG.normal(0, 0.15, 90), 0.02, 0.98)
    order = np.argsort(-scores, kind="stable")
    return Cases(labels[order], scores[order], (np.arange(90) // 2)[order], 0.45)


def test_every_measured_figure_has_an_entry_that_says_what_it_is_about() -> None:
    some = cases()
    measured = measure(some.clusters, statistics_of(some, prevalence=0.1), resamples=200, rng=np.random.default_rng(0))
    estimates = estimates_of(some, measured)
    # These three look at the smooth calibration curve, which comes with the other curves.
    assert set(estimates) == set(FIGURES) - {"ici", "e50", "e90"}
    for key, estimate in estimates.items():
        entry = FIGURES[key]
        assert entry.name
        assert entry.meaning
        assert entry.section in SECTIONS or key == "prevalence"
        assert estimate.n == some.about(entry.about).sum()
        assert entry.low <= estimate.value <= entry.high
        found = estimate.figure()
        assert (found["low"] is None) == bool(entry.no_interval), (key, found)
        if found["low"] is not None:
            assert entry.low <= found["low"] <= found["high"] <= entry.high


@pytest.mark.parametrize("key", ["sensitivity", "brier", "aurc", "calibration_slope", "partial_auroc", "ece"])
def test_only_what_is_asked_for_is_computed_and_it_is_there(key: str) -> None:
    some = cases()
    measured = measure(some.clusters, statistics_of(some, (key,)), resamples=50, rng=np.random.default_rng(0))
    assert np.isfinite(measured.values[key])
    everything = measure(some.clusters, statistics_of(some), resamples=50, rng=np.random.default_rng(0))
    assert len(measured.values) < len(everything.values)
    np.testing.assert_array_equal(measured.replicates[key], everything.replicates[key])


def test_lists_of_figures_are_entries_and_names_are_told_once() -> None:
    assert set(COMPARED) | set(HEADLINE) | DECIDED <= set(FIGURES)
    assert {key for key, entry in FIGURES.items() if entry.recommended} == {
        "auroc", "net_benefit_at_threshold", "net_benefit_gain_at_threshold",
    }  # fmt: skip
    assert len({entry.name for entry in FIGURES.values()}) == len(FIGURES)
    assert names_of(AT_A_GLANCE) == AT_A_GLANCE
    assert list(names_of(["brier", "auroc"])) == ["auroc", "brier"], "the order of the report"
    assert figure_named("flips") is ALL["flips"]
    assert figure_named("of another version").digits == 3


def test_limits_are_percentiles_of_many_resamples_and_a_spread_of_few() -> None:
    many = Estimate(0.55, SKEWED)
    assert many.interval() == (*np.percentile(SKEWED, [2.5, 97.5]), "patient bootstrap, percentile")
    few = Estimate(0.55, SKEWED[: FEWEST_FOR_PERCENTILES - 1])
    low, high, method = few.interval("bca")
    assert method == "patient bootstrap, normal"
    assert (low + high) / 2 == pytest.approx(0.55)
    assert high - low == pytest.approx(2 * 1.959963985 * np.std(few.replicates, ddof=1))


def test_bca_takes_what_is_left_out_of_this_figure_and_moves_with_its_skewness() -> None:
    one_sided = np.r_[np.zeros(50), 1.0]
    limits = [Estimate(0.54, SKEWED, left_out=part).interval("bca") for part in (None, one_sided, -one_sided)]
    assert {part.method for part in limits} == {"patient bootstrap, BCa"}
    # Leaving out the one that raises the figure means a negative acceleration, and lower limits.
    assert limits[1].high < limits[0].high < limits[2].high


def test_limits_keep_within_bounds_and_a_closed_form_comes_first() -> None:
    replicates = np.linspace(0.8, 1.2, 2000)
    assert Estimate(0.99, replicates, bounds=(0.0, 1.0)).interval().high == 1.0
    closed = Limits(0.6, 1.0, "Wilson, patients")
    assert Estimate(1.0, np.ones(2000), ends=lambda: closed).interval() == closed
    assert Estimate(0.9, replicates, ends=lambda: None).interval().method == "patient bootstrap, percentile"


@pytest.mark.parametrize(
    ("estimate", "reason"),
    [
        (Estimate(np.nan, SKEWED), "it does not exist for these data"),
        (Estimate(np.nan, SKEWED, reason="no image reaches the threshold"), "no image reaches the threshold"),
        (Estimate(0.5, np.empty(0)), ONE_PATIENT),
        (Estimate(0.5, SKEWED, reason="biased"), "biased"),
        (Estimate(0.5, np.r_[np.full(110, np.nan), SKEWED[:1890]]), "it does not exist in 6% of the resamples"),
        (Estimate(0.5, np.full(2000, 0.5)), ALWAYS_THE_SAME),
    ],
)
def test_where_there_is_no_interval_a_reason_stands(estimate: Estimate, reason: str) -> None:
    found = estimate.figure()
    assert (found["low"], found["high"], found["reason"]) == (None, None, reason)
    assert (found["value"] is None) == (not estimate.exists)


@pytest.mark.parametrize("kind", ["percentile", "bca"])
def test_infinite_resamples_are_the_greatest(kind: str) -> None:
    few, most = (np.r_[SKEWED[count:], np.full(count, np.inf)] for count in (49, 50))
    expected = np.sort(few)[[49, 50, 1949, 1950]]  # 2.5 % lie at place 49.975, 97.5 % at 1949.025
    found = Estimate(float(np.median(few)), few).interval(kind)
    assert isinstance(found, Limits)
    if kind == "percentile":
        assert found.low == pytest.approx(expected[0] + 0.975 * (expected[1] - expected[0]))
        assert found.high == pytest.approx(expected[2] + 0.025 * (expected[3] - expected[2]))
        assert found.high > np.percentile(few[np.isfinite(few)], 97.5) * 1.05
    without = Estimate(float(np.median(most)), most).figure(kind)
    assert without["high"] is None
    assert without["low"] == pytest.approx(found.low, rel=0.01)
    assert without["reason"] == "no upper limit: it is infinite in 2.5% of the resamples"
    turned = Estimate(-float(np.median(most)), -most).figure(kind)
    assert (turned["low"], turned["reason"]) == (None, without["reason"].replace("upper", "lower"))
    assert turned["high"] == pytest.approx(-without["low"], rel=0.01)


def test_few_resamples_have_no_limit_where_many_are_infinite() -> None:
    def found(count: int) -> dict:
        return Estimate(0.55, np.r_[SKEWED[count:400], np.full(count, np.inf)]).figure()

    assert found(11)["high"] is None
    assert found(11)["low"] == pytest.approx(0.55 - 1.959963985 * np.std(SKEWED[11:400], ddof=1))
    assert found(10)["high"] == pytest.approx(0.55 + 1.959963985 * np.std(SKEWED[10:400], ddof=1))
    assert "reason" not in found(10)


def test_where_nearly_all_resamples_are_infinite_there_is_no_interval() -> None:
    for count in (1960, 1999, 2000):
        figure = Estimate(0.55, np.r_[SKEWED[count:], np.full(count, np.inf)]).figure()
        assert (figure["low"], figure["high"]) == (None, None)
        assert figure["reason"] == f"it is infinite in {count / 2000:.1%} of the resamples"
    assert Estimate(np.inf, SKEWED).figure()["value"] is None


def test_differences_of_infinite_values_are_none_and_of_one_infinite() -> None:
    one, other = np.r_[SKEWED[30:], np.full(30, np.inf)], np.r_[np.full(20, np.inf), SKEWED[20:]]
    replicates = (Estimate(0.6, one) - Estimate(0.5, other)).replicates
    assert (np.isposinf(replicates).sum(), np.isneginf(replicates).sum(), np.isnan(replicates).sum()) == (30, 20, 0)
    assert np.isnan((Estimate(0.6, one) - Estimate(0.5, one)).replicates).sum() == 30
    unlimited = Estimate(0.6, np.r_[SKEWED[100:], np.full(100, np.inf)])
    told = independent_difference(Estimate(0.5, SKEWED), unlimited)
    assert (told["value"], told["low"], told["high"]) == (pytest.approx(0.1), None, None)
    assert "no limit on one side" in told["reason"]


@pytest.mark.parametrize(("scale", "end"), [("log", 0.0), ("log of 1 less it", 1.0)])
def test_more_than_one_in_forty_at_the_end_of_a_scale_leave_it(scale: str, end: float) -> None:
    """They lie on one side: where 4 % of a slope's resamples are below 0, so is its lower limit."""
    for count, leaves in ((50, False), (51, True)):
        replicates = np.r_[SKEWED[count:], np.full(count, end)]
        found = Estimate(0.55, replicates, scale=scale).interval()
        assert isinstance(found, Limits)
        assert found.method.endswith("percentile") == leaves
        if leaves:
            assert end in (found.low, found.high)


def test_differences_and_means_are_paired_by_resample() -> None:
    one, other = Estimate(0.7, SKEWED), Estimate(0.6, SKEWED - 0.1 + np.linspace(0, 0.01, 2000))
    difference = other - one
    assert difference.value == pytest.approx(-0.1)
    np.testing.assert_allclose(difference.replicates, -0.1 + np.linspace(0, 0.01, 2000))
    assert (one - other).interval().low == pytest.approx(-difference.interval().high)
    mean = Estimate.mean([one, other, other])
    assert mean.value == pytest.approx((0.7 + 0.6 + 0.6) / 3)
    np.testing.assert_allclose(mean.replicates, (one.replicates + 2 * other.replicates) / 3)
    assert one.scaled(-2, 1).value == pytest.approx(0.6)


def test_a_difference_of_independent_data_is_second_minus_first_with_the_spread_of_both() -> None:
    first, second = (Estimate(value, RNG.normal(value, sd, 2000)) for value, sd in ((0.9, 0.01), (0.7, 0.03)))
    found = independent_difference(first, second)
    assert found["value"] == pytest.approx(-0.2)
    assert found["high"] - found["low"] == pytest.approx(2 * 1.96 * np.hypot(0.01, 0.03), rel=0.08)
    assert found["low"] < -0.2 < found["high"]
    missing = Estimate(np.nan, SKEWED, reason="one class only")
    assert independent_difference(missing, second) == {
        "value": None, "low": None, "high": None, "reason": "one class only",
    }  # fmt: skip


def test_a_closed_form_and_resamples_are_combined_on_their_own_sides() -> None:
    perfect = Estimate(1.0, np.ones(2000), ends=lambda: Limits(0.9, 1.0, "Wilson, patients"))
    other = Estimate(0.7, np.linspace(0.6, 0.75, 2000))
    found = independent_difference(perfect, other)
    low, high, _ = other.interval()
    assert found["method"].startswith("MOVER")
    # 0.7 - 1: what lowers it are the lower limit of 0.7 and the upper one of 1.
    assert found["low"] == pytest.approx(-0.3 - (0.7 - low))
    assert found["high"] == pytest.approx(-0.3 + np.hypot(high - 0.7, 0.1))
