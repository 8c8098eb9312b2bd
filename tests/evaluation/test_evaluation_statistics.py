"""The statistics against scikit-learn, scipy and statsmodels, and against what is known of them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from scipy.stats import mannwhitneyu
from sklearn.metrics import average_precision_score, brier_score_loss, log_loss, roc_auc_score

from medsharp.evaluation import auroc, difference, evaluate_predictions
from medsharp.evaluation.statistics.calibration import logit, recalibrate
from medsharp.evaluation.statistics.decision import net_benefit
from medsharp.evaluation.statistics.discrimination import WeightedRanks, precision_recall_curve, roc_curve
from medsharp.evaluation.statistics.intervals import mover, perfect_auroc, wilson


def sample(size: int = 300, seed: int = 0, ties: bool = False) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.random(size) < 0.35
    scores = 1 / (1 + np.exp(-(rng.normal(size=size) + 1.2 * labels - 0.7)))
    return labels, np.round(scores, 1) if ties else scores


def table_of(labels: np.ndarray, scores: np.ndarray, patients: np.ndarray | None = None) -> pd.DataFrame:
    size = len(labels)
    return pd.DataFrame(
        {
            "image": [f"{number}.png" for number in range(size)],
            "patient": [str(p) for p in (patients if patients is not None else range(size))],
            "label": np.where(labels, "malignant", "benign"),
            "p_benign": 1 - scores,
            "p_malignant": scores,
        }
    )


def evaluated(table: pd.DataFrame, **options: object) -> dict:
    settings = {"classes": ["benign", "malignant"], "positive": "malignant", "threshold": 0.4, "name": "here"}
    return evaluate_predictions(table, **{**settings, **options}).as_dict()  # type: ignore[arg-type]


@pytest.mark.parametrize("ties", [False, True])
def test_auroc_and_average_precision_equal_scikit_learn(ties: bool) -> None:
    labels, scores = sample(ties=ties)
    weights = np.random.default_rng(1).integers(0, 4, size=(5, len(labels))).astype(float)
    ranks = WeightedRanks(labels, scores)
    for row, area, precision in zip(weights, ranks.auroc(weights), ranks.average_precision(weights), strict=True):
        assert area == pytest.approx(roc_auc_score(labels, scores, sample_weight=row), abs=1e-12)
        assert precision == pytest.approx(average_precision_score(labels, scores, sample_weight=row), abs=1e-12)


def test_auroc_is_the_mann_whitney_statistic() -> None:
    labels, scores = sample(ties=True)
    statistic = mannwhitneyu(scores[labels], scores[~labels]).statistic
    assert auroc(labels, scores) == pytest.approx(statistic / (labels.sum() * (~labels).sum()), abs=1e-12)


def test_auroc_of_one_class_or_no_number_is_not_a_number() -> None:
    assert np.isnan(auroc(np.ones(3, dtype=bool), np.arange(3.0)))
    assert np.isnan(auroc(np.array([0, 1]), np.array([np.nan, 1.0])))
    assert np.isnan(auroc(np.array([]), np.array([])))


def test_curves_pass_through_the_operating_points() -> None:
    labels, scores = sample(ties=True)
    false, true = roc_curve(labels, scores)
    recall, precision = precision_recall_curve(labels, scores)
    for threshold in np.unique(scores):
        flagged = scores >= threshold
        point = ((flagged & ~labels).sum() / (~labels).sum(), (flagged & labels).sum() / labels.sum())
        assert any(np.allclose(point, other) for other in zip(false, true, strict=True))
        point = (point[1], (flagged & labels).sum() / flagged.sum())
        assert any(np.allclose(point, other) for other in zip(recall, precision, strict=True))


def test_recalibration_equals_logistic_regression_of_statsmodels_for_every_weighting() -> None:
    labels, scores = sample()
    y, offset = labels.astype(float), logit(scores)
    weights = np.random.default_rng(1).integers(0, 4, size=(4, len(labels))).astype(float)
    fits = recalibrate(labels, scores, weights)
    started = recalibrate(labels, scores, weights, recalibrate(labels, scores, np.ones((1, len(labels)))))
    for row, weight in enumerate(weights):
        settings = {"family": sm.families.Binomial(), "freq_weights": weight}
        large = sm.GLM(y, np.ones(len(y)), offset=offset, **settings).fit()
        full = sm.GLM(y, sm.add_constant(offset), **settings).fit()
        for fit in (fits, started):
            assert fit.in_the_large[row] == pytest.approx(large.params[0], abs=1e-7)
            assert (fit.constant[row], fit.slope[row]) == pytest.approx(tuple(full.params), abs=1e-6)
    plain = sm.Logit(y, sm.add_constant(offset)).fit(disp=0)
    assert recalibrate(labels, scores, np.ones((1, len(y)))).slope[0] == pytest.approx(plain.params[1], abs=1e-6)


def test_recalibration_of_separated_or_equal_scores_does_not_exist() -> None:
    labels = np.array([False] * 10 + [True] * 10)
    assert np.isnan(recalibrate(labels, np.linspace(0.1, 0.9, 20), np.ones((1, 20))).slope[0])
    assert np.isnan(recalibrate(labels, np.full(20, 0.3), np.ones((1, 20))).slope[0])


def test_a_separated_resample_does_not_disturb_the_others() -> None:
    labels, scores = sample(60)
    weights = np.ones((3, 60))
    weights[1] = (labels & (scores > 0.5)) | (~labels & (scores < 0.5))
    slopes = recalibrate(labels, scores, weights).slope
    assert np.isnan(slopes[1])
    assert slopes[0] == slopes[2] == recalibrate(labels, scores, weights[:1]).slope[0]


def test_net_benefit_is_its_definition() -> None:
    labels, scores = sample(ties=True)
    cuts = np.array([0.1, 0.3, 0.5])
    found = net_benefit(cuts)(WeightedRanks(labels, scores).ranking(np.ones((1, len(labels)))))
    for cut, benefit, everyone in zip(cuts, found["net_benefit"][0], found["treat_all"][0], strict=True):
        true, false = ((scores >= cut) & labels).mean(), ((scores >= cut) & ~labels).mean()
        assert benefit == pytest.approx(true - false * cut / (1 - cut))
        assert everyone == pytest.approx(labels.mean() - (1 - labels.mean()) * cut / (1 - cut))


def test_perfect_ranking_has_an_interval_that_narrows_with_the_patients() -> None:
    # The limit solves Newcombe's equation (2006, method 5), written out here for 20 against 30.
    low, high = perfect_auroc(20, 30)
    spread = low * (1 - low) * (1 + 24 * (1 - low) / (2 - low) + 24 * low / (1 + low)) / 600
    assert (1 - low, high) == (pytest.approx(1.959964 * np.sqrt(spread), abs=1e-6), 1.0)
    assert low < perfect_auroc(200, 300)[0] < 1


def test_mover_adds_squares_of_the_distances_on_the_right_sides() -> None:
    assert mover((0.9, 0.86, 0.94), (0.7, 0.67, 0.73)) == pytest.approx((0.15, 0.25))
    expected = (0.4 - np.hypot(0.1, 0.2), 0.4 + np.hypot(0.05, 0.1))
    assert mover((0.9, 0.8, 0.95), (0.5, 0.4, 0.7)) == pytest.approx(expected)


def test_wilson_is_the_published_example() -> None:
    # Newcombe, Statistics in Medicine 17 (1998), table I: 81 of 263 gives 0.2553 to 0.3662.
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)


def test_figures_at_the_threshold_and_scores_equal_scikit_learn() -> None:
    labels, scores = sample()
    figures = {key: figure["value"] for key, figure in evaluated(table_of(labels, scores))["figures"].items()}
    flagged = scores >= 0.4
    assert figures["sensitivity"] == pytest.approx((flagged & labels).sum() / labels.sum())
    assert figures["specificity"] == pytest.approx((~flagged & ~labels).sum() / (~labels).sum())
    assert figures["ppv"] == pytest.approx((flagged & labels).sum() / flagged.sum())
    assert figures["npv"] == pytest.approx((~flagged & ~labels).sum() / (~flagged).sum())
    assert figures["brier"] == pytest.approx(brier_score_loss(labels, scores))
    assert figures["log_loss"] == pytest.approx(log_loss(labels, scores))


def test_same_seed_same_intervals_and_they_hold_the_value() -> None:
    table = table_of(*sample())
    one, two = evaluated(table, resamples=300), evaluated(table, resamples=300)
    assert one == two
    assert evaluated(table, resamples=300, seed=1)["figures"]["auroc"] != one["figures"]["auroc"]
    biased = {"ece", "brier_reliability", "brier_resolution", "ici", "e50", "e90"}
    assert {key for key, figure in one["figures"].items() if figure["low"] is None} == biased
    for key in one["figures"].keys() - biased:
        figure = one["figures"][key]
        assert figure["low"] <= figure["value"] <= figure["high"], key


def test_bootstrap_spread_is_that_of_delong_and_of_the_binomial() -> None:
    labels, scores = sample(400)
    figures = evaluated(table_of(labels, scores), resamples=4000)["figures"]
    wins = (scores[labels][:, None] > scores[~labels]).astype(float)
    delong = wins.mean(axis=1).var(ddof=1) / labels.sum() + wins.mean(axis=0).var(ddof=1) / (~labels).sum()
    share = figures["sensitivity"]["value"]
    for key, variance in (("auroc", delong), ("sensitivity", share * (1 - share) / labels.sum())):
        width = figures[key]["high"] - figures[key]["low"]
        assert width == pytest.approx(2 * 1.96 * np.sqrt(variance), rel=0.07), key


def test_interval_of_many_copies_of_a_patient_is_that_of_the_patients() -> None:
    labels, scores = sample(120)
    once = evaluated(table_of(labels, scores))
    # Each image five times, as a cine loop of the same lesion: no more is known than before.
    five = evaluated(table_of(np.repeat(labels, 5), np.repeat(scores, 5), np.repeat(np.arange(120), 5)))
    as_images = evaluated(table_of(np.repeat(labels, 5), np.repeat(scores, 5)))
    width = {
        name: entry["figures"]["auroc"]["high"] - entry["figures"]["auroc"]["low"]
        for name, entry in {"once": once, "five": five, "as images": as_images}.items()
    }
    assert width["five"] == pytest.approx(width["once"], rel=0.1)
    assert width["as images"] < 0.6 * width["once"]


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    # AUROC of two normal distributions one standard deviation apart: Phi(1 / sqrt 2) = 0.7602.
    covered = 0
    for seed in range(80):
        rng = np.random.default_rng(seed)
        labels = np.arange(120) < 50
        scores = 1 / (1 + np.exp(-(rng.normal(size=120) + labels)))
        figure = evaluated(table_of(labels, scores), resamples=300, seed=seed)["figures"]["auroc"]
        covered += figure["low"] <= 0.7602 <= figure["high"]
    assert 68 <= covered <= 80


def test_perfect_sensitivity_has_wilsons_interval() -> None:
    labels = np.array([True] * 30 + [False] * 30)
    scores = np.where(labels, 0.9, 0.1) + np.linspace(0, 0.05, 60)
    figure = evaluated(table_of(labels, scores))["figures"]["sensitivity"]
    assert (figure["value"], figure["high"]) == (1.0, 1.0)
    assert figure["low"] == pytest.approx(wilson(30, 30)[0])
    assert "Wilson" in figure["method"]


def test_groups_are_resampled_where_patients_are_unknown() -> None:
    table = table_of(*sample(40)).drop(columns="patient")
    table["group"] = [f"group {number // 2}" for number in range(40)]
    assert evaluated(table)["counts"]["clusters"] == 20
    assert not evaluated(table)["counts"]["patients_known"]


def test_subgroups_are_shown_from_twenty_images_of_both_classes_on() -> None:
    table = table_of(*sample(100))
    table["device"] = ["one"] * 70 + ["two"] * 15 + ["three"] * 15
    found = {part["group"]: part for part in evaluated(table, resamples=100)["subgroups"]}
    first = slice(0, 70)
    assert found["one"]["auroc"]["value"] == pytest.approx(
        roc_auc_score(table["label"][first] == "malignant", table["p_malignant"][first])
    )
    assert found["two"]["reason"] == "fewer than 20 images"
    assert "auroc" not in found["three"]


def test_several_classes_are_scored_against_the_rest() -> None:
    labels, scores = sample(90)
    table = table_of(labels, scores)
    table["p_benign"] /= 2
    table["p_normal"] = table["p_benign"]
    table.loc[table.index[~labels][:20], "label"] = "normal"
    entry = evaluated(table, classes=["benign", "malignant", "normal"])
    assert entry["figures"]["auroc"]["value"] == pytest.approx(roc_auc_score(labels, scores))
    assert entry["counts"]["labels"]["normal"] == 20
    chosen = table[["p_benign", "p_malignant", "p_normal"]].to_numpy().argmax(axis=1)
    assert entry["confusion"]["malignant"]["malignant"] == int((labels & (chosen == 1)).sum())
    assert sum(sum(row.values()) for row in entry["confusion"].values()) == 90


def test_perfect_model_gets_closed_intervals_and_reasons_instead_of_certainty() -> None:
    labels = np.arange(60) < 24
    figures = evaluated(table_of(labels, np.where(labels, 0.8, 0.1) + np.linspace(0, 0.05, 60)))["figures"]
    assert figures["auroc"]["value"] == 1.0
    assert figures["auroc"]["low"] < 0.97
    assert "Newcombe" in figures["auroc"]["method"]
    assert figures["balanced_accuracy"]["low"] < 0.95
    assert figures["auprc"]["low"] is None
    assert "resample" in figures["auprc"]["reason"]
    assert "separated" in figures["calibration_slope"]["reason"]


def test_patients_tied_by_near_duplicates_are_resampled_together() -> None:
    table = table_of(*sample(40), np.arange(40) // 2)
    table["group"] = ""
    assert evaluated(table, resamples=50)["counts"]["clusters"] == 20
    table.loc[[0, 39], "group"] = "same lesion"
    counts = evaluated(table, resamples=50)["counts"]
    assert (counts["clusters"], counts["patients"]) == (19, 20)


def test_same_patient_number_at_two_sites_is_two_patients() -> None:
    table = table_of(*sample(40), np.arange(40) // 2)
    table["site"] = ["Cairo", "Rio"] * 20
    assert evaluated(table, resamples=50)["counts"]["clusters"] == 40


def test_change_between_independent_hospitals_has_the_spread_of_both() -> None:
    tables = [table_of(*sample(200, seed)) for seed in (1, 2)]
    both = [
        evaluate_predictions(
            t, classes=["benign", "malignant"], positive="malignant", threshold=0.4, name="same name", role="external"
        )
        for t in tables
    ]
    change = difference(*both)
    variances = sum(e.estimates["auroc"].replicates.var() for e in both)
    assert change["value"] == pytest.approx(
        both[1].as_dict()["figures"]["auroc"]["value"] - both[0].as_dict()["figures"]["auroc"]["value"]
    )
    assert change["high"] - change["low"] == pytest.approx(2 * 1.96 * np.sqrt(variances), rel=0.1)


def test_change_between_data_sets_drawn_alike_takes_them_as_independent() -> None:
    one = evaluate_predictions(
        table_of(*sample(200)), classes=["benign", "malignant"], positive="malignant", threshold=0.4, name="one"
    )
    change = difference(one, one)
    assert change["value"] == 0
    spread = np.sqrt(2) * one.estimates["auroc"].replicates.std()
    assert change["high"] - change["low"] == pytest.approx(2 * 1.96 * spread, rel=0.1)


def test_change_from_a_perfect_share_combines_both_intervals() -> None:
    labels = np.arange(60) < 24
    perfect = evaluate_predictions(
        table_of(labels, np.where(labels, 0.8, 0.1) + np.linspace(0, 0.05, 60)),
        classes=["benign", "malignant"],
        positive="malignant",
        threshold=0.4,
        name="perfect",
    )
    other = evaluate_predictions(
        table_of(*sample(200)), classes=["benign", "malignant"], positive="malignant", threshold=0.4, name="other"
    )
    change = difference(perfect, other, "sensitivity")
    assert "MOVER" in change["method"]
    assert change["low"] < change["value"] < change["high"]
    assert difference(perfect, other, "calibration_slope")["reason"].startswith("perfect: ")


def test_reliability_bins_hold_every_image_once_and_never_split_ties() -> None:
    labels, scores = sample(ties=True)
    bins = evaluated(table_of(labels, scores), resamples=50)["curves"]["reliability"]["bins"]
    assert sum(point["images"] for point in bins) == len(labels)
    mean = sum(point["probability"] * point["images"] for point in bins) / len(labels)
    assert mean == pytest.approx(scores.mean())
    assert len({round(point["probability"], 6) for point in bins}) == len(bins)
    assert all(point["low"] <= point["observed"] <= point["high"] for point in bins)


def test_bands_of_the_curves_hold_the_curves() -> None:
    labels, scores = sample()
    curves = evaluated(table_of(labels, scores), resamples=300)["curves"]
    band, roc = curves["roc"]["band"], curves["roc"]
    inside = np.interp(band["false_positive_rate"], roc["false_positive_rate"], roc["true_positive_rate"])
    assert np.mean((inside >= band["low"]) & (inside <= band["high"])) > 0.95
    benefit = curves["net_benefit"]
    assert np.all(np.array(benefit["low"]) <= benefit["model"])
    assert np.all(np.array(benefit["high"]) >= benefit["model"])
    assert len(roc["threshold"]) == len(roc["true_positive_rate"]) == len(roc["false_positive_rate"])
