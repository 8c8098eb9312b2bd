"""The statistics against scikit-learn, scipy and statsmodels, and against what is known of them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from scipy.stats import mannwhitneyu
from sklearn.metrics import average_precision_score, brier_score_loss, log_loss, roc_auc_score

from medsharp.evaluation import auroc, evaluate_predictions
from medsharp.evaluation.calibration import calibration, logit, wilson
from medsharp.evaluation.discrimination import WeightedRanks, precision_recall_curve, roc_curve


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


def test_auroc_of_one_class_is_not_a_number() -> None:
    assert np.isnan(auroc(np.ones(3, dtype=bool), np.arange(3.0)))


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


def test_calibration_equals_logistic_regression_of_statsmodels() -> None:
    labels, scores = sample()
    intercept, slope = calibration(labels, scores, np.ones((1, len(labels))))
    offset = logit(scores)
    large = sm.GLM(labels.astype(float), np.ones(len(labels)), offset=offset, family=sm.families.Binomial()).fit()
    full = sm.Logit(labels.astype(float), sm.add_constant(offset)).fit(disp=0)
    assert intercept[0] == pytest.approx(large.params[0], abs=1e-7)
    assert slope[0] == pytest.approx(full.params[1], abs=1e-6)


def test_calibration_slope_of_separated_classes_does_not_exist() -> None:
    labels = np.array([False] * 10 + [True] * 10)
    _, slope = calibration(labels, np.linspace(0.1, 0.9, 20), np.ones((1, 20)))
    assert np.isnan(slope[0])


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
    for key, figure in one["figures"].items():
        assert figure["low"] <= figure["value"] <= figure["high"], key


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
    assert [entry["group"] for entry in evaluated(table)["subgroups"]] == ["one"]


def test_several_classes_are_scored_against_the_rest() -> None:
    labels, scores = sample(90)
    table = table_of(labels, scores)
    table["p_benign"] /= 2
    table["p_normal"] = table["p_benign"]
    table.loc[table.index[~labels][:20], "label"] = "normal"
    entry = evaluated(table, classes=["benign", "malignant", "normal"])
    assert entry["figures"]["auroc"]["value"] == pytest.approx(roc_auc_score(labels, scores))
    assert entry["counts"]["labels"]["normal"] == 20
