"""The variances of seeds and patients: each counted once, from its own group, and never below 0 or made up."""

from __future__ import annotations

import math

import numpy as np
import pytest

from medsharp.evaluation.comparison.seeds import (
    EQUAL_NETWORKS,
    ONE_NETWORK,
    THESE_NETWORKS,
    Networks,
    mixed_interval,
    patient_variance,
)


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
