"""Prediction sets hold the truth as often as they promise, and say where they do not."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from medsharp.errors import InputError
from medsharp.evaluation import calibrate
from medsharp.evaluation.conformal import assert_other_images


def test_quantile_is_the_ranked_score_of_the_calibration_images(table: Callable) -> None:
    # Nine images; with alpha 0.2 the ceil(10 * 0.8) = 8th smallest of 1 - p_label.
    labels = np.arange(9) < 4
    scores = np.array([0.9, 0.8, 0.3, 0.6, 0.1, 0.2, 0.55, 0.4, 0.05])
    conformal = calibrate(table(labels, scores), ["benign", "malignant"], "c", alpha=0.2)
    missing = np.sort(np.where(labels, 1 - scores, scores))
    assert conformal.marginal == pytest.approx(missing[7])
    assert conformal.labels == {"benign": 5, "malignant": 4}
    # Four malignant images cannot promise 80 %: ceil(5 * 0.8) = 4 can, but 90 % cannot.
    assert conformal.label_conditional[1] == pytest.approx(0.7)
    assert np.isinf(calibrate(table(labels, scores), ["benign", "malignant"], "c", alpha=0.1).label_conditional[1])


def test_sets_cover_new_images_and_each_label_as_often_as_promised(table: Callable) -> None:
    from medsharp.evaluation.statistics.simulated_study import Population

    population = Population(images=1)
    kept: dict[str, list[float]] = {"marginal": [], "benign": [], "malignant": []}
    for seed in range(60):
        rng = np.random.default_rng(seed)
        labels, scores, _ = population.draw(200, rng)
        conformal = calibrate(table(labels, scores), ["benign", "malignant"], "c", alpha=0.1)
        labels, scores, _ = population.draw(2000, rng)
        missing = np.where(labels, 1 - scores, scores)
        kept["marginal"].append((missing <= conformal.marginal).mean())
        for number, name in enumerate(("benign", "malignant")):
            of_label = missing[labels == bool(number)]
            kept[name].append((of_label <= conformal.label_conditional[number]).mean())
    for name, shares in kept.items():
        assert 0.895 < np.mean(shares) < 0.925, name


def test_coverage_is_shown_by_label_and_site_with_intervals(
    study: Callable, table: Callable, evaluated: Callable
) -> None:
    calibration, data = table(*study(200, seed=1)), table(*study(200, seed=2))
    data["site"] = np.where(np.arange(len(data)) % 2 == 0, "Rio", "Cairo")
    conformal = calibrate(calibration, ["benign", "malignant"], "validation")
    found = evaluated(data, conformal=conformal)["conformal"]
    sets = found["label_conditional"]
    limits = np.array([sets["quantiles"]["benign"], sets["quantiles"]["malignant"]])
    inside = 1 - data[["p_benign", "p_malignant"]].to_numpy() <= limits
    place = (data["label"] == "malignant").to_numpy().astype(int)
    covered = inside[np.arange(len(data)), place]
    assert sets["coverage"]["value"] == pytest.approx(covered.mean())
    assert sets["coverage"]["low"] < covered.mean() < sets["coverage"]["high"]
    assert sets["coverage_by_label"]["malignant"]["value"] == pytest.approx(covered[place == 1].mean())
    assert sets["set_size"]["value"] == pytest.approx(inside.sum(axis=1).mean())
    assert sets["single"]["value"] == pytest.approx((inside.sum(axis=1) == 1).mean())
    by_site = {part["site"]: part["value"] for part in sets["by_site"]}
    assert by_site["Rio"] == pytest.approx(covered[(data["site"] == "Rio").to_numpy()].mean())
    assert found["calibration"]["images"] == len(calibration)


def test_calibration_images_that_are_scored_too_are_refused(study: Callable, table: Callable) -> None:
    rows, others = table(*study(40, seed=1)), table(*study(40, seed=2))
    assert_other_images(others, rows, "other.csv", "mine.csv")
    with pytest.raises(InputError, match=r"validation\.csv shares 1 image with mine\.csv"):
        assert_other_images(pd.concat([others, rows.iloc[:1]]), rows, "validation.csv", "mine.csv")


def test_conformal_calibration_of_other_classes_or_a_wrong_alpha_is_a_sentence(
    study: Callable, table: Callable, evaluated: Callable
) -> None:
    data = table(*study(60))
    with pytest.raises(InputError, match="alpha is 1"):
        calibrate(data, ["benign", "malignant"], "c", alpha=1.0)
    three = pd.DataFrame(data).assign(p_normal=0.0)
    conformal = calibrate(three, ["benign", "malignant", "normal"], "c.csv")
    with pytest.raises(InputError, match=r"here has classes benign, malignant, but c\.csv has benign, malignant, n"):
        evaluated(data, conformal=conformal)
