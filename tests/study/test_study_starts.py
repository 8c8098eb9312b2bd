"""Whether a gain depends on what networks begin from: the contrast, its error, its table and the claim on it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from medsharp.errors import InputError
from training.study.comparisons import Grid, contrast, difference, start_contrast, starts
from training.study.estimate import correlated_t
from training.study.figures import contrast_variance
from training.study.verdicts import decide

from .grids import simulated, study_of

NETWORKS = ("small", "large")
PARTS = ("internal", "external south")


@pytest.fixture(scope="module")
def scratch_gains() -> Grid:
    """SAM helps the small network alone, ASAM both by as much, GSAM harms the large one."""
    effects = {
        "adam": 0.0,
        "sam": {"small": 0.5, "large": 0.0},
        "asam": {"small": 0.3, "large": 0.3},
        "gsam": {"small": 0.0, "large": -0.4},
    }
    return simulated(effects, chance=0.01)


def gains(grid: Grid, network: str, optimizer: str, part: str) -> pd.Series:
    """By fold, seeds averaged."""
    ours, theirs = (
        grid.select("north", [network], name, part).groupby("fold")["auroc"].mean() for name in (optimizer, "adam")
    )
    return ours - theirs


@pytest.mark.parametrize("part", PARTS)
def test_more_from_scratch_is_the_gain_there_less_the_gain_when_pretrained(scratch_gains: Grid, part: str) -> None:
    found = start_contrast(scratch_gains, "north", NETWORKS, {"large"}, "sam", "adam", part)
    assert found is not None
    by_fold = gains(scratch_gains, "small", "sam", part) - gains(scratch_gains, "large", "sam", part)
    assert found.value == pytest.approx(by_fold.mean())
    assert found.value > 0.04
    turned = start_contrast(scratch_gains, "north", NETWORKS, {"small"}, "sam", "adam", part)
    assert turned is not None
    assert turned.value == pytest.approx(-found.value)
    harmed = start_contrast(scratch_gains, "north", NETWORKS, {"large"}, "gsam", "adam", part)
    assert harmed is not None
    assert harmed.value > 0.02  # less is lost from scratch


def test_the_error_of_a_contrast_is_that_of_its_folds_and_elsewhere_of_patients_too(scratch_gains: Grid) -> None:
    internal, external = (
        start_contrast(scratch_gains, "north", NETWORKS, {"large"}, "sam", "adam", part) for part in PARTS
    )
    assert internal is not None
    assert external is not None
    of_folds = {
        part: correlated_t(
            (gains(scratch_gains, "small", "sam", part) - gains(scratch_gains, "large", "sam", part)).to_numpy(), 0.5
        )
        for part in PARTS
    }
    assert (internal.error, internal.free) == pytest.approx((of_folds["internal"].error, 3))
    select = scratch_gains.select
    four = [select("north", [network], name, PARTS[1]) for network in NETWORKS for name in ("sam", "adam")]
    weights = np.repeat([1 / 8, -1 / 8, -1 / 8, 1 / 8], 8)  # four folds of two seeds each
    tables = scratch_gains.predictions([run for table in four for run in table["run"]], PARTS[1])
    patients = contrast_variance(tables, weights, "malignant")
    assert patients > 0
    assert external.error**2 == pytest.approx(patients + of_folds[PARTS[1]].error ** 2)


def test_weights_of_networks_are_those_asked_for(scratch_gains: Grid) -> None:
    found = contrast(scratch_gains, "north", {"small": 0.25, "large": 0.75}, "gsam", "adam", "internal")
    assert found is not None
    small, large = (gains(scratch_gains, name, "gsam", "internal").mean() for name in NETWORKS)
    assert found.value == pytest.approx(0.25 * small + 0.75 * large)
    both = difference(scratch_gains, "north", NETWORKS, "gsam", "adam", "internal")
    assert both is not None
    assert both.value == pytest.approx((small + large) / 2)


def test_no_contrast_of_networks_that_begin_alike_or_lack_a_run_of_both_optimizers(scratch_gains: Grid) -> None:
    for pretrained in (set(), set(NETWORKS)):
        assert start_contrast(scratch_gains, "north", NETWORKS, pretrained, "sam", "adam", "internal") is None
        assert starts(scratch_gains, pretrained, ["adam", "sam"], "adam", 0.01) == []
    table = scratch_gains.figures
    # Missing in both, pairs are whole, and a fold would be of one network alone.
    gone = (table["fold"] == 1) & (table["network"] == "large") & table["optimizer"].isin(["adam", "sam"])
    less = Grid(table[~gone], scratch_gains.readings, "malignant")
    assert start_contrast(less, "north", NETWORKS, {"large"}, "sam", "adam", "internal") is None
    seed = (table["fold"] == 1) & (table["network"] == "large") & (table["seed"] == 1)
    less = Grid(table[~seed], scratch_gains.readings, "malignant")
    assert start_contrast(less, "north", NETWORKS, {"large"}, "sam", "adam", "internal") is None


def test_every_place_has_both_gains_and_what_one_is_more(scratch_gains: Grid) -> None:
    found = starts(scratch_gains, {"large"}, ["adam", "sam", "asam", "gsam"], "adam", 0.01)
    places = {(one["hospital"], one["part"], one["optimizer"]): one for one in found}
    assert len(places) == len(found) == 2 * 2 * 3
    one = places["north", "external south", "sam"]
    small, large = (gains(scratch_gains, name, "sam", "external south").mean() for name in NETWORKS)
    assert one["scratch"]["value"] == pytest.approx(small)
    assert one["pretrained"]["value"] == pytest.approx(large)
    assert one["more"]["value"] == pytest.approx(small - large)


def test_a_claim_of_more_from_scratch_is_decided_by_the_contrast_alone(scratch_gains: Grid) -> None:
    claims = [{"name": optimizer, "says": "more_from_scratch", "optimizer": optimizer} for optimizer in ("sam", "asam")]
    study = study_of(*claims, pretrained=["large"])
    verdicts = [decide(study, scratch_gains, claim)["verdict"] for claim in study.claims]
    assert verdicts == ["supported", "contradicted"]  # ASAM improves both, and neither by more
    other = study_of(*claims, pretrained=["small"])
    turned = decide(other, scratch_gains, other.claims[0])
    assert turned["verdict"] == "contradicted"
    assert turned["difference"]["value"] < -0.04


def test_a_claim_on_starts_needs_networks_of_both() -> None:
    claim = {"name": "more", "says": "more_from_scratch", "optimizer": "sam"}
    for pretrained in ((), NETWORKS):
        with pytest.raises(InputError, match="claim 'more' needs networks from scratch and pretrained ones"):
            study_of(claim, pretrained=pretrained)
    with pytest.raises(InputError, match="needs networks from scratch"):
        study_of({**claim, "networks": ["small"]}, pretrained=["large"])
