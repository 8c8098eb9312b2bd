"""The variances of seeds and patients: each counted once, from its own group, and never below 0 or made up."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import chi2, norm
from scipy.stats import t as student
from typer.testing import CliRunner

from medsharp.cli import app
from medsharp.evaluation.comparison.coverage import (
    ALONE,
    BOTH,
    FIGURES,
    MISTAKEN,
    ONE,
    Method,
    figures_of_networks,
    measure_seed_coverage,
)
from medsharp.evaluation.comparison.seeds import (
    EQUAL_NETWORKS,
    ONE_NETWORK,
    THESE_NETWORKS,
    Networks,
    mixed_interval,
    patient_variance,
    together,
)
from medsharp.evaluation.statistics.coverage import THRESHOLD
from medsharp.evaluation.statistics.discrimination import WeightedRanks, areas
from medsharp.evaluation.statistics.figures import Cases
from medsharp.evaluation.statistics.scalars import statistics_of
from medsharp.evaluation.statistics.thresholded import decisions


def group(sign: int, values: list[float], *, shared: float, own: float, seed: int = 0, rows: int = 4000) -> Networks:
    """Networks whose replicates have a part in common (the same for every group) and one of their own."""
    common = np.random.default_rng(77).normal(size=(rows, 1)) * shared
    noise = np.random.default_rng([seed, len(values)]).normal(size=(rows, len(values))) * own
    return Networks(sign, np.array(values), np.array(values) + common + noise)


def test_variance_of_patients_is_what_the_networks_share() -> None:
    networks = group(1, [0.8, 0.82, 0.85], shared=0.02, own=0.05)
    assert patient_variance([networks]) == pytest.approx(0.02**2, rel=0.2)
    single = group(1, [0.8], shared=0.02, own=0.05)
    assert patient_variance([single]) == pytest.approx(0.02**2 + 0.05**2, rel=0.1)
    assert patient_variance([single]) == pytest.approx(single.replicates.var(ddof=1))
    two = [group(-1, [0.7], shared=0.02, own=0.01, seed=1), group(1, [0.8], shared=0.02, own=0.03, seed=2)]
    difference = two[1].replicates[:, 0] - two[0].replicates[:, 0]
    assert patient_variance(two) == pytest.approx(difference.var(ddof=1))


def test_mean_variance_is_the_bootstraps_and_the_excess_of_the_seeds() -> None:
    one = group(-1, [0.70, 0.74, 0.71, 0.78], shared=0.02, own=0.02, seed=1)
    other = group(1, [0.80, 0.81, 0.85], shared=0.02, own=0.01, seed=2)
    groups = [one, other]
    mixed = mixed_interval(0.1, groups, 200)
    # Another way to the same sum: the bootstrap variance of the difference of means, which has the noise of networks
    # already, and of seeds only what exceeds it.
    total = (other.replicates.mean(axis=1) - one.replicates.mean(axis=1)).var(ddof=1)
    for networks in groups:
        c, size = np.cov(networks.replicates, rowvar=False), len(networks.values)
        between_networks = (c.sum() - np.trace(c)) / (size * (size - 1))
        total += (networks.values.var(ddof=1) - (np.trace(c) / size - between_networks)) / size
    assert mixed["patient_sd"] ** 2 + mixed["seed_sd"] ** 2 == pytest.approx(total)
    assert mixed["seed_sd"] ** 2 == pytest.approx(one.values.var(ddof=1) / 4 + other.values.var(ddof=1) / 3)


def test_order_of_the_groups_and_of_their_networks_turns_the_sign_alone() -> None:
    one = group(-1, [0.70, 0.74, 0.71], shared=0.02, own=0.02, seed=1)
    other = group(1, [0.80, 0.85], shared=0.02, own=0.01, seed=2)
    forth = mixed_interval(0.108, [one, other], 60)
    turned = [
        Networks(-1, other.values[::-1], other.replicates[:, ::-1]),
        Networks(1, one.values, one.replicates),
    ]
    back = mixed_interval(-0.108, turned, 60)
    assert (back["low"], back["high"]) == pytest.approx((-forth["high"], -forth["low"]))
    assert back["p"] == pytest.approx(forth["p"])


def test_negative_variance_of_patients_counts_as_none() -> None:
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(500, 1)) * 0.03
    networks = Networks(1, np.array([0.8, 0.84]), np.hstack([0.8 + noise, 0.84 - noise]))
    assert patient_variance([networks]) < 0
    mixed = mixed_interval(0.82, [networks], 100)
    assert mixed["patient_sd"] == 0
    assert mixed["seed_share"] == 1
    assert mixed["high"] - 0.82 == pytest.approx(12.7062 * 0.02, rel=1e-4)  # t of one degree of freedom, s^2 / 2


def test_one_network_against_several_has_an_interval_and_no_test() -> None:
    several = group(-1, [0.70, 0.74, 0.71], shared=0.02, own=0.02, seed=1)
    single = group(1, [0.90], shared=0.02, own=0.02, seed=2)
    mixed = mixed_interval(0.18, [several, single], 200)
    assert (mixed["p"], mixed["p_reason"]) == (None, ONE_NETWORK)
    assert "p_method" not in mixed
    assert mixed["low"] > 0
    assert mixed["covers"] == "new patients, new seeds of one side only"
    assert mixed["seed_sd"] == pytest.approx(math.sqrt(several.values.var(ddof=1) / 3))


def test_equal_networks_tell_nothing_of_seeds() -> None:
    equal = group(-1, [0.8, 0.8 + 1e-15, 0.8], shared=0.02, own=0.0)
    other = group(1, [0.83, 0.84], shared=0.02, own=0.01, seed=2)
    mixed = mixed_interval(0.035, [equal, other], 200)
    assert (mixed["p"], mixed["p_reason"]) == (None, EQUAL_NETWORKS)
    alone = mixed_interval(0.8, [equal], 200)
    assert (alone["seed_sd"], alone["seed_share"], alone["covers"]) == (None, None, THESE_NETWORKS)
    assert alone["high"] - alone["low"] == pytest.approx(2 * 1.972 * 0.02, rel=0.05)


def test_what_nothing_changes_has_a_reason_and_no_number_that_is_none() -> None:
    constant = Networks(1, np.array([0.8, 0.8]), np.full((50, 2), 0.8))
    mixed = mixed_interval(0.8, [constant], 20)
    assert (mixed["low"], mixed["high"], mixed["p"]) == (None, None, None)
    assert mixed["reason"] == "neither patients nor seeds change it"
    assert not any(isinstance(value, float) and math.isnan(value) for value in mixed.values())


@pytest.mark.parametrize(
    ("free", "least", "most"), [(1, 90.5, 96.5), (2, 94.0, 96.5), (3, 94.5, 96.5), (4, 94.5, 96.5), (9, 94.5, 96.5)]
)
def test_limits_hold_the_truth_whatever_the_share_of_the_seeds(free: int, least: float, most: float) -> None:
    """Normal figures, the patients' variance known: the seeds' estimate is integrated over its distribution."""
    ratio = chi2.ppf((np.arange(1000) + 0.5) / 1000, free) / free  # of the estimate to the truth
    for share in (0.0, 0.02, 0.1, 0.3, 0.5, 0.7, 0.9, 0.98):
        totals, degrees = np.array([together((1 - share, 1e6), (share * one, free)) for one in ratio]).T
        covered = 2 * norm.cdf(student.ppf(0.975, degrees) * np.sqrt(totals)) - 1
        assert least < 100 * np.mean(covered) < most, share


def test_degrees_of_freedom_lie_between_those_of_seeds_and_patients() -> None:
    assert together((0.3, 99), (0.0, 1)) == pytest.approx((0.3, 99))
    assert together((0.0, 99), (0.3, 4)) == pytest.approx((0.3, 4))
    assert together((0.3, 100), (0.1, 2)) == pytest.approx((0.4, 1 / (0.75 / 100 + 0.25 / 2)))
    assert together((0.0, 99), (0.0, 1)) == (0.0, 1.0)


def test_true_figures_of_simulated_methods_are_the_means_over_their_networks() -> None:
    method = Method(0.3)
    rng = np.random.default_rng(0)
    networks = [
        method.truth_of(
            method.population.centre + method.seed * rng.normal(), method.population.shift + method.seed * rng.normal()
        )
        for _ in range(3000)
    ]
    for name, value in method.truth().items():
        assert value == pytest.approx(np.mean([one[name] for one in networks]), abs=5e-3)
    alone = Method(0.0)
    assert alone.truth() == alone.truth_of(alone.population.centre, alone.population.shift)
    labels, scores, _ = alone.population.support()
    exact = alone.population.truth(statistics_of(Cases(labels, scores, np.arange(len(labels)), THRESHOLD)))
    for name, value in alone.truth().items():
        assert value == pytest.approx(exact[name], abs=2e-3)


def test_figures_of_many_networks_are_those_of_each() -> None:
    rng = np.random.default_rng(4)
    clusters = np.repeat(np.arange(30), rng.integers(1, 4, 30))
    labels = (rng.random(30) < 0.4)[clusters]
    scores = rng.random((3, len(clusters))).round(1)  # with ties
    weights = rng.integers(0, 3, (5, 30))[:, clusters].astype(float)
    found = figures_of_networks(labels, scores, clusters)(weights)
    for number, row in enumerate(scores):
        ranked = WeightedRanks(labels, row).statistic([areas, decisions(THRESHOLD)])(weights)
        for figure in FIGURES:
            assert found[figure][:, number] == pytest.approx(ranked[figure]), figure


def test_simulated_networks_are_covered_about_as_often_as_they_say() -> None:
    found = measure_seed_coverage(studies=60, patients=60, resamples=60, seeds=(0.2,), numbers=(2, 5))
    entries = {(entry.figure, entry.design, entry.networks): entry for entry in found}
    assert len(entries) == 3 * 4 * 2
    for (figure, design, number), entry in entries.items():
        assert entry.studies >= 55  # where no network errs, nothing varies
        if design != MISTAKEN:
            assert 0.8 < entry.covered <= 1, (figure, design, number)
        assert 0 < entry.seed_share < 1
    # More networks leave less to their seeds; a single one stands for itself and not for its method.
    assert entries["auroc", ALONE, 5].seed_share < entries["auroc", ALONE, 2].seed_share
    shares = [np.mean([entries[f, design, 5].covered for f in FIGURES]) for design in (MISTAKEN, ONE, BOTH)]
    assert shares[0] < shares[1]


def test_the_command_shows_each_design_by_the_number_of_networks(tmp_path: Path) -> None:
    command = ["bench", "evaluation", "--seeds", "--studies", "10", "--patients", "30", "--resamples", "50"]
    result = CliRunner().invoke(app, [*command, "--markdown", "--json", str(tmp_path / "seeds.json")])
    assert result.exit_code == 0, result.output
    assert "| design | figure | seeds | S = 2 | S = 3 | S = 4 | S = 5 | S = 7 | S = 10 |" in result.output
    assert len(json.loads((tmp_path / "seeds.json").read_text(encoding="utf-8"))) == 3 * 4 * 3 * 6
    both = CliRunner().invoke(app, ["bench", "evaluation", "--seeds", "--coverage"])
    assert both.exit_code == 2
    assert "give one of them" in both.stderr
