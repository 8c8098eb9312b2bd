"""Predictions of several models in one table: decisions at each image's own threshold, the rest as it is."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit, logit

from medsharp.errors import InputError
from medsharp.evaluation import evaluate_predictions
from medsharp.evaluation.own_thresholds import evaluate_at_own_thresholds
from medsharp.evaluation.statistics.registry import DECIDED

SETTINGS = {"classes": ("benign", "malignant"), "positive": "malignant", "name": "two", "resamples": 200}


def predictions() -> pd.DataFrame:
    """Two hospitals whose models answer on different scales: 0.2 means malignant at A, and benign at B."""
    rng = np.random.default_rng(5)
    rows = []
    for site, shift, threshold, count in (("A", -1.5, 0.2, 90), ("B", 1.0, 0.75, 50)):
        for number in range(count):
            malignant = number % 3 == 0
            odds = shift + (1.0 if malignant else -1.0) + rng.normal()
            share = 1 / (1 + np.exp(-odds))
            rows.append(
                {"image": f"{site}/{number}", "patient": str(number // 2), "site": site, "threshold": threshold}
                | {"label": "malignant" if malignant else "benign", "p_benign": 1 - share, "p_malignant": share}
            )
    return pd.DataFrame(rows)


def test_decisions_are_at_each_images_own_threshold() -> None:
    table = predictions()
    content = evaluate_at_own_thresholds(table, **SETTINGS).as_dict()
    flagged, positive = table["p_malignant"] >= table["threshold"], table["label"] == "malignant"
    figures = content["figures"]
    assert figures["sensitivity"]["value"] == pytest.approx((flagged & positive).sum() / positive.sum())
    assert figures["specificity"]["value"] == pytest.approx((~flagged & ~positive).sum() / (~positive).sum())
    assert figures["ppv"]["value"] == pytest.approx((flagged & positive).sum() / flagged.sum())
    assert figures["sensitivity"]["low"] < figures["sensitivity"]["value"] < figures["sensitivity"]["high"]
    assert content["operating_point"]["true_positives"] == (flagged & positive).sum()
    assert content["failures"]["missed"]["total"] == (~flagged & positive).sum()
    assert content["failures"]["false_alarms"]["total"] == (flagged & ~positive).sum()
    known = dict(zip(table["image"], table["p_malignant"], strict=True))
    for kind in ("missed", "false_alarms"):
        for image in content["failures"][kind]["images"]:
            assert image["probability"] == pytest.approx(known[image["image"]])
    for entry in content["subgroups"]:
        if entry["by"] == "site":
            chosen = (table["site"] == entry["group"]) & positive
            assert entry["sensitivity"]["value"] == pytest.approx(flagged[chosen].mean())
    assert figures["net_benefit_at_threshold"]["value"] is None


def test_ranking_and_calibration_are_of_the_probabilities_as_they_are() -> None:
    table = predictions()
    own = evaluate_at_own_thresholds(table, **SETTINGS).as_dict()["figures"]
    plain = evaluate_predictions(table, threshold=0.5, **SETTINGS).as_dict()["figures"]
    for key in set(plain) - DECIDED:
        assert own[key] == plain[key], key


def test_confidence_is_the_distance_from_the_images_own_threshold() -> None:
    """Scores and thresholds that are moved together by log odds leave the order of confidence as it was."""
    table = predictions()
    before = evaluate_predictions(table, threshold=0.4, **SETTINGS).as_dict()
    moves = np.array([-0.7, 0.0, 1.3])[np.arange(len(table)) % 3]
    share = expit(logit(table["p_malignant"]) + moves)
    moved = table.assign(p_malignant=share, p_benign=1 - share, threshold=expit(logit(0.4) + moves))
    own = evaluate_at_own_thresholds(moved, **SETTINGS).as_dict()
    assert own["figures"]["aurc"]["value"] == pytest.approx(before["figures"]["aurc"]["value"])
    assert own["curves"]["risk_coverage"]["risk"] == pytest.approx(before["curves"]["risk_coverage"]["risk"])


def test_one_threshold_is_evaluated_as_ever() -> None:
    table = predictions().assign(threshold=0.3)
    own = evaluate_at_own_thresholds(table, **SETTINGS).as_dict()
    assert own == evaluate_predictions(table, threshold=0.3, **SETTINGS).as_dict()


def test_scores_and_thresholds_without_odds_decide_as_they_say() -> None:
    table = predictions()
    table.loc[0, ["p_benign", "p_malignant"]] = [0.0, 1.0]
    table.loc[1, ["p_benign", "p_malignant"]] = [1.0, 0.0]
    table.loc[table["site"] == "B", "threshold"] = 0.0
    content = evaluate_at_own_thresholds(table, **SETTINGS).as_dict()
    flagged = table["p_malignant"] >= table["threshold"]
    assert content["operating_point"]["true_positives"] == (flagged & (table["label"] == "malignant")).sum()
    assert content["operating_point"]["false_positives"] == (flagged & (table["label"] != "malignant")).sum()


def test_threshold_that_is_no_probability_is_refused() -> None:
    table = predictions()
    table.loc[3, "threshold"] = np.nan
    with pytest.raises(InputError, match="two: a threshold is not a probability"):
        evaluate_at_own_thresholds(table, **SETTINGS)
