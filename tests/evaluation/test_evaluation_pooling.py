"""What hospitals come to together, through `medsharp score`, against values recorded from R's metafor.

`recorded/metafor.R` recorded them; the tests need no R. What these tests are for: a site's variance halved; only the
sites that a page lists summarised; weights given to other sites; tau^2 and a variance swapped; a prediction interval
without tau^2; Hartung and Knapp's factor dropped; images counted instead of patients.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import brentq, minimize_scalar
from scipy.special import expit
from scipy.stats import binom, norm
from scipy.stats import t as student
from typer.testing import CliRunner

from medsharp.cli import app
from medsharp.evaluation.sites import Site, site_of, summarise_sites
from medsharp.evaluation.statistics.binomial_normal import binomial_normal, maximum
from medsharp.evaluation.statistics.bootstrap import bootstrap
from medsharp.evaluation.statistics.calibration import probability_scores
from medsharp.evaluation.statistics.delong import area_intervals
from medsharp.evaluation.statistics.figures import Cases
from medsharp.evaluation.statistics.intervals import perfect_auroc
from medsharp.evaluation.statistics.pooling import BINOMIAL, NORMAL, pool_effects, pool_shares
from medsharp.evaluation.statistics.random_effects import random_effects
from medsharp.evaluation.statistics.simulated_study import Population
from medsharp.evaluation.statistics.site_effects import (
    area_effect,
    effective_counts,
    log_odds,
    probability_effects,
    share_of,
)

RECORDED = json.loads((Path(__file__).parent / "recorded" / "metafor.json").read_text(encoding="utf-8"))


def hospitals(found: list[int], cancers: list[int], *, images: int = 1, benign: int = 25) -> pd.DataFrame:
    """Sites `00`, `01`, ... with so many cancers found, and benign patients of whom some are flagged."""
    rows = []
    for site, (hits, count) in enumerate(zip(found, cancers, strict=True)):
        # Probabilities on both sides of 0.5, no two sites alike.
        rows += [
            (site, "malignant", 0.6 + 0.3 * i / count if i < hits else 0.4 - 0.3 * i / count) for i in range(count)
        ]
        rows += [(site, "benign", 0.55 if i % (4 + site % 3) == 0 else 0.1 + 0.01 * i) for i in range(benign + site)]
    table = pd.DataFrame(rows, columns=["site", "label", "p_malignant"])
    table["patient"] = [f"patient {number}" for number in range(len(table))]
    table = pd.concat([table.assign(image=[f"{n}-{copy}" for n in range(len(table))]) for copy in range(images)])
    return table.assign(p_benign=1 - table["p_malignant"], site=[f"{site:02d}" for site in table["site"]])


def score(table: pd.DataFrame, folder: Path) -> dict[str, Any]:
    path = folder / "predictions.csv"
    table.to_csv(path, index=False)
    arguments = ["score", str(path), "--threshold", "0.5", "--resamples", "100", "--out", str(folder / "out")]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    entry = json.loads((folder / "out" / "evaluation.json").read_text(encoding="utf-8"))["datasets"][0]
    assert isinstance(entry, dict)
    return entry


@pytest.mark.parametrize("case", ["scanners", "hospitals", "many"])
def test_score_summarises_sites_as_metafor_does(case: str, tmp_path: Path) -> None:
    recorded = RECORDED[case]
    entry = score(hospitals(recorded["x"], recorded["n"]), tmp_path)
    summary, other = entry["site_summary"]["figures"]["sensitivity"], recorded["hartung_knapp"]
    assert summary["method"] == NORMAL
    assert (summary["value"], summary["low"], summary["high"]) == pytest.approx(
        [expit(other[key]) for key in ("mean", "low", "high")], abs=1e-6
    )
    assert [summary[key] for key in ("tau2", "q", "q_p", "i2")] == pytest.approx(
        [other[key] for key in ("tau2", "q", "q_p", "i2")], abs=1e-6
    )
    if case == "scanners":  # As the documentation prints it.
        assert [round(summary[key], 4) for key in ("value", "low", "high")] == [0.9623, 0.9447, 0.9744]
    count = len(recorded["n"])
    assert [row["name"] for row in summary["sites"]] == [f"{site:02d}" for site in range(count)]
    assert [row["weight"] for row in summary["sites"]] == pytest.approx(other["weights"], abs=1e-6)
    assert [row["value"] for row in summary["sites"]] == pytest.approx(np.divide(recorded["x"], recorded["n"]))
    # What the next hospital may see: k - 2 degrees of freedom, and the spread between hospitals beside the error.
    reach = student.ppf(0.975, count - 2) * math.sqrt(other["tau2"] + other["error"] ** 2)
    assert summary["prediction_low"] == pytest.approx(expit(other["mean"] - reach), abs=1e-6)
    assert summary["prediction_high"] == pytest.approx(expit(other["mean"] + reach), abs=1e-6)


def test_all_sites_are_summarised_though_forty_are_listed(tmp_path: Path) -> None:
    recorded = RECORDED["many"]
    entry = score(hospitals(recorded["x"], recorded["n"]), tmp_path)
    assert len([group for group in entry["subgroups"] if group["by"] == "site"]) == 40
    for name, summary in entry["site_summary"]["figures"].items():
        assert sum(row["weight"] > 0 for row in summary["sites"]) == 45, name
        assert all(row["low"] < row["value"] < row["high"] for row in summary["sites"]), name
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "The summary is over all 45, of which the 40 largest are drawn." in page


def test_site_without_cancer_has_no_weight_and_moves_no_other_s(tmp_path: Path) -> None:
    recorded = RECORDED["hospitals"]
    found, cancers = [*recorded["x"][:2], 0, *recorded["x"][2:]], [*recorded["n"][:2], 0, *recorded["n"][2:]]
    rows = score(hospitals(found, cancers), tmp_path)["site_summary"]["figures"]["sensitivity"]["sites"]
    assert (rows[2]["weight"], rows[2]["value"]) == (None, None)
    weights = [row["weight"] for row in rows if row["weight"] is not None]
    assert weights == pytest.approx(recorded["hartung_knapp"]["weights"], abs=1e-6)


def test_copies_of_every_image_change_nothing(tmp_path: Path) -> None:
    recorded = RECORDED["hospitals"]
    summary = score(hospitals(recorded["x"], recorded["n"], images=3), tmp_path)["site_summary"]["figures"][
        "sensitivity"
    ]
    for key in ("mean", "low", "high"):
        name = "value" if key == "mean" else key
        assert summary[name] == pytest.approx(expit(recorded["hartung_knapp"][key]), abs=1e-6)


def test_three_sites_of_one_miss_each_leave_neither_nothing_nor_everything_open(tmp_path: Path) -> None:
    summary = score(hospitals([29, 29, 29], [30, 30, 30]), tmp_path)["site_summary"]["figures"]["sensitivity"]
    assert summary["method"] == BINOMIAL
    assert summary["value"] == pytest.approx(29 / 30)
    assert 0.8 < summary["low"] < 0.9
    assert 0.98 < summary["high"] < 1
    assert "agree too well" in summary["normal_normal"]["reason"]


def test_sites_that_miss_nothing_have_a_lower_limit_and_a_page(tmp_path: Path) -> None:
    entry = score(hospitals([30, 20, 25], [30, 20, 25]), tmp_path)
    summary = entry["site_summary"]["figures"]["sensitivity"]
    assert (summary["value"], summary["high"], summary["prediction_low"]) == (1, 1, None)
    assert 0.8 < summary["low"] < 0.95
    assert "binomial-normal" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("case", RECORDED)
def test_binomial_normal_is_metafor_s(case: str) -> None:
    x, n = (np.array(RECORDED[case][key], dtype=float) for key in "xn")
    mean, tau = maximum(x, n)
    other = RECORDED[case]["binomial_normal"]
    assert mean == pytest.approx(other["mean"], abs=5e-4)
    assert tau**2 == pytest.approx(other["tau2"], abs=2e-3)
    if other["tau2"] == 0:
        share = x.sum() / n.sum()
        assert binomial_normal(x, n).weights == pytest.approx(n / n.sum())
        assert other["error"] == pytest.approx((n.sum() * share * (1 - share)) ** -0.5, abs=1e-6)


def test_hartung_knapp_is_never_narrower_only_where_sites_agree_by_chance() -> None:
    recorded = RECORDED["scanners"]["hartung_knapp"]
    effects, variances = np.array(recorded["effects"]), np.array(recorded["variances"])
    found = random_effects(effects, variances)
    assert (found.low, found.high) == (pytest.approx(recorded["low"]), pytest.approx(recorded["high"]))
    nearer = random_effects(found.mean + 0.1 * (effects - found.mean), variances)
    other = RECORDED["scanners"]["never_narrower"]
    assert nearer.high - nearer.low == pytest.approx(other["high"] - other["low"], rel=1e-6)


def test_sparse_counts_are_summarised_as_counts() -> None:
    x, n = (np.array(RECORDED["sparse"][key]) for key in "xn")
    pooled = pool_shares(x, n)
    assert pooled.method == BINOMIAL
    assert pooled.found.mean == pytest.approx(RECORDED["sparse"]["binomial_normal"]["mean"], abs=1e-5)
    assert pooled.normal is not None
    assert pooled.normal.mean == pytest.approx(RECORDED["sparse"]["hartung_knapp"]["mean"])
    assert "biased" in pooled.reason


def test_limits_of_the_binomial_normal_model_are_those_of_its_profile_likelihood() -> None:
    x, n = np.array([4.0, 18.0, 29.0, 9.0]), np.array([10.0, 20.0, 30.0, 15.0])

    grid = np.linspace(-8, 8, 2001)[:, None]

    def likelihood(mu: float, tau: float) -> float:
        inside = binom.pmf(x, n, expit(mu + tau * grid)) * norm.pdf(grid)
        return float(np.log(np.trapezoid(inside, dx=16 / 2000, axis=0)).sum())

    def profile(mu: float) -> float:
        return -minimize_scalar(lambda tau: -likelihood(mu, tau), bounds=(0, 3), method="bounded").fun

    found = binomial_normal(x, n)
    best = likelihood(found.mean, math.sqrt(found.tau2))
    assert best >= max(profile(found.mean - 0.05), profile(found.mean + 0.05))
    most = 4 * math.log(1 + student.ppf(0.975, 3) ** 2 / 3)
    for limit, side in ((found.low, -1), (found.high, 1)):
        other = brentq(lambda mu: 2 * (best - profile(mu)) - most, found.mean, found.mean + 4 * side, xtol=1e-3)
        assert limit == pytest.approx(other, abs=5e-3)


def test_all_or_nothing_is_the_same_upside_down() -> None:
    n = np.array([30.0, 20.0, 25.0])
    full, empty = binomial_normal(n, n), binomial_normal(np.zeros(3), n)
    assert (full.mean, full.high) == (math.inf, math.inf)
    assert (empty.mean, empty.high) == (-math.inf, pytest.approx(-full.low))
    assert full.weights == pytest.approx(n / 75)


def test_design_effect_is_that_of_patients_by_hand() -> None:
    # Three patients of two images: both right, both right, one of two; and three of one image, one wrong.
    first = share_of(np.array([1, 1, 1, 1, 1, 0], dtype=bool), np.array([0, 0, 1, 1, 2, 2]))
    other = share_of(np.array([1, 1, 0], dtype=bool), np.array([4, 7, 9]))
    assert first == (5, 6, 3, 6, pytest.approx(2 * (1 / 3) ** 2 + (2 / 3) ** 2))
    assert other == (2, 3, 3, 0, pytest.approx(2 * (1 / 3) ** 2 + (2 / 3) ** 2))
    # Between patients 3/2 x 2/3 = 1, between images 6/5 x 5/6 = 1: no correlation, and no design effect.
    successes, totals = effective_counts([first, other])
    assert np.array([successes, totals]) == pytest.approx(np.array([[5, 2], [6, 3]]))
    alike = share_of(np.array([1, 1, 1, 1, 0, 0], dtype=bool), np.array([0, 0, 1, 1, 2, 2]))
    assert effective_counts([alike, other])[1] == pytest.approx([3, 3])


def test_patients_count_once_where_nothing_tells_how_alike_their_images_are() -> None:
    perfect = share_of(np.ones(6, dtype=bool), np.array([0, 0, 0, 1, 2, 2]))
    # 3 + 1 + 2 images: 1 + (6 + 0 + 2) / 6.
    assert effective_counts([perfect] * 3)[1] == pytest.approx([6 / (1 + 8 / 6)] * 3)


def test_half_is_added_only_at_the_ends() -> None:
    effects, variances = log_odds(np.array([39.0, 40.0, 0.0]), np.array([40.0, 40.0, 7.0]))
    assert effects == pytest.approx([math.log(39), math.log(81), math.log(1 / 15)])
    assert variances == pytest.approx([1 / 39 + 1, 1 / 40.5 + 2, 2 + 1 / 7.5])


def test_variances_in_closed_form_are_those_of_resampled_patients() -> None:
    labels, scores, clusters = Population().draw(900, np.random.default_rng(4))
    found = probability_effects(labels, scores, clusters)
    errors = (scores - labels) ** 2

    def brier(weights: np.ndarray) -> dict[str, np.ndarray]:
        return {"brier": weights @ errors / weights.sum(axis=1)}

    statistics = [probability_scores(labels, scores), brier]
    resampled = bootstrap(statistics, clusters, resamples=1500, rng=np.random.default_rng(1))
    for name, effect in found.items():
        assert effect.variance == pytest.approx(resampled[name].var(), rel=0.15), name
    whole = statistics[0](np.ones((1, len(labels))))
    assert found["calibration_slope"].value == pytest.approx(whole["calibration_slope"][0])
    assert found["calibration_intercept"].value == pytest.approx(whole["calibration_intercept"][0])


def test_area_is_on_the_logit_scale_with_obuchowski_s_variance() -> None:
    labels, scores, clusters = Population().draw(300, np.random.default_rng(4))
    other = area_intervals(labels, scores, clusters)["obuchowski"]
    effect = area_effect(labels, scores, clusters)
    assert effect is not None
    assert expit(effect.value) == pytest.approx(other["value"])
    assert expit(effect.value + 1.959964 * math.sqrt(effect.variance)) == pytest.approx(other["high"])


def test_perfect_area_is_half_a_pair_away_from_one() -> None:
    labels = np.arange(24) < 10
    effect = area_effect(labels, labels.astype(float), np.arange(24))
    turned = area_effect(labels, 1 - labels.astype(float), np.arange(24))
    assert effect is not None
    assert turned is not None
    assert effect.value == pytest.approx(math.log(279))
    assert (turned.value, turned.variance) == (pytest.approx(-effect.value), pytest.approx(effect.variance))
    # Its interval reaches as low as Newcombe's on the AUROC itself, roughly.
    assert effect.value - 1.96 * math.sqrt(effect.variance) < math.log(1 / (1 - perfect_auroc(10, 14)[0]) - 1)


def simulated(sites: int, patients: int) -> list[Site]:
    rng = np.random.default_rng(0)
    return [site_of(str(number), Cases(*Population().draw(patients, rng), 0.3)) for number in range(sites)]


@pytest.mark.parametrize(("sites", "patients", "cautioned"), [(12, 30, True), (5, 30, False), (12, 120, False)])
def test_areas_of_many_small_sites_are_given_with_a_caution(sites: int, patients: int, cautioned: bool) -> None:
    summary = summarise_sites(simulated(sites, patients))
    assert summary is not None
    assert ("caution" in summary["figures"]["auroc"]) is cautioned
    assert not any("caution" in figure for name, figure in summary["figures"].items() if name != "auroc")


def test_sites_of_few_images_count_with_their_shares_alone() -> None:
    sites = simulated(4, 40)
    small = site_of("small", Cases(*Population().draw(6, np.random.default_rng(1)), 0.3))
    assert small.images < 20
    summary = summarise_sites([*sites, small])
    assert summary is not None
    for name in ("sensitivity", "specificity"):
        assert summary["figures"][name]["sites"][-1]["weight"] > 0
    for name in ("auroc", "brier", "calibration_slope"):
        assert summary["figures"][name]["sites"][-1]["weight"] is None


def test_areas_that_agree_too_well_are_shares_of_comparisons(tmp_path: Path) -> None:
    area, variance = 0.9, 0.05
    pooled = pool_effects(np.full(3, math.log(9)), np.full(3, variance), logit=True)
    comparisons = 1 / (variance * area * (1 - area))
    other = binomial_normal(np.full(3, area * comparisons), np.full(3, comparisons))
    assert (pooled.method, pooled.found[:3]) == (BINOMIAL, pytest.approx(other[:3]))
    assert pool_effects(np.array([1.8, 2.2, 2.6]), np.full(3, variance), logit=True).method == NORMAL
    assert pool_effects(np.full(3, 0.2), np.full(3, variance)).method == NORMAL
    table = hospitals([30, 20, 25], [30, 20, 25]).assign(
        p_malignant=lambda t: np.where(t["label"] == "benign", 0.2, 0.9)
    )
    table["p_benign"] = 1 - table["p_malignant"]
    figures = score(table, tmp_path)["site_summary"]["figures"]
    assert 0.8 < figures["auroc"]["low"] < 0.97


def test_errors_that_are_all_alike_have_no_variance() -> None:
    labels = np.arange(40) < 15
    found = probability_effects(labels, np.where(labels, 0.9, 0.1), np.arange(40))
    assert "brier" not in found
