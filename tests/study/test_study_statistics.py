"""Estimates, comparisons and verdicts, on numbers whose answer is known."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy import integrate, stats
from sklearn.metrics import roc_auc_score

from training.study.comparisons import Grid, comparisons, difference, level
from training.study.estimate import Estimate, correlated_t, together
from training.study.figures import contrast_variance
from training.study.flatness import correlations, generalization_gaps, ratios_to_reference
from training.study.mixed_model import fit_mixed_model, look_at_residuals
from training.study.verdicts import decide, improvement, inconsistent

from .grids import simulated, study_of

DIFFERENCES = np.array([0.031, -0.004, 0.012, 0.022, 0.009])


def test_the_correlated_t_test_is_that_of_nadeau_and_bengio() -> None:
    found = correlated_t(DIFFERENCES, 0.4)
    statistic = DIFFERENCES.mean() / math.sqrt((1 / 5 + 0.4) * DIFFERENCES.var(ddof=1))
    assert found.value == pytest.approx(0.014)
    assert found.p == pytest.approx(2 * stats.t.sf(statistic, 4))
    # Folds that shared nothing would be the ordinary paired test.
    ordinary = stats.ttest_1samp(DIFFERENCES, 0)
    assert correlated_t(DIFFERENCES, 0.0).p == pytest.approx(ordinary.pvalue)
    assert correlated_t(DIFFERENCES, 0.0).interval == pytest.approx(tuple(ordinary.confidence_interval()))


def test_posterior_probabilities_are_areas_of_the_shifted_t() -> None:
    found = correlated_t(DIFFERENCES, 0.25)
    density = stats.t(4, loc=found.value, scale=found.error).pdf
    masses = found.masses(0.01)
    assert masses["better"] == pytest.approx(integrate.quad(density, 0.01, np.inf)[0], abs=1e-8)
    assert masses["equivalent"] == pytest.approx(integrate.quad(density, -0.01, 0.01)[0], abs=1e-8)
    assert masses["worse"] == pytest.approx(integrate.quad(density, -np.inf, -0.01)[0], abs=1e-8)
    assert sum(masses.values()) == pytest.approx(1)
    assert masses["better"] > masses["equivalent"] > masses["worse"]


def test_the_smallest_difference_seen_has_the_power_that_it_says() -> None:
    free, error = 30, 0.02
    true = Estimate(0.0, error, free).smallest_seen()
    rng = np.random.default_rng(0)
    scale = np.sqrt(rng.chisquare(free, 40_000) / free)
    found = np.abs(true / error + rng.standard_normal(40_000)) / scale > stats.t.ppf(0.975, free)
    assert found.mean() == pytest.approx(0.8, abs=0.01)


def test_parts_of_a_variance_add_up_with_their_degrees_of_freedom() -> None:
    found = Estimate.of_parts(0.5, [(0.0004, 200), (0.0005, 4)])
    assert found.error == pytest.approx(0.03)
    assert found.free == pytest.approx(0.0009**2 / (0.0004**2 / 200 + 0.0005**2 / 4))
    mean = together([Estimate(0.01, 0.02, 4), Estimate(0.05, 0.04, 9)])
    assert (mean.value, mean.error, mean.free) == (pytest.approx(0.03), pytest.approx(0.03), 4)


@pytest.fixture(scope="module")
def better() -> Grid:
    return simulated({"adam": 0.0, "sam": 0.4, "asam": 0.0})


def test_figures_are_those_of_scikit_learn_on_each_part(better: Grid) -> None:
    row = better.figures[better.figures["part"] == "internal"].iloc[3]
    table = better.predictions([row["run"]], "internal")[0]
    labels = table["label"] == "malignant"
    assert row["auroc"] == pytest.approx(roc_auc_score(labels, table["p_malignant"]))
    assert row["brier"] == pytest.approx(((table["p_malignant"] - labels) ** 2).mean())
    true = np.where(labels, table["p_malignant"], table["p_benign"])
    assert row["log_loss"] == pytest.approx(-np.log(true).mean())


def test_a_difference_is_paired_and_has_the_sign_of_the_better_one(better: Grid) -> None:
    for part in ("internal", "external south"):
        found = difference(better, "north", ["small"], "sam", "adam", part)
        back = difference(better, "north", ["small"], "adam", "sam", part)
        assert found is not None
        assert back is not None
        ours, theirs = (better.select("north", ["small"], name, part)["auroc"].mean() for name in ("sam", "adam"))
        assert found.value == pytest.approx(ours - theirs)
        assert found.value > 0.03
        assert back.value == pytest.approx(-found.value)
        assert back.error == pytest.approx(found.error)
        # Pairing takes away what images and folds share: the difference of equals is known better than either mean.
        alone = level(better, "north", "small", "adam", part)
        equals = difference(better, "north", ["small"], "asam", "adam", part)
        assert alone is not None
        assert equals is not None
        assert equals.error < alone.error / 2


def test_internal_differences_are_the_correlated_test_over_folds_with_seeds_averaged(better: Grid) -> None:
    found = difference(better, "south", ["small", "large"], "sam", "adam", "internal")
    assert found is not None
    ours, theirs = (
        better.select("south", ["small", "large"], name, "internal").groupby("fold")["auroc"].mean()
        for name in ("sam", "adam")
    )
    expected = correlated_t(
        (ours - theirs).to_numpy(), 0.5
    )  # half as many images are tested as trained on, in the simulation
    assert (found.value, found.error, found.free) == pytest.approx((expected.value, expected.error, 3))


def test_external_differences_add_patients_and_trainings(better: Grid) -> None:
    found = difference(better, "north", ["small"], "sam", "adam", "external south")
    assert found is not None
    ours, theirs = (better.select("north", ["small"], name, "external south") for name in ("sam", "adam"))
    runs = [*ours["run"], *theirs["run"]]
    tables = better.predictions(runs, "external south")
    weights = np.r_[np.full(8, 1 / 8), np.full(8, -1 / 8)]
    patients = contrast_variance(tables, weights, "malignant")
    by_fold = ours.groupby("fold")["auroc"].mean() - theirs.groupby("fold")["auroc"].mean()
    trainings = (1 / 4 + 0.5) * by_fold.var(ddof=1)
    assert patients > 0
    assert found.error**2 == pytest.approx(patients + trainings)


def test_patients_variance_of_a_contrast_agrees_with_resampling(better: Grid) -> None:
    ours, theirs = (better.select("north", ["small"], name, "internal") for name in ("sam", "adam"))
    pair = better.predictions([ours["run"].iloc[0], theirs["run"].iloc[0]], "internal")
    rng = np.random.default_rng(0)
    labels = (pair[0]["label"] == "malignant").to_numpy()
    scores = [table["p_malignant"].to_numpy() for table in pair]
    drawn = []
    for _ in range(1500):
        rows = rng.integers(len(labels), size=len(labels))
        drawn.append(np.subtract(*(roc_auc_score(labels[rows], one[rows]) for one in scores)))
    assert contrast_variance(pair, np.array([1.0, -1.0]), "malignant") == pytest.approx(np.var(drawn), rel=0.2)


def test_how_many_cells_of_a_fold_are_finished_does_not_weigh_it(better: Grid) -> None:
    table = better.figures.copy()
    tested = table["part"] == "internal"
    table.loc[tested, "images"] = 100 + 40 * table["fold"]
    table.loc[table["part"] == "train", "images"] = 600 - 40 * table["fold"]
    table.loc[table["hospital"] == "south", "images"] *= 2
    early = table[(table["optimizer"] == "adam") | (table["fold"] == 0)]
    for figures in (table, early):
        grid = Grid(figures, better.readings, "malignant")
        assert grid.test_share("north") == pytest.approx(160 / 540)
        found = difference(grid, "north", ["small"], "adam", "adam", "internal")
        assert found is not None


def test_a_missing_run_leaves_no_comparison_rather_than_an_unpaired_one(better: Grid) -> None:
    gone = better.select("north", ["small"], "sam", "internal")["run"].iloc[0]
    less = Grid(better.figures[better.figures["run"] != gone], better.readings, "malignant")
    assert difference(less, "north", ["small"], "sam", "adam", "internal") is None
    assert difference(less, "north", ["large"], "sam", "adam", "internal") is not None


def test_every_place_is_compared_once(better: Grid) -> None:
    found = comparisons(better, ["adam", "sam", "asam"], "adam", 0.01)
    places = [(one["hospital"], one["network"], one["part"], one["optimizer"]) for one in found]
    assert len(places) == len(set(places)) == 2 * 2 * 2 * 2
    assert not any(one[3] == "adam" for one in places)


def test_budgets_that_train_longer_and_gap_more_make_no_correlation_within_them(better: Grid) -> None:
    gaps = generalization_gaps(better.figures)
    rng = np.random.default_rng(0)
    # Longer trainings are sharper and gap more; within a budget neither says anything of the other.
    longer = gaps.assign(run=gaps["run"] + "longer", budget="gradients")
    both = pd.concat([gaps, longer], ignore_index=True)
    both["loss_gap"] = (both["budget"] == "gradients") + 0.1 * rng.standard_normal(len(both))
    values = {
        run: {"sharp": float(budget == "gradients") + 0.1 * rng.standard_normal()}
        for run, budget in zip(both["run"], both["budget"], strict=True)
    }
    found = {one["scope"]: one for one in correlations(both, values, 0) if one["gap"] == "loss_gap"}
    assert found["within networks and hospitals"]["value"] > 0.6
    apart = found["within networks, hospitals and budgets"]
    assert apart["low"] < 0 < apart["high"]
    # A run that both budgets share is one run of each.
    shared = pd.concat([gaps, gaps.assign(budget="gradients")], ignore_index=True)
    mine = {run: {"sharp": gap} for run, gap in zip(gaps["run"], gaps["loss_gap"], strict=True)}
    scopes = {one["scope"]: one for one in correlations(shared, mine, 0) if one["gap"] == "loss_gap"}
    assert scopes["within networks, hospitals and budgets"]["value"] == pytest.approx(1)


@pytest.mark.parametrize(
    ("effect", "improves", "denied"),
    [(0.4, "supported", "contradicted"), (-0.4, "contradicted", "supported"), (0.0, "contradicted", "supported")],
)
def test_a_known_shift_decides_a_claim_and_its_denial(effect: float, improves: str, denied: str) -> None:
    grid = simulated({"adam": 0.0, "sam": effect, "asam": 0.0}, chance=0.005)
    study = study_of(
        {"name": "it helps", "says": "improves", "optimizer": "sam"},
        {"name": "it does not", "says": "does_not_improve", "optimizer": "sam"},
    )
    verdicts = [decide(study, grid, claim) for claim in study.claims]
    assert [one["verdict"] for one in verdicts] == [improves, denied]
    assert math.copysign(1, verdicts[0]["difference"]["value"]) == math.copysign(1, effect) or effect == 0


def test_too_much_chance_leaves_a_claim_undecided_and_missing_runs_too(better: Grid) -> None:
    study = study_of({"name": "it helps", "says": "improves", "optimizer": "sam"})
    noisy = simulated({"adam": 0.0, "sam": 0.1, "asam": 0.0}, chance=0.5)
    assert decide(study, noisy, study.claims[0])["verdict"] == "undecided"
    rows = better.figures[~((better.figures["optimizer"] == "sam") & (better.figures["network"] == "large"))]
    lacking = decide(study, Grid(rows, better.readings, "malignant"), study.claims[0])
    assert lacking["verdict"] == "undecided"
    assert lacking["reason"] == "runs of it are missing"


def test_an_inconsistent_claim_counts_places_at_the_level_that_decides(better: Grid) -> None:
    study = study_of(
        {"name": "here and there", "says": "inconsistent", "optimizer": "sam"},
        {"name": "it helps", "says": "improves", "optimizer": "sam"},
    )
    noisy = simulated({"adam": 0.0, "sam": 0.15, "asam": 0.0}, chance=0.02)
    apart, mean = (decide(study, noisy, claim) for claim in study.claims)
    single = [
        one
        for hospital, other in (("north", "south"), ("south", "north"))
        for part in ("internal", f"external {other}")
        for network in ("small", "large")
        if (one := difference(noisy, hospital, [network], "sam", "adam", part)) is not None
    ]
    assert apart["places"] == mean["places"] == len(single) == 8
    assert apart["place_probability"] == pytest.approx(1 - 0.05 / 8)
    assert mean["place_probability"] == 0.95
    shares = [one.masses(0.01)["better"] for one in single]  # type: ignore[index]
    assert apart["better_places"] == sum(share >= 1 - 0.05 / 8 for share in shares)
    assert mean["better_places"] == sum(share >= 0.95 for share in shares)
    assert mean["better_places"] > apart["better_places"]
    seen = [one.smallest_seen() for one in single]
    assert apart["smallest_seen"] == [pytest.approx(min(seen)), pytest.approx(max(seen))]
    assert apart["range"] == [min(one.value for one in single), max(one.value for one in single)]
    assert mean["smallest_seen"] == [mean["difference"]["smallest_seen"]] * 2


def masses(worse: float, better: float) -> dict[str, float]:
    return {"worse": worse, "equivalent": 1 - worse - better, "better": better}


def test_rules_at_their_limits() -> None:
    assert improvement(masses(0.0, 0.95), 0.95, True) == "supported"
    assert improvement(masses(0.0, 0.949), 0.95, True) == "undecided"
    assert improvement(masses(0.2, 0.05), 0.95, True) == "contradicted"
    assert improvement(masses(0.2, 0.05), 0.95, False) == "supported"
    # Two places: each must be beyond 1 - .05 / 2.
    assert inconsistent([masses(0.0, 0.976), masses(0.976, 0.0)], 0.95) == "supported"
    assert inconsistent([masses(0.0, 0.976), masses(0.96, 0.0)], 0.95) == "undecided"
    assert inconsistent([masses(0.0, 0.96), masses(0.0, 0.97)], 0.95) == "contradicted"
    assert inconsistent([masses(0.02, 0.02), masses(0.01, 0.0)], 0.95) == "contradicted"
    assert inconsistent([masses(0.0, 0.96), masses(0.02, 0.02)], 0.95) == "undecided"


def test_the_mixed_model_finds_effects_and_variances_that_were_put_in() -> None:
    rng = np.random.default_rng(1)
    folds, networks = rng.normal(0, 0.03, 12), rng.normal(0, 0.05, 6)
    rows = [
        {
            "hospital": "north",
            "part": "internal",
            "network": f"n{network}",
            "fold": fold,
            "seed": seed,
            "optimizer": name,
            "auroc": 0.8 + effect + folds[fold] + networks[network] + rng.normal(0, 0.01),
        }
        for fold in range(12)
        for network in range(6)
        for seed in range(2)
        for name, effect in (("adam", 0.0), ("sam", 0.02), ("asam", -0.01))
    ]
    found = fit_mixed_model(pd.DataFrame(rows), "adam")
    assert set(found["optimizers"]) == {"sam", "asam"}
    assert found["optimizers"]["sam"]["value"] == pytest.approx(0.02, abs=0.004)
    assert found["optimizers"]["asam"]["value"] == pytest.approx(-0.01, abs=0.004)
    assert found["optimizers"]["asam"]["high"] < 0 < found["optimizers"]["sam"]["low"]
    assert found["variances"]["residual"] ** 0.5 == pytest.approx(0.01, rel=0.15)
    assert found["variances"]["fold"] ** 0.5 == pytest.approx(folds.std(ddof=1), rel=0.3)
    assert found["variances"]["network"] ** 0.5 == pytest.approx(networks.std(ddof=1), rel=0.4)
    assert "reason" in fit_mixed_model(pd.DataFrame(rows[:6]), "adam")


def test_residuals_that_break_the_model_are_told() -> None:
    rng = np.random.default_rng(0)
    groups = np.repeat(["a", "b"], 100)
    good = look_at_residuals(rng.standard_normal(200), groups)
    assert good["sentences"] == ["residuals look normal and equally spread"]
    bad = look_at_residuals(np.r_[rng.standard_normal(100), 6 * rng.standard_t(2, 100)], groups)
    assert any("not normal" in one for one in bad["sentences"])
    assert any("unequally" in one for one in bad["sentences"])


def test_sharpness_is_told_in_times_of_the_references_own_run(better: Grid) -> None:
    rng = np.random.default_rng(3)
    cells = better.figures.drop_duplicates("run")
    level = {(place, fold): rng.normal() for place in ("small", "large") for fold in range(4)}
    more = {(place, fold): rng.normal() for place in ("north", "south") for fold in range(4)}
    values = {}
    for row in cells.to_dict("records"):
        # Half as sharp in the small network, an eighth in the large one; in each fold somewhat more or less.
        own = {"adam": 0.0, "asam": 2.0, "sam": math.log(0.5 if row["network"] == "small" else 0.125)}[row["optimizer"]]
        own += more[row["hospital"], row["fold"]] if row["optimizer"] == "sam" else 0.0
        sharp = math.exp(level[row["network"], row["fold"]] + own)
        values[row["run"]] = {"sharp": sharp, "flat": -1.0 if row["seed"] == 1 else 3 * sharp}
    found = {(one["optimizer"], one["measure"]): one for one in ratios_to_reference(better.figures, values, "adam")}
    assert set(found) == {(name, measure) for name in ("sam", "asam") for measure in ("sharp", "flat")}
    sam = found["sam", "sharp"]
    expected = together(
        [
            correlated_t(math.log(0.25) + np.array([more[place, fold] for fold in range(4)]), 150 / 300)
            for place in ("north", "south")
        ]
    )
    assert expected.interval is not None
    assert [math.log(sam[key]) for key in ("value", "low", "high")] == pytest.approx(
        [expected.value, *expected.interval], abs=1e-9
    )
    assert (sam["pairs"], found["sam", "flat"]["pairs"], sam["budget"]) == (32, 16, "epochs")
    assert found["sam", "flat"]["value"] == pytest.approx(sam["value"])
    steady = found["asam", "sharp"]
    assert (steady["value"], steady["low"], steady["high"]) == (pytest.approx(math.exp(2)), None, None)
    assert sam["hospitals"] == ["north", "south"]
    one = better.figures[(better.figures["hospital"] == "south") | (better.figures["optimizer"] != "sam")]
    alone = next(each for each in ratios_to_reference(one, values, "adam") if each["optimizer"] == "sam")
    assert (alone["hospitals"], alone["pairs"]) == (["south"], 16)
    south = math.log(0.25) + np.array([more["south", fold] for fold in range(4)])
    assert math.log(alone["value"]) == pytest.approx(south.mean())
    nothing = ratios_to_reference(better.figures, {run: {"sharp": -1.0} for run in values}, "adam")
    assert {(one["pairs"], one["value"], one["low"]) for one in nothing} == {(0, None, None)}


def test_sharpness_is_ranked_against_the_gap_overall_and_within_networks(better: Grid) -> None:
    gaps = generalization_gaps(better.figures)
    first = gaps.iloc[0]
    own = better.figures[better.figures["run"] == first["run"]].set_index("part")
    assert first["auroc_gap"] == pytest.approx(own.loc["train", "auroc"] - own.loc["internal", "auroc"])
    assert first["loss_gap"] == pytest.approx(own.loc["internal", "log_loss"] - own.loc["train", "log_loss"])
    assert (gaps["loss_gap"] > 0).all()
    # Of a measure that follows the gap inside networks, but is higher in the network whose runs gap less.
    shift = gaps["network"].map({"small": 10.0, "large": 0.0})
    values = {
        run: {"follows": gap, "against": -gap, "shifted": gap + 100 * more}
        for run, gap, more in zip(gaps["run"], gaps["loss_gap"], shift, strict=True)
    }
    found = {(one["measure"], one["gap"], one["scope"]): one for one in correlations(gaps, values, 0)}
    assert found["follows", "loss_gap", "overall"]["value"] == pytest.approx(1)
    assert found["against", "loss_gap", "overall"]["value"] == pytest.approx(-1)
    assert found["shifted", "loss_gap", "within networks and hospitals"]["value"] == pytest.approx(1)
    assert abs(found["shifted", "loss_gap", "overall"]["value"]) < 0.9
    assert found["follows", "loss_gap", "overall"]["low"] == pytest.approx(1)


def null_cells(rng: np.random.Generator, *, networks: int = 3, places: int = 2) -> pd.DataFrame:
    """Cells of optimizers that differ by network and hospital alone, and have the same mean effect."""
    settings = [(f"n{network}", f"h{place}") for network in range(networks) for place in range(places)]
    levels = {setting: 0.8 + rng.normal(0, 0.04) for setting in settings}
    own = {(name, *setting): rng.normal(0, 0.015) for name in ("adam", "sam", "asam", "gsam") for setting in settings}
    folds = {(f"h{place}", fold): rng.normal(0, 0.03) for place in range(places) for fold in range(4)}
    return pd.DataFrame(
        [
            {"hospital": hospital, "part": "internal", "network": network, "fold": fold, "seed": 0, "optimizer": name}
            | {"auroc": levels[network, hospital] + effect + folds[hospital, fold] + rng.normal(0, 0.01)}
            for (name, network, hospital), effect in own.items()
            for fold in range(4)
        ]
    )


def test_the_mixed_model_rarely_finds_what_is_not_there() -> None:
    p = []
    for seed in range(40):
        found = fit_mixed_model(null_cells(np.random.default_rng(seed)), "adam")
        assert found["degrees_of_freedom"] == 4 * 6 - 4 - 5
        p += [entry["p"] for entry in found["optimizers"].values()]
        for entry in found["optimizers"].values():
            assert (entry["p"] < 0.05) == (not entry["low"] <= 0 <= entry["high"])
    # 6 of 120 are expected at 5 %; 14 or more come by chance once in five hundred times.
    assert np.mean(np.array(p) < 0.05) < 14 / 120
    assert np.mean(np.array(p) < 0.5) > 0.3


def test_the_mixed_model_says_where_it_takes_cells_as_independent() -> None:
    alone = fit_mixed_model(null_cells(np.random.default_rng(0), networks=1, places=1), "adam")
    assert alone["degrees_of_freedom"] is None
    assert "optimizer:network:place" not in alone["variances"]
    assert "no variance of optimizer:network:place: each optimizer has one network and place only" in alone["notes"]
    both = fit_mixed_model(null_cells(np.random.default_rng(0)), "adam")
    assert both["variances"]["optimizer:network:place"] ** 0.5 == pytest.approx(0.015, rel=0.4)
    assert both["variances"]["network:place"] > 0
